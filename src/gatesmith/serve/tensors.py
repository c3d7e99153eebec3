"""Checked tensors: what a client sent, against what the model's contract says.

Nothing is converted silently: a whole number may stand for a float, and that is all. Checks run on types and lengths
in bulk (sets over C-level maps), so a good request of many numbers costs little more than its conversion.
"""

# Ref: Open Inference Protocol v2 "Tensor Data": row-major, nested as the shape or flat; count is the shape's product

from __future__ import annotations

import math
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import TensorMismatch
from gatesmith.tensor import Datatype, TensorSpec

__all__ = ["InputTensor", "array_of", "samples_of"]

_FLOATS = frozenset({Datatype.FP16, Datatype.FP32, Datatype.FP64})
_NUMBERS = frozenset({int, float})
_WHOLE = frozenset({int})
_TRUTH = frozenset({bool})


class InputTensor(NamedTuple):
    """One input of a request, as it came: ``data`` is a list, nested or flat, or an array."""

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
    if isinstance(data, np.ndarray):
        if data.size != math.prod(shape):
            raise _mismatch(spec, f"holds {data.size} elements, its shape {shape} needs {math.prod(shape)}")
        return _finite(spec, data.reshape(shape).astype(spec.datatype.dtype, copy=False))
    if type(data) is not list:
        raise _mismatch(spec, f"has data of kind {type(data).__name__}, a list is needed")
    nested = bool(data) and type(data[0]) is list
    return _finite(spec, _numbers(spec, _flatten(spec, data, shape) if nested else data, shape))


def samples_of(spec: TensorSpec, samples: list[Any]) -> NDArray[Any]:
    """Check a list with one nested list for each sample, as V1 requests have it, and make it an array.

    Raises
    ------
    TensorMismatch
    """
    shape = [len(samples), *spec.shape[1:]]
    return _finite(spec, _numbers(spec, _flatten(spec, samples, shape), shape))


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
    allowed = _allowed(spec.datatype)
    if not allowed.issuperset(map(type, flat)):
        place, value = next((i, v) for i, v in enumerate(flat) if type(v) not in allowed)
        raise _mismatch(spec, f"holds {_short(value)} at element {place}, which is no {spec.datatype.value}")
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, dtype=spec.datatype.dtype).reshape(shape)
    except (OverflowError, ValueError):
        raise _mismatch(spec, f"holds a value out of the range of {spec.datatype.value}") from None


def _allowed(datatype: Datatype) -> frozenset[type]:
    if datatype in _FLOATS:
        return _NUMBERS
    if datatype is Datatype.BOOL:
        return _TRUTH
    return frozenset() if datatype is Datatype.BYTES else _WHOLE


def _finite(spec: TensorSpec, array: NDArray[Any]) -> NDArray[Any]:
    if spec.datatype in _FLOATS and not np.isfinite(array).all():
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
