"""Dividers obey the data sheets' limits and give the frequencies that the vendors' own calculators give."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from designs import shift_register
from hypothesis import given
from hypothesis import strategies as st

from gatesmith.boards import Family, all_boards, find_board
from gatesmith.errors import BuildError
from gatesmith.toolchain.pll import board_top, find_pll

MHZ = 1_000_000
WITH_PLL = sorted(name for name, board in all_boards().items() if board.family in {Family.ICE40, Family.ECP5})

# Ref: icepll -i 12 -o F (icestorm): DIVR + 1, DIVF + 1, DIVQ.
ICEPLL = {24: (1, 64, 5), 30: (1, 80, 5), 48: (1, 64, 4), 60: (1, 80, 4), 96: (1, 64, 3)}

# Ref: prjtrellis ecppll.cpp, comment: what Lattice's Clarity gives: input, output, refclk, feedback.
CLARITY = [
    (12, 48, 1, 4),
    (12, 60, 1, 5),
    (20, 30, 2, 3),
    (45, 30, 3, 2),
    (12, 36, 1, 3),
    (12, 96, 1, 8),
    (90, 50, 9, 5),
]


@pytest.mark.parametrize("wanted", ICEPLL)
def test_ice40_dividers_are_those_of_icepll(wanted: int) -> None:
    pll = find_pll(find_board("icebreaker"), wanted * MHZ)
    assert (pll.reference, pll.feedback, pll.output) == ICEPLL[wanted]
    assert pll.output_hz == wanted * MHZ


@pytest.mark.parametrize(("given_mhz", "wanted", "reference", "feedback"), CLARITY)
def test_ecp5_dividers_are_those_of_the_vendor(given_mhz: int, wanted: int, reference: int, feedback: int) -> None:
    pll = find_pll(replace(find_board("ulx3s-25f"), clock_hz=given_mhz * MHZ), wanted * MHZ)
    assert (pll.reference, pll.feedback) == (reference, feedback)
    assert pll.output_hz == wanted * MHZ


@given(st.sampled_from(WITH_PLL), st.integers(17 * MHZ, 200 * MHZ))
def test_what_is_found_obeys_the_formulas_and_limits(name: str, wanted_hz: int) -> None:
    board = find_board(name)
    try:
        pll = find_pll(board, wanted_hz)
    except BuildError as error:
        possible = error.facts["possible_hz"]
        assert isinstance(possible, int)
        assert find_pll(board, possible).output_hz == pytest.approx(possible, abs=1)
        return
    assert abs(pll.output_hz - wanted_hz) <= wanted_hz / 1000
    detector = Fraction(board.clock_hz, pll.reference)
    if board.family is Family.ICE40:
        oscillator = detector * pll.feedback
        assert oscillator / 2**pll.output == pll.output_hz
        assert 10 * MHZ <= detector <= 133 * MHZ
        assert 533 * MHZ <= oscillator <= 1066 * MHZ
    else:
        oscillator = detector * pll.feedback * pll.output
        assert detector * pll.feedback == pll.output_hz
        assert detector >= 3_125_000
        assert 400 * MHZ <= oscillator <= 800 * MHZ
    assert oscillator == pll.oscillator_hz


def test_the_boards_own_clock_needs_no_wrapper() -> None:
    assert board_top(shift_register(16), find_board("icebreaker")) == ""


@pytest.mark.parametrize(
    ("name", "clock_hz", "message"),
    [
        ("tangnano9k", 54_000_000, "tangnano9k runs at its oscillator's 27000000 Hz, the design needs 54000000 Hz; "),
        ("gatemate-a1-evb", 20_000_000, "only boards with iCE40 or ECP5 make other clocks"),
        ("icebreaker", 25_000_000, "icebreaker cannot make 25000000 Hz from 12000000 Hz; the nearest is 25125000 Hz"),
        ("icebreaker", 1_000_000, "the nearest is 16125000 Hz"),  # 12 MHz x 86 / 64: 85 / 64 is below 16 MHz
    ],
)
def test_a_clock_that_cannot_be_made_is_told_what_can(name: str, clock_hz: int, message: str) -> None:
    design = shift_register(16)
    with pytest.raises(BuildError) as caught:
        board_top(replace(design, link=replace(design.link, clock_hz=clock_hz)), find_board(name))
    assert message in str(caught.value)
