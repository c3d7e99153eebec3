"""ModelInfer: a request's tensors in, an answer's tensors out, in whichever of the protocol's three forms.

Tensors come and go as raw bytes, as typed contents, or in shared memory. Raw is all or nothing; an answer has the form
of its request. Whether tensors fit the model is the dataplane's to say.
"""

# Ref: Open Inference Protocol v2, inference_grpc.md: InferTensorContents by datatype; raw_input_contents and contents
#      exclude each other; FP16 and BF16 are raw only
# Ref: Triton extensions: schedule_policy (priority, timeout in us), classification, shared memory parameters;
#      raw_output_contents has one item for each output, empty for those in shared memory

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from gatesmith.errors import GatesmithError, TensorMismatch
from gatesmith.oip.schema import Message, message
from gatesmith.serve.classes import class_texts
from gatesmith.serve.dataplane import DataPlane, Model
from gatesmith.serve.deployment import Answer
from gatesmith.serve.grpc.calls import Call, Conversation
from gatesmith.serve.grpc.messages import RpcError, parsed
from gatesmith.serve.raw import raw_of
from gatesmith.serve.shm import Regions
from gatesmith.serve.tensors import InputTensor
from gatesmith.tensor import Datatype

__all__ = ["Inference"]

_WHOLE_32 = ("INT8", "INT16", "INT32")
_NATURAL_32 = ("UINT8", "UINT16", "UINT32")
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(_WHOLE_32, "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(_NATURAL_32, "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_MOST_US = 1 << 62


class _Part(NamedTuple):
    """A part of shared memory."""

    region: str
    offset: int
    byte_size: int


class _Wanted(NamedTuple):
    """An output that is asked for."""

    name: str
    classes: int
    part: _Part | None


class Inference:
    """ModelInfer and ModelStreamInfer."""

    def __init__(self, plane: DataPlane, regions: Regions) -> None:
        self._plane, self._regions = plane, regions
        self._request, self._response = message("ModelInferRequest"), message("ModelInferResponse")
        self._streamed = message("ModelStreamInferResponse")
        self._prefix, self._numbers = secrets.token_hex(6), itertools.count()

    async def infer(self, data: bytes, call: Call) -> bytes:
        """One request."""
        answer: bytes = (await self._answer(parsed(self._request, data), call)).SerializeToString()
        return answer

    async def stream(self, conversation: Conversation, call: Call) -> None:
        """Request after request on one stream; one that fails says so in its answer, and the stream goes on."""
        async for data in conversation.messages:
            request = parsed(self._request, data)
            try:
                answer = self._streamed(infer_response=await self._answer(request, call))
            except (GatesmithError, RpcError) as error:
                answer = self._streamed(error_message=str(error))
                answer.infer_response.id = request.id
            await conversation.send(answer.SerializeToString())

    async def _answer(self, request: Message, call: Call) -> Message:
        priority, timeout_us = _schedule(request.parameters) if request.parameters else (0, 0)
        left_us = call.remaining_us()
        if left_us:
            timeout_us = min(timeout_us or _MOST_US, left_us)
        model = await self._plane.ready_model(request.model_name, request.model_version or None)
        wanted = [_wanted(output) for output in request.outputs]
        answer = await self._plane.infer(
            model,
            list(self._inputs(request)),
            [output.name for output in wanted],
            priority=priority,
            timeout_us=timeout_us,
        )
        return self._written(request, model, answer, wanted)

    def _inputs(self, request: Message) -> Iterator[InputTensor]:
        raw = iter(request.raw_input_contents)
        is_raw = len(request.raw_input_contents) > 0
        for tensor in request.inputs:
            part = _part(tensor.parameters) if tensor.parameters else None
            data: Any
            if part:
                if tensor.HasField("contents"):
                    raise TensorMismatch(f"input {tensor.name!r} has contents and shared memory; send one of them")
                data = self._regions.read(*part)
            elif is_raw:
                data = _next(raw, tensor)
            else:
                data = _contents(tensor)
            yield InputTensor(tensor.name, tensor.datatype, list(tensor.shape), data)
        if next(raw, None) is not None:
            raise TensorMismatch(
                f"the request has {len(request.raw_input_contents)} raw_input_contents for fewer inputs; "
                "inputs in shared memory have none"
            )

    def _written(self, request: Message, model: Model, answer: Answer, wanted: Sequence[_Wanted]) -> Message:
        identity = request.id or f"{self._prefix}-{next(self._numbers):x}"
        response = self._response(model_name=model.name, model_version=model.version, id=identity)
        for key, value in answer.parameters.items():
            _set_parameter(response.parameters, key, value)
        specs = model.outputs
        plain = _is_plain(request) and all(specs[name].datatype in _CONTENTS for name in answer.outputs)
        asked = {output.name: output for output in wanted}
        for name, array in answer.outputs.items():
            datatype, (_, classes, part) = specs[name].datatype, asked.get(name, _Wanted(name, 0, None))
            values = array
            if classes:
                datatype, values = Datatype.BYTES, _classified(model, name, array, classes)
            output = response.outputs.add(name=name, datatype=datatype.value, shape=values.shape)
            if plain and not part:
                getattr(output.contents, _CONTENTS[datatype]).extend(values.reshape(-1).tolist())
                continue
            raw = raw_of(datatype, values)
            if part:
                self._place(output, part, raw)
                raw = b""
            if not plain:
                response.raw_output_contents.append(raw)
        return response

    def _place(self, output: Message, part: _Part, raw: bytes) -> None:
        if len(raw) > part.byte_size:
            raise TensorMismatch(
                f"output {output.name!r} has {len(raw)} bytes, its part of shared memory has {part.byte_size}",
                tensor=output.name,
            )
        self._regions.write(part.region, part.offset, raw)
        _set_parameter(output.parameters, "shared_memory_region", part.region)
        _set_parameter(output.parameters, "shared_memory_byte_size", len(raw))
        if part.offset:
            _set_parameter(output.parameters, "shared_memory_offset", part.offset)


def _is_plain(request: Message) -> bool:
    """Whether the request had contents, so that the answer has them too."""
    return not request.raw_input_contents and any(tensor.HasField("contents") for tensor in request.inputs)


def _next(raw: Iterator[bytes], tensor: Message) -> bytes:
    if tensor.HasField("contents"):
        raise TensorMismatch(
            f"input {tensor.name!r} has contents beside raw_input_contents; send all in one of the forms"
        )
    data = next(raw, None)
    if data is None:
        raise TensorMismatch(f"input {tensor.name!r} has no item in raw_input_contents; send one for each input")
    return data


def _contents(tensor: Message) -> list[Any]:
    field = _CONTENTS.get(tensor.datatype)
    others = [given.name for given, _ in tensor.contents.ListFields() if given.name != field]
    if others:
        needed = f"{field} is needed" if field else "raw_input_contents are needed"
        raise TensorMismatch(f"input {tensor.name!r} of {tensor.datatype[:20]} has {others[0]}, {needed}")
    return list(getattr(tensor.contents, field)) if field else []


def _value(parameter: Message) -> Any:
    chosen = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, chosen) if chosen else None


def _number(parameters: Mapping[str, Message], name: str) -> int:
    if name not in parameters:
        return 0
    value = _value(parameters[name])
    if type(value) is not int or value < 0:
        raise TensorMismatch(f"parameter {name!r} is {str(value)[:40]!r}, a whole number of 0 or more is needed")
    return value


def _schedule(parameters: Mapping[str, Message]) -> tuple[int, int]:
    if "sequence_id" in parameters and _value(parameters["sequence_id"]) not in (0, "", None):
        raise TensorMismatch("sequences are not kept: the models have no state between requests; leave out sequence_id")
    return _number(parameters, "priority"), _number(parameters, "timeout")


def _part(parameters: Mapping[str, Message]) -> _Part | None:
    if "shared_memory_region" not in parameters:
        return None
    region = _value(parameters["shared_memory_region"])
    if type(region) is not str:
        raise TensorMismatch("parameter 'shared_memory_region' is no string")
    return _Part(region, _number(parameters, "shared_memory_offset"), _number(parameters, "shared_memory_byte_size"))


def _wanted(output: Message) -> _Wanted:
    if not output.parameters:
        return _Wanted(output.name, 0, None)
    return _Wanted(output.name, _number(output.parameters, "classification"), _part(output.parameters))


def _set_parameter(parameters: Any, name: str, value: object) -> None:
    field = "bool_param" if isinstance(value, bool) else "int64_param" if isinstance(value, int) else "string_param"
    setattr(parameters[name], field, value if field != "string_param" else str(value))


def _classified(model: Model, name: str, array: NDArray[Any], classes: int) -> NDArray[Any]:
    port = next(port for port in model.firmware.contract.outputs if port.spec.name == name)
    return class_texts(port, array, classes)
