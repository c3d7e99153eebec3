"""Aims: their bounds are those of what does the work, and one number has one form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gatesmith.aim import BITS, MAX_ERRORS, TOLERANCE, TOLERANCES, Aim
from gatesmith.errors import AccuracyLost, BuildError
from gatesmith.explore import goal
from gatesmith.quantize.precision import Precision


def test_bounds_are_those_of_the_search_and_of_the_quantiser() -> None:
    assert TOLERANCES == goal.TOLERANCES
    for tolerance in TOLERANCES:
        goal.Limits(tolerance=tolerance)
        with pytest.raises(AccuracyLost):
            goal.Limits(tolerance=math.nextafter(tolerance, math.copysign(math.inf, tolerance - 1)))
    for error in MAX_ERRORS:
        goal.Limits(tolerance=TOLERANCE, max_error=error)
    for bits, beyond in zip(BITS, (BITS[0] - 1, BITS[1] + 1), strict=True):
        Precision.of(bits)
        with pytest.raises(AccuracyLost):
            Precision.of(beyond)


def test_what_decides_has_one_form() -> None:
    whole, real = (Aim(precision="auto", tolerance=one, max_error=one).parameters() for one in (1, np.float32(1)))
    assert repr(whole) == repr(real)
    assert Aim(precision="auto").parameters() == Aim(precision="auto", tolerance=TOLERANCE).parameters()
    assert Aim(precision=8).parameters() == {"precision": 8}


@pytest.mark.parametrize("tolerance", [math.nan, math.inf, -math.inf, -1e-9, 50.1, True, "1", 10**4000])
def test_no_tolerance_but_a_number_of_points(tolerance: object) -> None:
    with pytest.raises(BuildError, match=r"tolerance is .* points, 0 to 50 are possible"):
        Aim(precision="auto", tolerance=tolerance)  # type: ignore[arg-type]


def test_true_is_no_number_of_bits() -> None:
    with pytest.raises(BuildError, match="precision True is not possible; it is a number of bits, auto or exact"):
        Aim(precision=True)
