"""The longest path of a stage: adders, LUTs and carry bits that a signal passes, followed bit by bit.

A carry that starts late at a high bit is shorter than one from the lowest, and adders in a row ripple side by side; so
arrival is kept for each bit of each value. What a path costs depends on the family, but which one is the longest is
decided once, with weights that are typical for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from da4ml.types import minimal_kif

__all__ = ["Path", "longest_path", "lut_levels", "table_levels"]

LUT_INPUTS = 4

ADDER, LUT, BIT = 1.0, 0.9, 0.08
"""Typical time of a carry chain with its way there, of a LUT with its own, and of a carry's step to the next bit."""

Arrival: TypeAlias = "tuple[float, int, int, int]"
"""Of a bit: time, adders, LUTs, carry bits."""

START: Arrival = (0.0, 0, 0, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Path:
    """Adders, LUTs and carry bits in a row."""

    adders: int = 0
    luts: int = 0
    bits: int = 0

    @property
    def length(self) -> float:
        """For comparisons."""
        return self.adders * ADDER + self.luts * LUT + self.bits * BIT


def lut_levels(inputs: int) -> int:
    """LUTs in a row for a gate of so many inputs."""
    return max(1, math.ceil(math.log(max(inputs, 2), LUT_INPUTS) - 1e-9))


def table_levels(inputs: int) -> int:
    """LUTs and multiplexers in a row for a table."""
    return max(1, inputs - LUT_INPUTS + 1)


def longest_path(logic: Any, is_joined: Callable[[int], bool]) -> Path:
    """Of a da4ml CombLogic.

    Parameters
    ----------
    is_joined : callable
        Whether the adder at a place has no carry of its own.
    """
    values = _Arrivals(logic, is_joined).values
    last = START
    for place, negated in zip(logic.out_idxs, logic.out_negs, strict=True):
        if place >= 0:
            last = max([last, *(_negated(values[place]).bits if negated else values[place].bits)])
    return Path(adders=last[1], luts=last[2], bits=last[3])


@dataclass(frozen=True, slots=True)
class _Value:
    """Arrivals of a value's bits from its lowest place on; beyond the highest there is its sign, or nothing."""

    low: int
    bits: list[Arrival]
    signed: bool

    def at(self, place: int) -> Arrival:
        index = place - self.low
        if index < 0 or not self.bits or (index >= len(self.bits) and not self.signed):
            return START
        return self.bits[min(index, len(self.bits) - 1)]

    @property
    def sign(self) -> Arrival:
        return self.bits[-1] if self.bits else START


def _lut(levels: int, *before: Arrival) -> Arrival:
    time, adders, luts, bits = max(before)
    return time + levels * LUT, adders, luts + levels, bits


def _ripple(operands: Sequence[Arrival]) -> list[Arrival]:
    """A carry chain: operands' bits in, sum's bits out."""
    result, carry = [], None
    for time, adders, luts, bits in operands:
        entered = (time + ADDER, adders + 1, luts, bits)
        carried = entered if carry is None else (carry[0] + BIT, carry[1], carry[2], carry[3] + 1)
        carry = max(entered, carried)
        result.append(carry)
    return result


def _negated(value: _Value) -> _Value:
    return _Value(value.low, [*_ripple([*value.bits, value.sign])], True)


class _Arrivals:
    """One pass over the operations."""

    def __init__(self, logic: Any, is_joined: Callable[[int], bool]) -> None:
        self.logic, self.is_joined = logic, is_joined
        self.values: list[_Value] = []
        used = logic.ref_count
        for place, op in enumerate(logic.ops):
            keep, integers, fraction = minimal_kif(op.qint)
            low, high = -int(fraction), int(integers) + int(keep)
            alive = used[place] > 0 and high > low
            bits = self._bits(place, op, low, high) if alive else []
            self.values.append(_Value(low, bits, bool(keep)))

    def _bits(self, place: int, op: Any, low: int, high: int) -> list[Arrival]:
        code = op.opcode
        places = range(low, high)
        match abs(code) if code != -1 else -1:
            case -1 | 5:
                return [START] * len(places)
            case 0 | 1:
                return self._sum(place, op, low, high)
            case 4:
                value = self.values[op.id0]
                return self._added(place, [value.at(i) for i in places])
        value = self.values[op.id0]
        if code < 0 and abs(code) in (2, 3, 9):
            value = _negated(value)
        match abs(code):
            case 2 if value.signed:
                return [_lut(1, value.at(i), value.sign) for i in places]
            case 2 | 3:
                return [value.at(i) for i in places]
            case 6:
                key, other = self.values[op.data & 0xFFFFFFFF], self.values[op.id1]
                other = _negated(other) if code < 0 else other
                return [_lut(1, key.sign, value.at(i), other.sign if i >= high - 1 else other.at(i)) for i in places]
            case 8:
                return [_lut(table_levels(len(value.bits)), *value.bits)] * len(places)
            case 9 if op.data:
                return [_lut(lut_levels(len(value.bits)), *value.bits)]
            case 9:
                return [_lut(1, value.at(i)) for i in places]
            case _:
                return [_lut(1, value.at(i), self.values[op.id1].at(i)) for i in places]

    def _sum(self, place: int, op: Any, low: int, high: int) -> list[Arrival]:
        a, b = self.values[op.id0], self.values[op.id1]
        b = _Value(b.low + op.data, b.bits, b.signed)
        start = b.low if op.opcode == 1 and b.low < a.low else max(a.low, b.low)
        start = min(max(start, low), high)
        operands = [max(a.at(i), b.at(i)) for i in range(low, high)]
        return operands[: start - low] + self._added(place, operands[start - low :])

    def _added(self, place: int, operands: list[Arrival]) -> list[Arrival]:
        if not self.is_joined(place):
            return _ripple(operands)
        return [_lut(1, *operands[max(i - 1, 0) : i + 1]) for i in range(len(operands))]
