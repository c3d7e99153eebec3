"""Answers of inference: numbers in JSON, binary data behind it, classes, or a client's shared memory."""

# Ref: Open Inference Protocol v2, inference_rest.md "Inference Response JSON Object"
# Ref: Triton binary_tensor_data (binary_data_size in answers)

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from numpy.typing import NDArray

from gatesmith.errors import TensorMismatch
from gatesmith.serve.bodies import HEADER_LENGTH
from gatesmith.serve.classes import class_texts
from gatesmith.serve.dataplane import Answer, Model
from gatesmith.serve.raw import raw_of
from gatesmith.serve.rest_http import Reply
from gatesmith.serve.rest_large import dumps_in_slices
from gatesmith.serve.rest_request import Part, Wanted
from gatesmith.serve.shm import Regions
from gatesmith.tensor import Datatype

__all__ = ["infer_reply"]

_BINARY = b"application/octet-stream"
_RAW_ONLY = frozenset({Datatype.FP16, Datatype.BF16})
_LARGE_ITEMS = 32_768


async def infer_reply(
    model: Model, answer: Answer, *, identity: str, wanted: Sequence[Wanted], as_binary: bool, regions: Regions
) -> Reply:
    """The whole answer; ``as_binary`` says which form all outputs are to have where none is named in ``wanted``.

    Raises
    ------
    TensorMismatch
        When an output has no form in JSON, or does not fit its region.
    """
    content: dict[str, Any] = {"model_name": model.name, "model_version": model.version, "id": identity}
    if answer.parameters:
        content["parameters"] = dict(answer.parameters)
    blobs: list[bytes] = []
    if wanted:
        content["outputs"] = [await _output(model, answer.outputs, one, blobs, regions) for one in wanted]
    elif as_binary:
        content["outputs"] = [
            _binary(name, model.outputs[name].datatype, array, blobs) for name, array in answer.outputs.items()
        ]
    else:
        content["outputs"] = [await _numbers(model, name, array) for name, array in answer.outputs.items()]
    json = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    if not blobs:
        return Reply(json)
    return Reply(b"".join([json, *blobs]), 200, _BINARY, ((HEADER_LENGTH, b"%d" % len(json)),))


def _binary(name: str, datatype: Datatype, array: NDArray[Any], blobs: list[bytes]) -> dict[str, Any]:
    blob = raw_of(datatype, array)
    blobs.append(blob)
    return {
        "name": name,
        "datatype": datatype,
        "shape": array.shape,
        "parameters": {"binary_data_size": len(blob)},
    }


async def _numbers(model: Model, name: str, array: NDArray[Any]) -> dict[str, Any]:
    datatype = model.outputs[name].datatype
    if datatype in _RAW_ONLY:
        raise TensorMismatch(f"output {name!r} is {datatype.value}, which has no form in JSON; ask for binary_data")
    data: Any = array.reshape(-1)
    if array.size > _LARGE_ITEMS:
        data = orjson.Fragment(await asyncio.to_thread(dumps_in_slices, data))
    return {"name": name, "datatype": datatype, "shape": array.shape, "data": data}


async def _output(
    model: Model, outputs: Mapping[str, NDArray[Any]], one: Wanted, blobs: list[bytes], regions: Regions
) -> dict[str, Any]:
    array, datatype = outputs[one.name], model.outputs[one.name].datatype
    if one.classes:
        port = next(port for port in model.firmware.contract.outputs if port.spec.name == one.name)
        array, datatype = await asyncio.to_thread(class_texts, port, array, one.classes), Datatype.BYTES
    elif not one.binary and one.part is None:
        return await _numbers(model, one.name, array)
    if one.binary:
        return _binary(one.name, datatype, array, blobs)
    content: dict[str, Any] = {"name": one.name, "datatype": datatype, "shape": array.shape}
    if one.part is not None:
        content["parameters"] = _into_region(one.name, one.part, raw_of(datatype, array), regions)
    else:
        content["data"] = [text.decode() for text in array.reshape(-1)]
    return content


def _into_region(name: str, part: Part, raw: bytes, regions: Regions) -> dict[str, Any]:
    region, offset, byte_size = part
    if len(raw) > byte_size:
        raise TensorMismatch(
            f"output {name!r} has {len(raw)} bytes, {byte_size} of region {region!r} are given for it",
            tensor=name,
        )
    regions.write(region, offset, raw)
    parameters: dict[str, Any] = {"shared_memory_region": region, "shared_memory_byte_size": len(raw)}
    return {**parameters, "shared_memory_offset": offset} if offset else parameters
