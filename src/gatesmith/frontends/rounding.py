"""Models that were trained with rounding: constants as whole numbers and a scale, edges as Quantize nodes.

A rounded constant keeps its integers and its scale apart, so that a product can be one of integers with the scale
behind it. A rounded edge becomes a Quantize node: with a power of two for a scale its format is the scale; else it
counts in whole numbers between a division and a product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gatesmith.fixed import FixedPoint, Rounding
from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.model.node import Edge, Real

__all__ = ["Grid", "Span", "is_power_of_two", "product"]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A constant that is whole numbers times a scale, which broadcasts to their shape."""

    integers: Real
    scale: Real


def is_power_of_two(values: Real) -> bool:
    """Whether all are; a product with one loses nothing."""
    return bool((np.abs(np.frexp(values)[0]) == 0.5).all())


@dataclass(frozen=True, kw_only=True)
class Span:
    """The integers of a rounded tensor, and how numbers become them: ``round(x / scale + zero)``."""

    low: int
    high: int
    scale: Real
    zero: Real
    rounding: Rounding = Rounding.HALF_EVEN

    def integers(self, values: Real) -> Real:
        """Those of a constant."""
        units = values / self.scale + self.zero
        return np.clip(np.floor(units) if self.rounding is Rounding.TRUNCATE else np.rint(units), self.low, self.high)

    @property
    def is_format(self) -> bool:
        """Whether a fixed-point format says it all."""
        return bool(self.scale.size == 1 and is_power_of_two(self.scale) and not self.zero.any())

    def rounded(self, builder: GraphBuilder, name: str, x: Edge) -> Edge:
        """The integers of an edge; with a single power of two for a scale, times that."""
        format = FixedPoint.covering(self.low, self.high, 0)
        if self.is_format:
            exponent = int(np.log2(self.scale.item()))
            format = FixedPoint(format.signed, format.integer_bits + exponent, -exponent)
        else:
            x = builder.scale(f"{name}/units", x, 1.0 / self.scale, self.zero)
        ends = np.array([self.low, self.high], dtype=np.int64)
        if (self.low, self.high) != (format.min_integer, format.max_integer):
            x = builder.clip(f"{name}/narrow", x, *(float(end) for end in format.dequantize(ends)))
        return builder.quantize(name, x, format, rounding=self.rounding)

    def real(self, builder: GraphBuilder, name: str, x: Edge) -> Edge:
        """From what :meth:`rounded` gave to the numbers that it stands for."""
        if self.is_format:
            return x
        return builder.scale(f"{name}/scale", x, self.scale, -self.zero * self.scale)


def product(builder: GraphBuilder, name: str, x: Edge, grid: Grid, bias: Real) -> Edge:
    """``x @ (integers * scale) + bias``, the scale apart where it is the same for each column."""
    if (grid.scale == 1).all():
        return builder.dense(name, x, grid.integers, bias)
    columns = np.broadcast_to(np.atleast_2d(grid.scale), grid.integers.shape)
    if (columns != columns[0]).any():
        return builder.dense(name, x, grid.integers * columns, bias)
    return builder.scale(f"{name}/scale", builder.dense(name, x, grid.integers), columns[0], bias)
