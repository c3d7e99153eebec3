"""Fixed-point formats and the one rule for rounding and overflow.

A format is (signed, integer_bits, fraction_bits): an integer ``n`` of ``width`` bits stands for the real number
``n * 2**-fraction_bits``. The graph, the reference, the quantiser, the gateware and the host all round through
:meth:`FixedPoint.fit`, so there is a single place where a half can go up or down.

All arithmetic here is float64 on whole numbers below 2**53, where it is exact; ``MAX_WIDTH`` guards that.
"""

# Ref: QONNX Quant operator, rounding_mode ROUND is half to even, FLOOR truncates
# Ref: IEEE 754-2019 section 5.3.1, roundToIntegralTiesToEven is what numpy.rint does

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gatesmith.errors import AccuracyLost

__all__ = ["MAX_WIDTH", "FixedPoint", "Overflow", "Rounding"]

MAX_WIDTH = 52
"""Widest format in bits: one less than float64's significand, so that adding a half stays exact."""

FloatArray = NDArray[np.float64]


class Rounding(StrEnum):
    """What becomes of the bits below the last one kept."""

    TRUNCATE = "truncate"  # towards minus infinity: bits are dropped
    HALF_UP = "half_up"  # nearest, a half towards plus infinity
    HALF_EVEN = "half_even"  # nearest, a half towards the even neighbour


class Overflow(StrEnum):
    """What becomes of a value beyond the ends of the format."""

    SATURATE = "saturate"  # the nearest end
    WRAP = "wrap"  # modulo 2**width: bits are dropped


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """A fixed-point format.

    Parameters
    ----------
    signed : bool
        Two's complement when true; the sign bit is counted in neither of the two sizes.
    integer_bits, fraction_bits : int
        Bits before and after the point; either may be negative, their sum with the sign is ``width``.

    Raises
    ------
    AccuracyLost
        When the width is below 1 or above ``MAX_WIDTH``.
    """

    signed: bool
    integer_bits: int
    fraction_bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.width <= MAX_WIDTH:
            raise AccuracyLost(
                f"format {self} has {self.width} bits, 1 to {MAX_WIDTH} are possible; use fewer bits or smaller ranges",
                width_bits=self.width,
                limit_bits=MAX_WIDTH,
            )

    @classmethod
    def covering(cls, low: int, high: int, fraction_bits: int) -> FixedPoint:
        """The narrowest format with these fraction bits that holds every integer from low to high."""
        signed = low < 0
        magnitude_bits = max(high.bit_length() if high > 0 else 0, (-low - 1).bit_length() if signed else 0)
        if not signed and magnitude_bits == 0:
            magnitude_bits = 1
        return cls(signed, magnitude_bits - fraction_bits, fraction_bits)

    @property
    def width(self) -> int:
        """Bits in all, the sign included."""
        return int(self.signed) + self.integer_bits + self.fraction_bits

    @property
    def min_integer(self) -> int:
        """Smallest integer of the format."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def max_integer(self) -> int:
        """Largest integer of the format."""
        return (1 << (self.width - int(self.signed))) - 1

    @property
    def step(self) -> float:
        """Real value of one last bit."""
        return math.ldexp(1.0, -self.fraction_bits)

    def fit(
        self,
        values: ArrayLike,
        *,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow = Overflow.SATURATE,
    ) -> FloatArray:
        """Round and bound values that are given in units of the last bit.

        Parameters
        ----------
        values : array_like of float64
            Any shape; finite; magnitudes below 2**52.

        Returns
        -------
        ndarray of float64, same shape
            Whole numbers from ``min_integer`` to ``max_integer``; a new array.
        """
        units = np.asarray(values, dtype=np.float64)
        if rounding is Rounding.TRUNCATE:
            whole = np.floor(units)
        elif rounding is Rounding.HALF_UP:
            whole = np.floor(units + 0.5)
        else:
            whole = np.rint(units)
        if overflow is Overflow.SATURATE:
            return np.clip(whole, self.min_integer, self.max_integer, out=np.atleast_1d(whole)).reshape(units.shape)
        span = math.ldexp(1.0, self.width)
        return np.asarray(whole - np.floor((whole - self.min_integer) / span) * span)

    def quantize(
        self,
        values: ArrayLike,
        *,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow = Overflow.SATURATE,
    ) -> NDArray[np.int64]:
        """Real values to integers of this format.

        Parameters
        ----------
        values : array_like of float64, any shape, finite

        Returns
        -------
        ndarray of int64, same shape
        """
        units = np.ldexp(np.asarray(values, dtype=np.float64), self.fraction_bits)
        return self.fit(units, rounding=rounding, overflow=overflow).astype(np.int64)

    def dequantize(self, integers: ArrayLike) -> FloatArray:
        """Integers of this format to real values (float64, exact)."""
        return np.asarray(np.ldexp(np.asarray(integers, dtype=np.float64), -self.fraction_bits))

    def holds(self, values: ArrayLike) -> bool:
        """Whether every real value is exactly one of this format's."""
        units = np.ldexp(np.asarray(values, dtype=np.float64), self.fraction_bits)
        inside = (units >= self.min_integer) & (units <= self.max_integer)
        return bool(np.all(inside & (units == np.floor(units))))

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary that :meth:`from_json` reads back."""
        return {"signed": self.signed, "integer_bits": self.integer_bits, "fraction_bits": self.fraction_bits}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FixedPoint:
        """Read back what :meth:`to_json` wrote."""
        return cls(bool(data["signed"]), int(data["integer_bits"]), int(data["fraction_bits"]))

    def __str__(self) -> str:
        return f"{'s' if self.signed else 'u'}{self.integer_bits}.{self.fraction_bits}"
