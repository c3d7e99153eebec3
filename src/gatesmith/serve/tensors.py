"""Checked tensors: what a client sent, against what the model's contract says; and raw bytes of tensors that go back.

Nothing is converted silently: a whole number may stand for a float, and that is all. Checks run on types and lengths
in bulk (sets over C-level maps), so a good request of many numbers costs little more than its conversion.
"""

# Ref: Open Inference Protocol v2 "Tensor Data": row-major, nested as the shape or flat; count is the shape's product;
#      FP16 and BF16 have no form in JSON
# Ref: Triton binary tensor data extension: little-endian, BOOL one byte of 0 or 1, BYTES with a 4-byte length each

from __future__ import annotations

import math
import struct
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import TensorMismatch
from gatesmith.serve.raw import array_of_raw
from gatesmith.tensor import Datatype, TensorSpec

__all__ = ["InputTensor", "array_of", "packed", "samples_of"]

_FLOATS = frozenset({Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64})
_RAW_ONLY = frozenset({Datatype.FP16, Datatype.BF16})
_NUMBERS = frozenset({int, float})
_WHOLE = frozenset({int})
_ALLOWED: dict[Datatype, frozenset[type]] = {
    **dict.fromkeys(Datatype, _WHOLE),
    **dict.fromkeys(_FLOATS, _NUMBERS),
    Datatype.BOOL: frozenset({bool}),
    Datatype.BYTES: frozenset({str}),
}
_KINDS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b", "O": "O"}
"""Kinds of arrays that may stand for a kind: as in JSON, whole numbers for floats and nothing else."""
_SMALL = 256
_FEW = 8  # one in so many is worth a look by itself
_LARGEST = {Datatype.FP32: float(np.finfo(np.float32).max), Datatype.FP64: float(np.finfo(np.float64).max)}


class InputTensor(NamedTuple):
    """One input of a request, as it came: ``data`` is a list, nested or flat, raw bytes, or an array."""

    name: str
    datatype: str
    shape: Any
    data: Any


def array_of(spec: TensorSpec, tensor: InputTensor) -> NDArray[Any]:
    """Check a tensor against its spec and make it an array.

    Returns
    -------
    ndarray of the spec's dtype, shape (batch, ...)

    Raises
    ------
    TensorMismatch
        When datatype, shape, number of elements or a value does not fit.
    """
    if tensor.datatype != spec.datatype.value:
        raise _mismatch(spec, f"has datatype {_short(tensor.datatype)}, {spec.datatype.value} is needed")
    shape = _checked_shape(spec, tensor.shape)
    data = tensor.data
    if type(data) is list:
        return _from_json(spec, data, shape)
    if isinstance(data, (bytes, bytearray, memoryview)):
        return _finite(spec, array_of_raw(spec, data, shape))
    if isinstance(data, np.ndarray):
        return _from_array(spec, data, shape)
    raise _mismatch(spec, f"has data of kind {type(data).__name__}, a list is needed")


def samples_of(spec: TensorSpec, samples: list[Any] | NDArray[Any]) -> NDArray[Any]:
    """Check a list with one nested list for each sample, as V1 requests have it, and make it an array.

    Raises
    ------
    TensorMismatch
    """
    shape = [len(samples), *spec.shape[1:]]
    if isinstance(samples, np.ndarray):
        if list(samples.shape) != shape:
            raise _mismatch(spec, f"has samples of shape {list(samples.shape[1:])}, {shape[1:]} is needed")
        return _from_array(spec, samples, shape)
    return _numbers(spec, _flatten(spec, samples, shape), shape)


def _from_json(spec: TensorSpec, data: list[Any], shape: list[int]) -> NDArray[Any]:
    if spec.datatype in _RAW_ONLY:
        raise _mismatch(spec, f"is {spec.datatype.value}, which has no form in JSON; send it as binary data")
    nested = bool(data) and type(data[0]) is list
    return _numbers(spec, _flatten(spec, data, shape) if nested else data, shape)


def _from_array(spec: TensorSpec, data: NDArray[Any], shape: list[int]) -> NDArray[Any]:
    wanted = spec.datatype.dtype
    if data.size != math.prod(shape):
        raise _mismatch(spec, f"holds {data.size} elements, its shape {shape} needs {math.prod(shape)}")
    if data.ndim > 1 and list(data.shape) != shape:
        raise _mismatch(spec, f"is nested as {list(data.shape)}, its shape is {shape}")
    if data.dtype != wanted and data.dtype.kind not in _KINDS[wanted.kind]:
        raise _mismatch(spec, f"holds values of kind {data.dtype}, which are no {spec.datatype.value}")
    with np.errstate(over="ignore"):
        array = data.reshape(shape).astype(wanted, copy=False)
    if wanted.kind in "iu" and not np.array_equal(array, data.reshape(shape)):
        raise _mismatch(spec, f"holds a value out of the range of {spec.datatype.value}")
    return _finite(spec, array)


def _checked_shape(spec: TensorSpec, shape: Any) -> list[int]:
    if type(shape) is list and len(shape) == len(spec.shape) and set(map(type, shape)) == _WHOLE:
        sizes: list[int] = shape
        if sizes[0] >= 0 and tuple(sizes[1:]) == spec.shape[1:]:
            return sizes
    raise _mismatch(spec, f"has shape {_short(shape)}, {list(spec.shape)} is needed (-1: any batch)")


def _flatten(spec: TensorSpec, data: list[Any], shape: list[int]) -> list[Any]:
    if len(data) != shape[0]:
        raise _mismatch(spec, f"nests {len(data)} samples, its shape {shape} needs {shape[0]}")
    for depth, size in enumerate(shape[1:], 1):
        if data and set(map(type, data)) != {list}:
            raise _mismatch(spec, f"is not nested as its shape {shape} at depth {depth}")
        lengths = set(map(len, data))
        if data and lengths != {size}:
            raise _mismatch(spec, f"has lists of {_short(sorted(lengths))} at depth {depth}, {size} is needed")
        data = list(chain.from_iterable(data))
    return data


def _numbers(spec: TensorSpec, flat: list[Any], shape: list[int]) -> NDArray[Any]:
    needed = math.prod(shape)
    if len(flat) != needed:
        raise _mismatch(spec, f"holds {len(flat)} elements, its shape {shape} needs {needed}")
    if len(flat) > _SMALL and spec.datatype in _LARGEST and (values := packed(flat)) is not None:
        with np.errstate(over="ignore"):
            return _finite(spec, values.astype(spec.datatype.dtype).reshape(shape))
    allowed = _ALLOWED[spec.datatype]
    if spec.missing and spec.datatype in _FLOATS and None in flat:
        flat = [math.nan if value is None else value for value in flat]
    if not allowed.issuperset(map(type, flat)):
        place, value = next((i, v) for i, v in enumerate(flat) if type(v) not in allowed)
        raise _mismatch(spec, f"holds {_short(value)} at element {place}, which is no {spec.datatype.value}")
    if spec.datatype is Datatype.BYTES:
        flat = [text.encode() for text in flat]
    if _is_plain(spec.datatype, flat):
        return np.array(flat, dtype=spec.datatype.dtype).reshape(shape)
    try:
        with np.errstate(over="ignore"):
            return _finite(spec, np.array(flat, dtype=spec.datatype.dtype).reshape(shape))
    except (OverflowError, ValueError):
        raise _mismatch(spec, f"holds a value out of the range of {spec.datatype.value}") from None


def packed(flat: list[Any]) -> NDArray[np.float64] | None:
    """A long list of numbers in a fifth of the time, or nothing where a value needs a closer look.

    What is no number cannot be packed; true and false can, as one and zero, so these are looked at.
    """
    try:
        values = np.frombuffer(struct.pack(f"{len(flat)}d", *flat))
    except (struct.error, OverflowError):
        return None
    doubtful = np.flatnonzero((values == 0) | (values == 1)).tolist()
    if len(doubtful) > len(flat) // _FEW or any(type(flat[place]) is bool for place in doubtful):
        return None
    return values


def _is_plain(datatype: Datatype, flat: list[Any]) -> bool:
    """Whether a short list of numbers is seen to be finite without a look at its array: spares 2 us of 4."""
    largest = _LARGEST.get(datatype)
    if largest is None or not 0 < len(flat) <= _SMALL:
        return False
    try:
        return bool(sum(map(abs, flat)) <= largest)
    except OverflowError:
        return False


def _finite(spec: TensorSpec, array: NDArray[Any]) -> NDArray[Any]:
    if spec.datatype not in _FLOATS or (0 < array.size <= _SMALL and math.isfinite(sum(array.ravel().tolist()))):
        return array  # a third of the time of the general way
    if not np.isfinite(array).all() and not (spec.missing and not np.isinf(array).any()):
        raise _mismatch(spec, f"holds a value that is not finite in {spec.datatype.value}")
    return array


def _mismatch(spec: TensorSpec, what: str) -> TensorMismatch:
    return TensorMismatch(f"input {spec.name!r} {what}", tensor=spec.name)


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except RecursionError:
        return "something nested deeply"
    return text if len(text) <= 60 else f"{text[:57]}..."
