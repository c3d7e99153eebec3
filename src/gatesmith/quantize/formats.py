"""Choosing a format for values that have been seen."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import AccuracyLost
from gatesmith.fixed import FixedPoint

__all__ = ["best_format", "moved", "on_grid"]

Real = NDArray[np.float64]

SPARE_WIDTH = 10
"""From this width on, outliers that were not seen cost more than a coarser step."""

HEADROOM = 1.5

LARGEST_EXPONENT = 200
"""Values beyond 2**200 are refused, those below 2**-200 count as zero."""


def best_format(
    values: Real,
    width: int,
    *,
    signed: bool,
    seen: bool = True,
    through: Callable[[Real], Real] = lambda v: v,
) -> FixedPoint:
    """The format of this width whose rounding changes ``through(values)`` least, in squared error.

    Tries the scale that covers all values, a coarser one and two finer ones that saturate the outliers; of equals, the
    finest.

    Parameters
    ----------
    seen : bool
        The values are what was seen and not all there is; with bits to spare the format then covers more than them.
    """
    largest = float(np.max(np.abs(values), initial=0.0))
    top = 0 if largest == 0 else math.ceil(math.log2(largest) + 1e-12)
    if top > LARGEST_EXPONENT:
        raise AccuracyLost(f"values reach {largest:g}, 2**{LARGEST_EXPONENT} is possible; scale the model's data")
    top = max(top, -LARGEST_EXPONENT)
    fraction = width - int(signed) - top
    candidates = [FixedPoint(signed, top - finer, fraction + finer) for finer in (2, 1, 0, -1)]
    if seen and width >= SPARE_WIDTH:
        covering = [c for c in candidates if c.step * c.max_integer >= HEADROOM * largest]
        candidates = covering or candidates[-1:]
    exact = through(values)

    def error(format: FixedPoint) -> float:
        return float(np.sum((through(format.dequantize(format.quantize(values))) - exact) ** 2))

    return min(candidates, key=error)


def moved(format: FixedPoint, exponent: int) -> FixedPoint:
    """The format of the same integers when each value is multiplied by 2**exponent."""
    return FixedPoint(format.signed, format.integer_bits + exponent, format.fraction_bits - exponent)


def on_grid(values: Real, fraction_bits: int) -> Real:
    """The nearest multiples of ``2**-fraction_bits``."""
    return np.asarray(np.ldexp(np.rint(np.ldexp(values, fraction_bits)), -fraction_bits))
