"""Constants of products rounded so that their sums stay within the bits that gateware has for a sum."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gatesmith.errors import AccuracyLost
from gatesmith.fixed import FixedPoint
from gatesmith.model.node import Bounds, Real, grid_bits
from gatesmith.model.nodes import Dense, Linear
from gatesmith.quantize.formats import best_format

__all__ = ["FEWEST_BITS", "FRACTION_BITS", "SUM_BITS", "Constants", "exponent_into", "less", "room", "rounded_weight"]

# Ref: da4ml 0.6.0: its emulator looks at the sign of a wire in 32 bits, so a difference of two sums may have 32
SUM_BITS = 31
"""Widest sum. Where a product needs more, its input and weights get fewer bits, down to ``FEWEST_BITS``; what is
still too wide loses its last bits."""

FEWEST_BITS = 8

# Ref: da4ml 0.6.0: constants are decimals of 28 digits, which hold a sum's offset exactly up to 24 fraction bits
FRACTION_BITS = range(-8, 25)
"""Of a sum; others are brought inside by an exponent."""

WEIGHT_FRACTION_BITS = range(-30, 31)


@dataclass(frozen=True, kw_only=True)
class Constants:
    """Weights and biases in the float graph's scale.

    ``grid`` are the weights' fraction bits, ``given`` those of the numbers that they are multiplied with.
    """

    weight: Real
    bias: Real
    grid: int
    given: int

    def exponent(self, before: int) -> int:
        """Smallest change of exponent that brings both the sum's and the weights' last bits into range."""
        fraction = self.given + grid_bits(self.weight)
        fraction = max(fraction, grid_bits(self.bias)) if self.bias.any() else fraction
        ends = [_range(FRACTION_BITS, fraction), _range(WEIGHT_FRACTION_BITS, grid_bits(self.weight) + before)]
        return min(max(0, *(end[0] for end in ends)), *(end[1] for end in ends))


def rounded_weight(node: Linear, bits: int | tuple[int, ...], fewer: int) -> tuple[Real, int]:
    """The rounded weights and their fraction bits, with so many bits fewer than may be used."""
    if isinstance(bits, int) or not isinstance(node, Dense):
        format = best_format(node.weight, less(max(np.atleast_1d(bits)), fewer), signed=True, seen=False)
        return format.dequantize(format.quantize(node.weight)), format.fraction_bits
    columns = np.moveaxis(node.weight, -1, 0)
    if len(bits) != len(columns):
        raise AccuracyLost(f"precision of node {node.name!r} has {len(bits)} numbers, it has {len(columns)} columns")
    formats = [
        best_format(column, less(one, fewer), signed=True, seen=False)
        for column, one in zip(columns, bits, strict=True)
    ]
    rounded = [format.dequantize(format.quantize(c)) for format, c in zip(formats, columns, strict=True)]
    return np.stack(rounded, axis=-1), max(format.fraction_bits for format in formats)


def room(node: Linear, bounds: Bounds, exponent: int, inner: FixedPoint) -> int:
    """Most fraction bits of weights when the input, of these bounds and exponent, has the format ``inner``."""
    ends = inner.dequantize([inner.min_integer, inner.max_integer])
    low, high = (np.ldexp(np.clip(end, *ends), -exponent) for end in bounds)
    # in the float graph's scale: the largest sum of absolute terms, and the input's fraction bits
    return SUM_BITS - 2 - math.frexp(node.magnitude([(low, high)]))[1] - (inner.fraction_bits + exponent)


def less(bits: int, fewer: int) -> int:
    """So many bits fewer, but not below ``FEWEST_BITS``."""
    return int(max(bits - fewer, min(bits, FEWEST_BITS)))


def exponent_into(allowed: range, bits: int) -> int:
    """Smallest change of exponent that brings these fraction bits into the range."""
    low, high = _range(allowed, bits)
    return min(max(0, low), high)


def _range(allowed: range, bits: int) -> tuple[int, int]:
    """Lowest and highest exponent that bring these fraction bits into the range."""
    return bits - allowed[-1], bits - allowed[0]
