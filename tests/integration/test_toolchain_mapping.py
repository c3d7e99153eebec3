"""Gowin's small LUTs as the LUT4s that nextpnr times: the same function, and a delay for every one."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from designs import successor
from requirements import require_family

from gatesmith.boards import Family, find_board
from gatesmith.toolchain import plan, synthesize
from gatesmith.toolchain.mapping import GOWIN_LUTS
from gatesmith.tools import find_tool

YOSYS = """
import json, sys
from pyosys import libyosys as ys
design = ys.Design()
for one in json.load(sys.stdin):
    ys.run_pass(one, design)
"""


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_family(Family.GOWIN)


def _luts(each: int) -> str:
    """Verilog with LUTs of one to three inputs and random tables."""
    generator = random.Random(0)
    cells = []
    for number in range(3 * each):
        inputs = 1 + number % 3
        size = 1 << inputs
        pins = ", ".join(f".I{i}(a[{i}])" for i in range(inputs))
        cells.append(
            f"LUT{inputs} #(.INIT({size}'d{generator.randrange(1 << size)})) l{number} (.F(y[{number}]), {pins});"
        )
    return f"module small(input [2:0] a, output [{3 * each - 1}:0] y);\n" + "\n".join(cells) + "\nendmodule\n"


def _is_proved(folder: Path, mapping: str) -> bool:
    """yosys' SAT proof that the LUTs mean the same before and after, by its own models of the cells."""
    (folder / "small.v").write_text(_luts(20))
    (folder / "mapping.v").write_text(mapping)
    passes = [
        "read_verilog -lib +/gowin/cells_sim.v",
        "read_verilog small.v",
        "copy small mapped",
        "techmap -map mapping.v mapped",
        "select -assert-none mapped/t:LUT1 mapped/t:LUT2 mapped/t:LUT3",
        "select -assert-count 60 mapped/t:LUT4",
        "delete =A:blackbox =A:whitebox",
        "read_verilog +/gowin/cells_sim.v",
        "select -set kept LUT1 LUT2 LUT3 LUT4 small mapped",
        "delete @kept %n",
        "hierarchy",
        "proc",
        "flatten",
        "miter -equiv -flatten small mapped miter",
        "sat -verify -prove trigger 0 miter",
    ]
    done = subprocess.run(
        [sys.executable, "-c", YOSYS],
        cwd=folder,
        input=json.dumps(passes).encode(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    (folder / "log").write_bytes(done.stdout + done.stderr)
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == 0 or "proof did fail" in text, text[-2000:]
    return done.returncode == 0


def test_each_lut_means_the_same(tmp_path: Path) -> None:
    assert _is_proved(tmp_path, GOWIN_LUTS)


@pytest.mark.parametrize(("right", "wrong"), [(".I3(I1)", ".I3(I0)"), ("{4{INIT[2]}}", "{4{INIT[1]}}")])
def test_a_wrong_one_is_caught(tmp_path: Path, right: str, wrong: str) -> None:
    assert right in GOWIN_LUTS
    assert not _is_proved(tmp_path, GOWIN_LUTS.replace(right, wrong))


def _untimed(sdf: str) -> set[str]:
    """Kinds of the LUTs in a delay file that have no path through them; not those that the router itself adds."""
    cells = re.findall(r'\(CELLTYPE "(LUT\d)"\)(.*?)(?=\(CELL\b|\Z)', sdf, re.DOTALL)
    return {kind for kind, body in cells if "IOPATH" not in body and "_passthrough_lut" not in body}


def test_the_router_knows_a_delay_for_every_lut(tmp_path: Path) -> None:
    board = find_board("tangnano20k")
    built = plan(successor(board), board)
    (tmp_path / "netlist.json").write_bytes(synthesize(built, cache=None).json)
    for name, content in built.constraints.items():
        (tmp_path / name).write_bytes(content)
    command = [*find_tool(built.routing.tool).command, *built.routing.arguments, "--sdf", "delays.sdf"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=300)
    sdf = (tmp_path / "delays.sdf").read_text()
    assert sdf.count('(CELLTYPE "LUT4")') > 40
    assert not _untimed(sdf)
    assert _untimed(sdf + '(CELL (CELLTYPE "LUT2") (INSTANCE planted))') == {"LUT2"}
