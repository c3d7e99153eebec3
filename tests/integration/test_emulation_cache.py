"""How an emulated board is made, kept and found again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cores import LINK, Wire, firmware
from requirements import require

from gatesmith import tools
from gatesmith.devices import verilated
from gatesmith.devices.driver import LinkDriver
from gatesmith.devices.verilated import EmulatedBoard, EmulatedTransport, compile_board
from gatesmith.errors import ToolFailed, ToolNotFound
from gatesmith.tools import cache_path

ECHO = b"module top(input clk, input rx, output reg tx = 1); always @(posedge clk) tx <= rx; endmodule\n"


@pytest.fixture(autouse=True)
def _tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of its own, with the runtime of the test run's one."""
    for tool in ("verilator", "g++"):
        require(tool)
    compile_board(ECHO)
    runtime = sorted(cache_path("emulator").glob("*.o"))
    monkeypatch.setenv("GATESMITH_HOME", str(tmp_path))
    cache_path("emulator").mkdir(parents=True)
    for path in runtime:
        (cache_path("emulator") / path.name).symlink_to(path)


def test_a_second_time_runs_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    first = compile_board(ECHO)
    made = first.stat().st_mtime_ns
    monkeypatch.setattr(subprocess, "Popen", None)
    assert compile_board(ECHO) == first
    assert first.stat().st_mtime_ns == made


def test_other_verilog_is_another_board() -> None:
    assert compile_board(ECHO) != compile_board(ECHO + b"// changed\n")


def test_processes_that_want_the_same_make_it_once() -> None:
    code = f"from gatesmith.devices.verilated import compile_board; print(compile_board({ECHO!r}))"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = {process.communicate(timeout=120)[0] for process in started}
    assert found == {f"{compile_board(ECHO)}\n"}
    left = {path.suffix for path in cache_path("emulator").iterdir()}
    assert left == {".so", ".o", ".lock"}


def test_nothing_half_made_is_left_or_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verilated, "_keep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        compile_board(ECHO)
    assert not list(cache_path("emulator").glob("*.so"))
    assert not [path for path in cache_path("emulator").iterdir() if path.is_dir()]


def test_broken_verilog_is_told_with_the_tool_s_words() -> None:
    with pytest.raises(ToolFailed, match=r"verilator ended with code 1: .*rror.*top\.v"):
        compile_board(b"module top(input clk, input rx, output tx); assign tx = nowhere.x; endmodule\n")


def test_warnings_do_not_matter() -> None:
    compile_board(ECHO.replace(b"tx <= rx", b"tx <= {rx, rx, 3'bx} + 9'd3"))


def test_a_missing_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    tools.find_tool.cache_clear()
    try:
        with pytest.raises(ToolNotFound, match=r"g\+\+ is not installed .*; install a C\+\+ compiler"):
            compile_board(ECHO)
    finally:
        tools.find_tool.cache_clear()


def test_bytes_pass_a_wire_unchanged() -> None:
    board, data = EmulatedBoard(ECHO, divisor=4), bytes(range(256))
    board.write(data)
    assert board.read(256, 400) == data
    assert board.cycles == pytest.approx(64 * 4 + 256 * 40, abs=80)
    board.close()
    board.close()
    with pytest.raises(ValueError, match="closed"):
        board.read(1, 1)


def test_silence_is_counted_in_the_board_s_cycles() -> None:
    wire = EmulatedTransport(ECHO, divisor=4, clock_hz=1000)
    before = wire.board.cycles
    assert wire.read(10, 2.0) == b""
    assert wire.board.cycles - before == 2000


def test_both_ways_to_turn_the_clock_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    require("pyosys")
    made = firmware(Wire(8, 8))
    payload = np.arange(256, dtype=np.uint8).reshape(-1, 1)
    answers = []
    for options in (verilated._clock, lambda *_: []):
        monkeypatch.setattr(verilated, "_clock", options)
        verilog = made.hdl["top.v"] + f"// {len(answers)}\n".encode()
        wire = EmulatedTransport(verilog, divisor=LINK.divisor, clock_hz=LINK.clock_hz)
        answers.append((LinkDriver(wire).infer(payload).tobytes(), wire.board.cycles))
    assert answers[0] == answers[1]
    assert answers[0][0] == (payload + 1).tobytes()
