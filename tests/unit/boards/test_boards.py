"""Boards are complete, consistent and found by name."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from gatesmith import boards
from gatesmith.boards import Family, all_boards, find_board
from gatesmith.errors import BoardNotFound, BuildError

EXPECTED = {
    "icebreaker",
    "ice40-hx8k-b-evn",
    "ulx3s-12f",
    "ulx3s-25f",
    "ulx3s-45f",
    "ulx3s-85f",
    "orangecrab-25f",
    "orangecrab-85f",
    "colorlight-i5",
    "tangnano9k",
    "tangnano20k",
    "gatemate-a1-evb",
}


def test_every_board_is_found_through_the_entry_points() -> None:
    assert set(all_boards()) == EXPECTED
    assert {board.family for board in all_boards().values()} == set(Family)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_board_has_three_different_pins_and_a_source(name: str) -> None:
    board = find_board(name)
    assert board.name == name
    assert len({board.clock_pin, board.rx_pin, board.tx_pin}) == 3
    assert board.source
    assert board.title
    assert board.loader
    assert bool(board.io_standard) == (board.family in {Family.ECP5, Family.GOWIN})


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_oscillator_divides_to_the_baud_rate(name: str) -> None:
    board = find_board(name)
    assert board.divisor >= 4
    assert abs(board.clock_hz - board.baud * board.divisor) <= 0.02 * board.baud * board.divisor


def test_a_name_is_found_in_any_case() -> None:
    assert find_board("iCEBreaker") is find_board("icebreaker")


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("icebraker", "icebreaker"),
        ("ulx3s", "ulx3s-85f"),
        ("tang-nano-9k", "tangnano9k"),
        ("gatemate", "gatemate-a1-evb"),
    ],
)
def test_a_wrong_name_is_told_near_ones(asked: str, near: str) -> None:
    with pytest.raises(BoardNotFound, match=f"no board is called '{asked}'; did you mean .*{near}") as caught:
        find_board(asked)
    assert near in list(caught.value.facts["near"])


def test_a_name_without_near_ones_is_told_all() -> None:
    with pytest.raises(BoardNotFound, match="known are colorlight-i5, gatemate-a1-evb, ice40-hx8k-b-evn, icebreaker, "):
        find_board("zzzzzz")


def test_a_small_miss_of_the_baud_rate_is_allowed() -> None:
    assert replace(find_board("icebreaker"), baud=921_600).divisor == 13  # 0.16 % off


@pytest.mark.parametrize(
    ("baud", "message"), [(6_000_000, "divisor 2 is below 4"), (2_200_000, r"misses 2200000 baud by 9\.1%")]
)
def test_a_baud_rate_that_cannot_work_is_refused(baud: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(find_board("icebreaker"), baud=baud)


def test_a_name_that_does_not_suit_a_command_line_is_refused() -> None:
    with pytest.raises(ValueError, match="'Ice Breaker' is not of lower-case letters"):
        replace(find_board("icebreaker"), name="Ice Breaker")


def test_the_same_name_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    icebreaker = (find_board("icebreaker"),)
    entries = [SimpleNamespace(name=name, load=lambda: icebreaker) for name in ("one", "two")]
    monkeypatch.setattr(boards, "entry_points", lambda **_: entries)
    with pytest.raises(BuildError, match="board icebreaker is defined twice"):
        boards.all_boards.__wrapped__()
