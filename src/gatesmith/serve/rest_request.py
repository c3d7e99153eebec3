"""What an inference request of the protocol says: inputs, wanted outputs and their forms, how it is to be scheduled.

Only the request's own form is checked here; whether it fits the model is the dataplane's to say.
"""

# Ref: Open Inference Protocol v2, inference_rest.md "Inference Request JSON Object"
# Ref: Triton extensions binary_tensor_data, schedule_policy, classification, system_shared_memory, sequence

from __future__ import annotations

from typing import Any, NamedTuple

from gatesmith.serve.bodies import Body
from gatesmith.serve.dataplane import Model
from gatesmith.serve.raw import item_bytes
from gatesmith.serve.rest_http import HttpError
from gatesmith.serve.shm import Regions
from gatesmith.serve.tensors import InputTensor
from gatesmith.tensor import Datatype

__all__ = ["InferRequest", "Part", "Wanted", "list_of", "read_infer", "read_raw"]

_MOST_TENSORS = 1024
_MOST_US = (1 << 63) - 1
_MISSING = "an input lacks {}; it needs name, datatype, shape and data"


class Part(NamedTuple):
    """A place in a shared memory region."""

    region: str
    offset: int
    byte_size: int


class Wanted(NamedTuple):
    """One output and the form it is wanted in: numbers in JSON unless something else is set."""

    name: str
    binary: bool = False
    classes: int = 0
    part: Part | None = None


class InferRequest(NamedTuple):
    """A request as it was read."""

    id: str | None
    inputs: list[InputTensor]
    wanted: list[Wanted]
    binary: bool = False  # the form of outputs that are not named
    priority: int = 0
    timeout_us: int = 0


def read_infer(body: Body, regions: Regions) -> InferRequest:
    """Read a request.

    Raises
    ------
    HttpError
    TensorMismatch
        When a shared memory region cannot be read.
    """
    json, binary = body
    identity = json.get("id")
    if identity is not None and type(identity) is not str:
        raise HttpError(400, f"the request's id is of kind {type(identity).__name__}, a string is needed")
    items = list_of(json, "inputs")
    if len(items) > _MOST_TENSORS:
        raise HttpError(400, f"the request has {len(items)} inputs, at most {_MOST_TENSORS} are read")
    if binary is None and len(items) == 1 and type(items[0]) is dict and "parameters" not in items[0]:
        inputs = [_plain(items[0])]  # nearly every request: spares the bookkeeping below
    else:
        inputs = _Inputs(binary, regions).read(items)
    parameters = _parameters(json, "the request")
    as_binary = _truth(parameters, "binary_data_output")
    wanted = [_wanted(item, as_binary) for item in list_of(json, "outputs")] if json.get("outputs") is not None else []
    if not parameters:
        return InferRequest(identity, inputs, wanted)
    _refuse_sequences(parameters)
    priority, timeout = _whole(parameters, "priority"), _whole(parameters, "timeout")
    return InferRequest(identity, inputs, wanted, as_binary, priority, timeout)


def read_raw(model: Model, binary: memoryview, content_type: bytes) -> InferRequest:
    """Read a request that is nothing but the bytes of a model's only input; the answer is binary too.

    Raises
    ------
    HttpError
    """
    # Ref: Triton binary tensor data extension "Raw Binary Request"
    if content_type.startswith(b"application/json"):
        raise HttpError(400, "the body is JSON by its type and has none by Inference-Header-Content-Length")
    if len(model.inputs) != 1:
        raise HttpError(400, f"model {model.name} has inputs {list(model.inputs)}, raw requests need just one")
    (spec,) = model.inputs.values()
    sample = item_bytes(spec.datatype)
    for size in spec.shape[1:]:
        sample *= size
    if spec.datatype is Datatype.BYTES or not binary or len(binary) % sample:
        raise HttpError(400, f"the body has {len(binary)} bytes, input {spec.name!r} has {sample} for each sample")
    shape = [len(binary) // sample, *spec.shape[1:]]
    return InferRequest(None, [InputTensor(spec.name, spec.datatype.value, shape, binary)], [], True)


def list_of(json: dict[str, Any], key: str) -> list[Any]:
    """A member that must be a list.

    Raises
    ------
    HttpError
    """
    value = json.get(key)
    if type(value) is not list:
        raise HttpError(400, f"the request needs {key!r}, a list")
    return value


class _Inputs:
    """Reads inputs one after the other; their binary data follow each other in the body."""

    def __init__(self, binary: memoryview | None, regions: Regions) -> None:
        self._binary, self._regions = binary, regions
        self._place = 0

    def read(self, items: list[Any]) -> list[InputTensor]:
        inputs = [self._input(item) for item in items]
        if self._binary is not None and self._place != len(self._binary):
            raise HttpError(
                400, f"the body has {len(self._binary)} bytes of binary data, its inputs name {self._place}"
            )
        return inputs

    def _input(self, item: Any) -> InputTensor:
        parameters = _parameters(item, "an input") if type(item) is dict else {}
        size, part = parameters.get("binary_data_size"), _part(parameters)
        if size is None and part is None:
            return _plain(item)
        try:
            name, datatype, shape = item["name"], item["datatype"], item["shape"]
        except KeyError as error:
            raise HttpError(400, _MISSING.format(error)) from None
        if "data" in item or (size is not None and part is not None):
            raise HttpError(400, f"input {str(name)[:80]!r} has its data in two places")
        data = self._regions.read(*part) if part is not None else self._next(_whole(parameters, "binary_data_size"))
        return InputTensor(name, datatype, shape, data)

    def _next(self, size: int) -> memoryview:
        if self._binary is None:
            raise HttpError(400, "binary data needs the header Inference-Header-Content-Length")
        start, self._place = self._place, self._place + size
        if self._place > len(self._binary):
            raise HttpError(400, f"the body has {len(self._binary)} bytes of binary data, {self._place} are needed")
        return self._binary[start : self._place]


def _plain(item: Any) -> InputTensor:
    if type(item) is not dict:
        raise HttpError(400, "an input is an object with name, datatype, shape and data")
    try:
        return InputTensor(item["name"], item["datatype"], item["shape"], item["data"])
    except KeyError as error:
        raise HttpError(400, _MISSING.format(error)) from None


def _wanted(item: Any, as_binary: bool) -> Wanted:
    name = item.get("name") if type(item) is dict else None
    if type(name) is not str:
        raise HttpError(400, "a requested output is an object with a name")
    parameters = _parameters(item, f"output {name[:80]!r}")
    if not parameters:
        return Wanted(name, as_binary)
    classes, part = _whole(parameters, "classification"), _part(parameters)
    if "classification" in parameters and not classes:
        raise HttpError(400, f"output {name[:80]!r} wants 0 classes, at least 1 is needed")
    if part is not None and parameters.get("binary_data"):
        raise HttpError(400, f"output {name[:80]!r} is wanted in two places")
    binary = _truth(parameters, "binary_data") if "binary_data" in parameters else as_binary
    return Wanted(name, binary and part is None, classes, part)


def _part(parameters: dict[str, Any]) -> Part | None:
    region = parameters.get("shared_memory_region")
    if region is None:
        return None
    if type(region) is not str:
        raise HttpError(400, f"shared_memory_region is of kind {type(region).__name__}, a string is needed")
    if "shared_memory_byte_size" not in parameters:
        raise HttpError(400, f"region {region[:80]!r} is named without shared_memory_byte_size")
    return Part(region, _whole(parameters, "shared_memory_offset"), _whole(parameters, "shared_memory_byte_size"))


def _parameters(owner: dict[str, Any], whose: str) -> dict[str, Any]:
    value = owner.get("parameters")
    if value is None:
        return {}
    if type(value) is not dict:
        raise HttpError(400, f"{whose} has parameters of kind {type(value).__name__}, an object is needed")
    return value


def _whole(parameters: dict[str, Any], name: str) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or not 0 <= value <= _MOST_US:
        raise HttpError(400, f"parameter {name} is {str(value)[:40]}, a whole number from 0 on is needed")
    return value


def _truth(parameters: dict[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if type(value) is not bool:
        raise HttpError(400, f"parameter {name} is {str(value)[:40]}, true or false is needed")
    return value


def _refuse_sequences(parameters: dict[str, Any]) -> None:
    if parameters.get("sequence_id") not in (None, 0, ""):
        raise HttpError(400, "sequences are not kept: the models have no state between requests; leave out sequence_id")
