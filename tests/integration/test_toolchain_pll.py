"""A design with its own clock gets a PLL, and nextpnr works out the same frequency from its dividers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from designs import successor
from requirements import require_family

from gatesmith.boards import find_board
from gatesmith.toolchain import execute, plan
from gatesmith.toolchain.process import run
from gatesmith.tools import find_tool, tool_environment


@pytest.mark.parametrize(
    ("name", "clock_hz"), [("icebreaker", 24_000_000), ("ice40-hx8k-b-evn", 48_000_000), ("ulx3s-25f", 50_000_000)]
)
def test_nextpnr_derives_the_designs_clock(name: str, clock_hz: int, tmp_path: Path) -> None:
    board = find_board(name)
    require_family(board.family)
    build = plan(successor(board, clock_hz=clock_hz), board)
    built = execute(build, cache=None, work=tmp_path)
    assert built.report.fmax_hz > clock_hz
    assert any(use.used == 1 for resource, use in built.report.utilization.items() if "PLL" in resource)
    assert b"PLL" not in built.verilog  # an emulated board runs the design itself
    said: list[str] = []
    command = (*find_tool(build.routing.tool).command, *build.routing.arguments, "--no-route")
    run(command, folder=tmp_path, environment=tool_environment(), timeout_s=120, on_line=said.append)
    derived = [match[1] for line in said if (match := re.search(r"Derived frequency constraint of ([\d.]+) MHz", line))]
    assert derived
    assert {float(value) * 1e6 for value in derived} == {float(clock_hz)}
