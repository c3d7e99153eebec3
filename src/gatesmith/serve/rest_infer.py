"""Inference over REST: Open Inference Protocol v2, and KServe's V1 (``predict``)."""

# Ref: Open Inference Protocol v2, inference_rest.md (bodies, "model_version", "id")
# Ref: KServe V1 protocol: :predict, instances or inputs, predictions or outputs

from __future__ import annotations

import asyncio
import itertools
import secrets
from typing import Any

import numpy as np
import orjson

from gatesmith.errors import TensorMismatch
from gatesmith.serve.bodies import LARGE_BYTES, read_body
from gatesmith.serve.dataplane import DataPlane, Model
from gatesmith.serve.rest_forms import Forms
from gatesmith.serve.rest_http import HttpError, Reply, Request, json_reply
from gatesmith.serve.rest_outputs import infer_reply
from gatesmith.serve.rest_request import InferRequest, read_infer, read_raw
from gatesmith.serve.settings import Settings
from gatesmith.serve.shm import Regions

__all__ = ["Infer", "Predict"]

_LARGE_ITEMS = 32_768


class _Inference:
    """What both protocols have in common."""

    def __init__(self, plane: DataPlane, settings: Settings) -> None:
        self._plane, self._limit_bytes = plane, settings.body_limit_bytes

    def is_prompt(self, request: Request) -> bool:
        """Whether the body is read at once, and the model takes requests: nothing comes before the device's queue."""
        if len(request.body) >= LARGE_BYTES or b"content-encoding" in request.headers:
            return False
        model = self._plane.loader.find(request.names["name"], request.names.get("version"))
        return model is not None and model.ready


class Infer(_Inference):
    """Open Inference Protocol: named tensors in and out."""

    def __init__(self, plane: DataPlane, settings: Settings, regions: Regions) -> None:
        super().__init__(plane, settings)
        self._regions, self._forms = regions, Forms()
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count()

    async def __call__(self, request: Request) -> Reply:
        """One request, whatever form its tensors have."""
        names = request.names
        asked = self._forms.find(request) or await self._read(request)
        model = await self._plane.ready_model(names["name"], names.get("version"))
        answer = await self._plane.infer(
            model,
            asked.inputs,
            [one.name for one in asked.wanted],
            priority=asked.priority,
            timeout_us=asked.timeout_us,
        )
        identity = f"{self._prefix}-{next(self._numbers):x}" if asked.id is None else asked.id
        return await infer_reply(
            model, answer, identity=identity, wanted=asked.wanted, as_binary=asked.binary, regions=self._regions
        )

    async def _read(self, request: Request) -> InferRequest:
        body, names = await read_body(request, self._limit_bytes), request.names
        if body.binary is not None and not body.json:
            model = await self._plane.ready_model(names["name"], names.get("version"))
            return read_raw(model, body.binary, request.headers.get(b"content-type", b""))
        asked = read_infer(body, self._regions)
        self._forms.keep(request, asked)
        return asked


class Predict(_Inference):
    """KServe V1: a list of samples in, a list of predictions out; or columns in and columns out."""

    async def __call__(self, request: Request) -> Reply:
        """``instances``, one value or one object for each sample; or ``inputs``, one list for each tensor."""
        json = (await read_body(request, self._limit_bytes)).json
        if ("instances" in json) == ("inputs" in json):
            raise HttpError(400, "the request needs 'instances', a list, or 'inputs'; one of the two")
        model = await self._plane.ready_model(request.names["name"])
        by_row = "instances" in json
        if by_row and type(json["instances"]) is list and not json["instances"]:
            return json_reply({"predictions": []})
        samples = _columns(model, json["instances"]) if by_row else _named(model, json["inputs"])
        outputs = (await self._plane.infer_samples(model, samples)).outputs
        arrays = {name: np.ascontiguousarray(array) for name, array in outputs.items()}
        if len(arrays) == 1:
            (only,) = arrays.values()
            large = await asyncio.to_thread(_dumps_rows, only) if only.size > _LARGE_ITEMS else only
            return json_reply({"predictions" if by_row else "outputs": large})
        if not by_row:
            return json_reply({"outputs": arrays})
        rows = zip(*arrays.values(), strict=True)
        return json_reply({"predictions": [dict(zip(arrays, row, strict=True)) for row in rows]})


def _columns(model: Model, instances: Any) -> dict[str, Any]:
    """Samples by input, of a list by sample."""
    if isinstance(instances, np.ndarray):
        return {_only_input(model): instances}
    if type(instances) is not list:
        raise HttpError(400, "the request needs 'instances', a list")
    if set(map(type, instances)) == {dict}:
        names = instances[0].keys()
        if any(instance.keys() != names for instance in instances):
            raise TensorMismatch("instances name different inputs; every instance needs the same")
        return {name: [instance[name] for instance in instances] for name in names}
    return {_only_input(model): instances}


def _named(model: Model, inputs: Any) -> dict[str, Any]:
    """Samples by input, of an object with one list for each, or of the only input's list."""
    columns = inputs if type(inputs) is dict else {_only_input(model): inputs}
    for name, samples in columns.items():
        if type(samples) is not list:
            raise HttpError(
                400, f"input {name[:80]!r} is of kind {type(samples).__name__}, a list of samples is needed"
            )
    return columns


def _only_input(model: Model) -> str:
    if len(model.inputs) > 1:
        raise TensorMismatch(
            f"model {model.name} has inputs {list(model.inputs)}; give every instance as an object with these names"
        )
    return next(iter(model.inputs))


def _dumps_rows(array: np.ndarray[Any, Any]) -> orjson.Fragment:
    """A large array of rows as JSON, row by row, for a thread."""
    rows = array.reshape(len(array), -1)
    return orjson.Fragment(b"[" + b",".join(map(_dumps_row, rows.reshape(array.shape))) + b"]")


def _dumps_row(row: Any) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)
