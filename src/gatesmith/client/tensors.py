"""Arrays to raw bytes and back: little-endian, row-major, as both of the protocol's binary forms have them."""

# Ref: Triton binary tensor data extension: BOOL one byte each, BYTES with a 4-byte length before each element
# Ref: BF16 is the upper half of a float32; its numbers are given and taken as float32 here

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import ServerUnreachable, TensorMismatch
from gatesmith.tensor import Datatype

__all__ = ["array_of", "as_datatype", "raw_of"]

_LENGTH = struct.Struct("<I")
_MAY_STAND_FOR = {"f": "fiu", "i": "iu", "u": "iu", "b": "b", "O": "OSU"}


def as_datatype(name: str, datatype: str, array: NDArray[Any]) -> NDArray[Any]:
    """An array in the dtype of a model's input.

    Whole numbers may stand for floats and a float for one of another size; nothing else is converted.

    Raises
    ------
    TensorMismatch
        When the array's kind is another, or a value leaves the datatype's range.
    """
    wanted = Datatype(datatype).dtype
    if array.dtype == wanted and wanted.kind == "O":
        strange = next((item for item in array.reshape(-1).tolist() if not isinstance(item, str | bytes)), None)
        if strange is not None:
            kind = type(strange).__name__
            raise TensorMismatch(f"input {name!r} holds a {kind} where text or bytes are needed", tensor=name)
    if array.dtype == wanted:
        return array
    if array.dtype.kind not in _MAY_STAND_FOR[wanted.kind]:
        raise TensorMismatch(f"input {name!r} has dtype {array.dtype}, the model's {datatype} is {wanted}", tensor=name)
    with np.errstate(over="ignore"):
        converted = array.astype(wanted)
    if wanted.kind in "iu" and not np.array_equal(converted, array):
        raise TensorMismatch(f"input {name!r} holds a value out of the range of {datatype}", tensor=name)
    return converted


def raw_of(datatype: str, array: NDArray[Any]) -> bytes:
    """An array, in its datatype's dtype, to raw bytes."""
    kind = Datatype(datatype)
    if kind is Datatype.BYTES:
        items = [item.encode() if isinstance(item, str) else bytes(item) for item in array.reshape(-1).tolist()]
        return b"".join(_LENGTH.pack(len(item)) + item for item in items)
    if kind is Datatype.BF16:
        bits = np.ascontiguousarray(array, "<f4").view("<u4").astype(np.uint64)
        odd = bits >> np.uint64(16) & np.uint64(1)
        return (bits + np.uint64(0x7FFF) + odd >> np.uint64(16)).astype("<u2").tobytes()  # a half goes to even
    return np.ascontiguousarray(array, kind.dtype).tobytes()


def array_of(datatype: str, shape: list[int], raw: bytes | memoryview) -> NDArray[Any]:
    """Raw bytes to an array of its own.

    Raises
    ------
    ServerUnreachable
        When the bytes are not what datatype and shape announce.
    """
    try:
        kind = Datatype(datatype)
        if kind is Datatype.BYTES:
            items = _strings(bytes(raw))
            array = np.empty(len(items), dtype=object)
            array[:] = items
            return array.reshape(shape)
        if kind is Datatype.BF16:
            return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").reshape(shape)
        return np.frombuffer(raw, kind.dtype).reshape(shape).copy()
    except (ValueError, struct.error) as error:
        raise ServerUnreachable(f"the server's answer is no {datatype[:20]} of shape {shape}: {error}") from error


def _strings(raw: bytes) -> list[bytes]:
    items, place = [], 0
    while place < len(raw):
        size = _LENGTH.unpack_from(raw, place)[0]
        place += _LENGTH.size
        if size > len(raw) - place:
            raise ValueError(f"a string of {size} bytes where {len(raw) - place} are left")
        items.append(raw[place : place + size])
        place += size
    return items
