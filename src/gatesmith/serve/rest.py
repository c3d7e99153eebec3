"""The REST door: Open Inference Protocol v2 and KServe's V1, as thin as it goes.

Inference endpoints are plain ASGI callables, which spares a request and a response object for each call. What a body
means is read here; whether it fits the model is the dataplane's to say.
"""

# Ref: Open Inference Protocol v2, inference_rest.md (paths, bodies, "model_version", "parameters")
# Ref: KServe V1 protocol: :predict, instances, predictions

from __future__ import annotations

import itertools
import secrets
from typing import Any

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from gatesmith.errors import GatesmithError, ModelNotReady, TensorMismatch
from gatesmith.serve.bodies import Disconnected, JsonAnswer, read_json, send_json
from gatesmith.serve.dataplane import DataPlane, Model
from gatesmith.serve.deployment import Tensors
from gatesmith.serve.errors import http_status
from gatesmith.serve.settings import Settings
from gatesmith.serve.tensors import InputTensor

__all__ = ["routes"]


def routes(plane: DataPlane, settings: Settings) -> list[BaseRoute]:
    """All REST routes, the busiest first."""
    infer, predict = _Infer(plane, settings), _Predict(plane, settings)
    door = _Metadata(plane)
    model = "/v2/models/{name}"
    version = f"{model}/versions/{{version}}"
    return [
        Route(f"{model}/infer", infer),
        Route(f"{version}/infer", infer),
        Route("/v1/models/{name}:predict", predict),
        Route("/v2/health/live", door.live),
        Route("/v2/health/ready", door.ready),
        Route(f"{model}/ready", door.model_ready),
        Route(f"{version}/ready", door.model_ready),
        Route(model, door.model),
        Route(version, door.model),
        Route("/v2", door.server),
        Route("/v2/", door.server),
        Route("/v1/models", door.models),
        Route("/v1/models/{name}", door.model_ready),
    ]


class _Endpoint:
    """Body in, answer out; a subclass says what is between."""

    def __init__(self, plane: DataPlane, settings: Settings) -> None:
        self.plane, self._settings = plane, settings

    async def answer(self, model: Model, body: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":  # here and not in the route, so that no later route takes V1's path for a name
            raise HTTPException(405, headers={"allow": "POST"})
        limit, time = self._settings.body_limit_bytes, self._settings.body_timeout_s
        path: dict[str, str] = scope["path_params"]
        try:
            body = await read_json(scope, receive, limit_bytes=limit, timeout_s=time)
            answer = await self.answer(await self.plane.ready_model(path["name"], path.get("version")), body)
        except GatesmithError as error:
            await send_json(send, {"error": str(error)}, status=http_status(error))
        except Disconnected:
            return
        else:
            await send_json(send, answer)


class _Infer(_Endpoint):
    """Open Inference Protocol: named tensors in and out."""

    def __init__(self, plane: DataPlane, settings: Settings) -> None:
        super().__init__(plane, settings)
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count()

    async def answer(self, model: Model, body: dict[str, Any]) -> dict[str, Any]:
        """Read a request's tensors and write those of the answer."""
        identity = body.get("id")
        if identity is None:
            identity = f"{self._prefix}-{next(self._numbers):x}"
        elif type(identity) is not str:
            raise TensorMismatch(f"the request's id is of kind {type(identity).__name__}, a string is needed")
        inputs = [_input(item) for item in _list_of(body, "inputs")]
        wanted = [_name(item) for item in _list_of(body, "outputs")] if body.get("outputs") else []
        outputs = (await self.plane.infer(model, inputs, wanted)).outputs
        specs = model.outputs
        return {
            "model_name": model.name,
            "model_version": model.version,
            "id": identity,
            "outputs": [
                {"name": name, "datatype": specs[name].datatype, "shape": array.shape, "data": array.reshape(-1)}
                for name, array in outputs.items()
            ],
        }


class _Predict(_Endpoint):
    """KServe V1: a list of samples in, a list of predictions out."""

    async def answer(self, model: Model, body: dict[str, Any]) -> dict[str, Any]:
        """Read instances, one value or one object for each sample, and write predictions the same way."""
        instances = _list_of(body, "instances")
        if not instances:
            model.check_ready()
            return {"predictions": []}
        answer = await self.plane.infer_samples(model, _columns(model, instances))
        return {"predictions": _predictions(answer.outputs)}


class _Metadata:
    """Everything that is asked with GET."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def live(self, _request: Request) -> JsonAnswer:
        """Whether the process answers at all."""
        return JsonAnswer({"live": True})

    async def ready(self, _request: Request) -> JsonAnswer:
        """Whether every model can answer."""
        if self._plane.ready:
            return JsonAnswer({"ready": True})
        waiting = [name for name in self._plane.names if not self._plane.model(name).ready]
        return JsonAnswer({"ready": False, "error": f"models {waiting} are not ready"}, status_code=503)

    async def server(self, _request: Request) -> JsonAnswer:
        """Name, version and extensions."""
        return JsonAnswer(self._plane.metadata())

    async def models(self, _request: Request) -> JsonAnswer:
        """V1's list of names."""
        return JsonAnswer({"models": self._plane.names})

    async def model(self, request: Request) -> JsonAnswer:
        """Tensors and facts of a model."""
        return JsonAnswer(self._find(request).metadata())

    async def model_ready(self, request: Request) -> JsonAnswer:
        """Whether one model can answer; V1 and V2 have the same form."""
        model = self._find(request)
        try:
            model.check_ready()
        except ModelNotReady as error:
            return JsonAnswer({"name": model.name, "ready": False, "error": str(error)}, status_code=http_status(error))
        return JsonAnswer({"name": model.name, "ready": True})

    def _find(self, request: Request) -> Model:
        return self._plane.model(request.path_params["name"], request.path_params.get("version"))


def _list_of(body: dict[str, Any], key: str) -> list[Any]:
    value = body.get(key)
    if type(value) is not list:
        raise HTTPException(400, f"the request needs {key!r}, a list")
    return value


def _input(item: Any) -> InputTensor:
    if type(item) is not dict:
        raise HTTPException(400, "an input is an object with name, datatype, shape and data")
    try:
        return InputTensor(item["name"], item["datatype"], item["shape"], item["data"])
    except KeyError as error:
        parameters = item.get("parameters")
        if type(parameters) is dict and "binary_data_size" in parameters:
            raise HTTPException(400, "binary tensors are not read; send tensor data as JSON") from None
        raise HTTPException(400, f"an input lacks {error}; it needs name, datatype, shape and data") from None


def _name(item: Any) -> str:
    name = item.get("name") if type(item) is dict else None
    if type(name) is not str:
        raise HTTPException(400, "a requested output is an object with a name")
    return name


def _columns(model: Model, instances: list[Any]) -> dict[str, list[Any]]:
    kinds = set(map(type, instances))
    if kinds == {dict}:
        names = instances[0].keys()
        if any(instance.keys() != names for instance in instances):
            raise TensorMismatch("instances name different inputs; every instance needs the same")
        return {name: [instance[name] for instance in instances] for name in names}
    if len(model.inputs) > 1:
        raise TensorMismatch(
            f"model {model.name} has inputs {list(model.inputs)}; give every instance as an object with these names"
        )
    return {next(iter(model.inputs)): instances}


def _predictions(outputs: Tensors) -> Any:
    arrays = [np.ascontiguousarray(array) for array in outputs.values()]
    if len(arrays) == 1:
        return arrays[0]
    return [dict(zip(outputs, rows, strict=True)) for rows in zip(*arrays, strict=True)]
