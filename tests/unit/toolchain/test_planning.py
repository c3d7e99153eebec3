"""A plan depends on its inputs alone and names everything relatively."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from designs import design, shift_register, wrong_width
from requirements import require_family

from gatesmith.boards import Board, Family, all_boards, find_board
from gatesmith.errors import BuildError, ToolNotFound
from gatesmith.toolchain import BuildPlan, plan


@pytest.fixture
def icebreaker() -> Board:
    require_family(Family.ICE40)
    return find_board("icebreaker")


def _at_clock_of(board: Board) -> BuildPlan:
    return plan(replace(shift_register(16), link=replace(shift_register(16).link, clock_hz=board.clock_hz)), board)


def test_the_same_inputs_give_the_same_plan(icebreaker: Board) -> None:
    assert plan(shift_register(16), icebreaker) == plan(shift_register(16), icebreaker)
    assert plan(shift_register(16), icebreaker).digest == plan(shift_register(16), icebreaker).digest


def test_what_changes_the_bitstream_changes_the_digest(icebreaker: Board) -> None:
    one = plan(shift_register(16), icebreaker)
    others = [
        plan(shift_register(17), icebreaker),
        plan(shift_register(16), icebreaker, seed=2),
        plan(shift_register(16), replace(icebreaker, rx_pin="3")),
        plan(shift_register(16), replace(icebreaker, part="iCE40UP5K-UWG30")),
        replace(one, tools=one.tools | {"icepack": "another"}),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 6


def test_seed_and_pins_do_not_change_the_netlist(icebreaker: Board) -> None:
    one = plan(shift_register(16), icebreaker)
    same = [plan(shift_register(16), icebreaker, seed=2), plan(shift_register(16), replace(icebreaker, rx_pin="3"))]
    assert {other.synthesis_digest for other in same} == {one.synthesis_digest}
    assert plan(shift_register(17), icebreaker).synthesis_digest != one.synthesis_digest
    other_tool = replace(one, tools=one.tools | {"pyosys": "another"})
    assert other_tool.synthesis_digest != one.synthesis_digest
    assert other_tool.digest != one.digest


@pytest.mark.parametrize("name", sorted(all_boards()))
def test_no_command_names_an_absolute_path(name: str) -> None:
    board = find_board(name)
    require_family(board.family)
    built = _at_clock_of(board)
    words = [word for command in built.commands for word in command.arguments]
    words += json.loads(built.sources["synthesis.json"])
    assert not [word for word in words if "/" in word and word != board.part]


@pytest.mark.parametrize("name", sorted(all_boards()))
def test_constraints_name_the_three_pins(name: str) -> None:
    board = find_board(name)
    require_family(board.family)
    (text,) = _at_clock_of(board).constraints.values()
    for port, pin in (("clk", board.clock_pin), ("rx", board.rx_pin), ("tx", board.tx_pin)):
        assert any(
            port in line and pin in line.replace('"', " ").replace(";", " ").split()
            for line in text.decode().splitlines()
        )


def test_multipliers_are_used_on_the_ultraplus_only(icebreaker: Board) -> None:
    for name, used in (("icebreaker", True), ("ice40-hx8k-b-evn", False)):
        passes = json.loads(plan(shift_register(16), find_board(name)).sources["synthesis.json"])
        assert any(line.startswith("synth_ice40") and "-dsp" in line for line in passes) is used


@pytest.mark.parametrize("name", ["../top.v", "/etc/top.v", "top.vhd", "a b.v", "-o.v", ".v", "netlist.v", "x;y.v", ""])
def test_a_source_name_that_could_do_harm_is_refused(icebreaker: Board, name: str) -> None:
    with pytest.raises(BuildError, match="cannot be built; it needs a plain name"):
        plan(design({name: "module top; endmodule"}), icebreaker)


def test_a_top_name_that_could_do_harm_is_refused(icebreaker: Board) -> None:
    with pytest.raises(BuildError, match="top module 'top; shell' cannot be built; it needs a plain name"):
        plan(replace(shift_register(16), top="top; shell"), icebreaker)


def test_two_rtlil_files_are_refused(icebreaker: Board) -> None:
    with pytest.raises(BuildError, match="more than one RTLIL file"):
        plan(design({"a.il": "", "b.il": ""}), icebreaker)


def test_a_missing_program_is_named_before_anything_runs(icebreaker: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ToolNotFound(f"{name} is not installed")

    monkeypatch.setattr("gatesmith.toolchain.planning.find_tool", missing)
    with pytest.raises(ToolNotFound, match="pyosys is not installed"):
        plan(wrong_width(), icebreaker)
