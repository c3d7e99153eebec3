"""Integers of fixed-point formats as wire bytes: the bits of a sample follow each other, the least significant first.

Everything that depends on the formats alone is worked out once, so that a sample costs four calls of numpy: integers
to whole containers of 1, 2, 4 or 8 bytes, those to bits, the bits that count picked by a table, and back to bytes. The
other way the table repeats a number's sign bit, or points at a bit that is always zero. Formats that fill their
containers need no bits at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.fixed import FixedPoint

__all__ = ["Packing", "Payload"]

Payload = NDArray[np.uint8]


class Packing:
    """Where the numbers of a sample lie on the wire.

    Parameters
    ----------
    fields : sequence of (int, FixedPoint)
        Number of elements and their format, in wire order.
    """

    def __init__(self, fields: Sequence[tuple[int, FixedPoint]]) -> None:
        self.bits = sum(elements * format.width for elements, format in fields)
        self.bytes = -(-self.bits // 8)
        self._dtypes = [_container(format) for _, format in fields]
        self._slices: list[slice] = []
        start = 0
        for (elements, _), dtype in zip(fields, self._dtypes, strict=True):
            self._slices.append(slice(start, start + elements * dtype.itemsize))
            start = self._slices[-1].stop
        self._octets = start
        self._whole = self._octets * 8 == self.bits
        self._count = self.bytes * 8 + 1  # the last one is always zero
        self._used, self._spread = _tables(fields, zero=self.bytes * 8)

    # Axis and bit order go to numpy by position: keywords cost a third of a call on a small array.

    def pack(self, parts: Sequence[NDArray[Any]]) -> Payload:
        """Whole numbers of any dtype, each of shape (batch, elements), to wire bytes of shape (batch, bytes)."""
        if len(parts) == 1:
            octets = parts[0].astype(self._dtypes[0], order="C").view(np.uint8)
        else:
            octets = np.empty((len(parts[0]), self._octets), np.uint8)
            for part, dtype, place in zip(parts, self._dtypes, self._slices, strict=True):
                octets[:, place] = part.astype(dtype, order="C").view(np.uint8)
        if self._whole:
            return octets
        bits = np.unpackbits(octets, 1, None, "little")
        return np.packbits(bits.take(self._used, 1), 1, "little")

    def unpack(self, payload: Payload) -> list[NDArray[Any]]:
        """Wire bytes of shape (batch, bytes) to integers of shape (batch, elements), in the narrowest dtype."""
        if self._whole:
            octets = np.ascontiguousarray(payload)
        else:
            bits = np.unpackbits(payload, 1, self._count, "little")
            octets = np.packbits(bits.take(self._spread, 1), 1, "little")
        if len(self._dtypes) == 1:
            return [octets.view(self._dtypes[0])]
        return [octets[:, place].view(dtype) for place, dtype in zip(self._slices, self._dtypes, strict=True)]


def _container(format: FixedPoint) -> np.dtype[Any]:
    size = next(size for size in (1, 2, 4, 8) if format.width <= 8 * size)
    return np.dtype(f"<{'i' if format.signed else 'u'}{size}")


def _tables(fields: Sequence[tuple[int, FixedPoint]], *, zero: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which container bits are on the wire, and which wire bit each container bit is."""
    used: list[NDArray[Any]] = []
    spread: list[NDArray[Any]] = []
    wire = held = 0
    for elements, format in fields:
        width, room = format.width, _container(format).itemsize * 8
        bit, place = np.arange(room), np.arange(elements)[:, None]
        used.append((held + place * room + bit[:width]).ravel())
        above = wire + place * width + width - 1 if format.signed else np.full((elements, 1), zero)
        spread.append(np.where(bit < width, wire + place * width + bit, above).ravel())
        wire, held = wire + elements * width, held + elements * room
    nothing = [np.empty(0, np.intp)]
    return np.concatenate([*used, *nothing]).astype(np.intp), np.concatenate([*spread, *nothing]).astype(np.intp)
