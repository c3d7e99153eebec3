"""Tensors as raw bytes, both ways: little-endian, row-major, no gaps; what REST's and gRPC's binary forms share."""

# Ref: Triton binary tensor data extension: BOOL is one byte of 0 or 1; BYTES elements have a 4-byte length before them
# Ref: Open Inference Protocol v2 gRPC "raw_input_contents": the same bytes

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import TensorMismatch
from gatesmith.tensor import Datatype, TensorSpec

__all__ = ["Raw", "array_of_raw", "item_bytes", "raw_of"]

Raw = bytes | bytearray | memoryview
_LENGTH = struct.Struct("<I")


def item_bytes(datatype: Datatype) -> int:
    """Bytes of one element; 0 for BYTES, whose elements differ."""
    if datatype is Datatype.BYTES:
        return 0
    return 2 if datatype is Datatype.BF16 else datatype.dtype.itemsize


def array_of_raw(spec: TensorSpec, raw: Raw, shape: Sequence[int]) -> NDArray[Any]:
    """Raw bytes to an array of the spec's dtype; a view of the bytes where that is possible.

    Raises
    ------
    TensorMismatch
        When there are too many or too few bytes, or bytes that no element has.
    """
    if spec.datatype is Datatype.BYTES:
        return _strings(spec, memoryview(raw), shape)
    needed = math.prod(shape) * item_bytes(spec.datatype)
    if len(raw) != needed:
        raise _mismatch(spec, f"holds {len(raw)} bytes, its shape {list(shape)} needs {needed}")
    if spec.datatype is Datatype.BF16:
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").reshape(shape)
    if spec.datatype is Datatype.BOOL and not np.isin(np.frombuffer(raw, "u1"), (0, 1)).all():
        raise _mismatch(spec, "holds a byte that is neither 0 nor 1, which is no BOOL")
    return np.frombuffer(raw, spec.datatype.dtype).reshape(shape)


def raw_of(datatype: Datatype, array: NDArray[Any]) -> bytes:
    """An array to raw bytes; elements of BYTES are ``bytes`` objects."""
    if datatype is Datatype.BYTES:
        return b"".join(_LENGTH.pack(len(item)) + item for item in array.reshape(-1))
    if datatype is Datatype.BF16:
        return _to_bf16(array).tobytes()
    return np.ascontiguousarray(array, datatype.dtype).tobytes()


def _to_bf16(array: NDArray[Any]) -> NDArray[np.uint16]:
    """The upper halves of float32 numbers, rounded to nearest, a half to even."""
    bits = np.ascontiguousarray(array, "<f4").view("<u4").astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)).astype("<u2")


def _strings(spec: TensorSpec, raw: memoryview, shape: Sequence[int]) -> NDArray[Any]:
    items = list(_items(spec, raw))
    if len(items) != math.prod(shape):
        raise _mismatch(spec, f"holds {len(items)} elements, its shape {list(shape)} needs {math.prod(shape)}")
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)


def _items(spec: TensorSpec, raw: memoryview) -> Iterator[bytes]:
    place = 0
    while place < len(raw):
        start = place + _LENGTH.size
        end = start + _LENGTH.unpack_from(raw, place)[0] if start <= len(raw) else start
        if end > len(raw):
            raise _mismatch(spec, f"ends within an element: {len(raw)} bytes, {end} are needed")
        yield bytes(raw[start:end])
        place = end


def _mismatch(spec: TensorSpec, what: str) -> TensorMismatch:
    return TensorMismatch(f"input {spec.name!r} {what}", tensor=spec.name)
