"""Formats and rounding against Python's exact fractions and decimal rounding modes."""

from __future__ import annotations

from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesmith.errors import AccuracyLost
from gatesmith.fixed import MAX_WIDTH, FixedPoint, Overflow, Rounding

formats = st.builds(FixedPoint, st.booleans(), st.integers(-3, 12), st.integers(4, 12))
values = st.floats(-1e5, 1e5, allow_nan=False).map(lambda v: round(v * 64) / 64)


def exact(value: float, format: FixedPoint, rounding: Rounding) -> int:
    """The rounded value in steps, by decimal arithmetic that shares nothing with numpy."""
    units = Fraction(value) * Fraction(2) ** format.fraction_bits
    decimal = Decimal(units.numerator) / Decimal(units.denominator)
    if rounding is Rounding.TRUNCATE:
        return int(decimal.to_integral_value(ROUND_FLOOR))
    if rounding is Rounding.HALF_UP:
        return int((decimal + Decimal("0.5")).to_integral_value(ROUND_FLOOR))
    return int(decimal.to_integral_value(ROUND_HALF_EVEN))


@given(values, formats, st.sampled_from(Rounding))
def test_saturating_quantization_is_exact(value: float, format: FixedPoint, rounding: Rounding) -> None:
    wanted = min(max(exact(value, format, rounding), format.min_integer), format.max_integer)
    assert format.quantize(value, rounding=rounding) == wanted


@given(values, formats, st.sampled_from(Rounding))
def test_wrapping_keeps_the_low_bits(value: float, format: FixedPoint, rounding: Rounding) -> None:
    given_ = int(format.quantize(value, rounding=rounding, overflow=Overflow.WRAP))
    assert (given_ - exact(value, format, rounding)) % (1 << format.width) == 0
    assert format.min_integer <= given_ <= format.max_integer


@given(formats)
def test_every_integer_comes_back(format: FixedPoint) -> None:
    ends = np.array([format.min_integer, format.max_integer, 0])
    assert (format.quantize(format.dequantize(ends)) == ends).all()
    assert format.holds(format.dequantize(ends))
    assert not format.holds(format.dequantize(format.max_integer) + format.step)
    assert not format.holds(format.step / 2)


@pytest.mark.parametrize(
    ("low", "high", "width", "signed"),
    [
        *[(0, 0, 1, False), (0, 1, 1, False), (0, 255, 8, False), (0, 256, 9, False)],
        *[(-1, 0, 1, True), (-128, 127, 8, True), (-129, 0, 9, True), (-1, 128, 9, True)],
    ],
)
def test_covering_is_the_narrowest(low: int, high: int, width: int, signed: bool) -> None:
    format = FixedPoint.covering(low, high, 3)
    assert (format.width, format.signed, format.fraction_bits) == (width, signed, 3)
    assert format.min_integer <= low <= high <= format.max_integer


def test_halves_go_where_the_mode_says() -> None:
    format = FixedPoint(True, 7, 0)
    halves = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]
    assert format.quantize(halves, rounding=Rounding.TRUNCATE).tolist() == [-3, -2, -1, 0, 1, 2]
    assert format.quantize(halves, rounding=Rounding.HALF_UP).tolist() == [-2, -1, 0, 1, 2, 3]
    assert format.quantize(halves, rounding=Rounding.HALF_EVEN).tolist() == [-2, -2, 0, 0, 2, 2]


@pytest.mark.parametrize("bits", [0, MAX_WIDTH + 1])
def test_an_impossible_width_is_refused(bits: int) -> None:
    with pytest.raises(AccuracyLost, match=f"has {bits} bits, 1 to {MAX_WIDTH} are possible"):
        FixedPoint(False, bits, 0)


def test_json_round_trip() -> None:
    format = FixedPoint(True, -2, 9)
    assert FixedPoint.from_json(format.to_json()) == format
    assert str(format) == "s-2.9"
