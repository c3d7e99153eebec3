# amaranth: UnusedElaboratable=no
"""An emulated cycle that skips the simulator's search for events does what a whole one does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cores import Folded, Pipeline, Wire, firmware
from requirements import require

from gatesmith.devices import verilated
from gatesmith.devices.protocol import Operation, encode_request
from gatesmith.tools import cache_path

CORES = {
    "wire": Wire(32, 48),
    "pipeline": Pipeline(32, 48, stages=6),
    "folded": Folded(24, 17, latency_cycles=9),
}


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Go on with another cache, in which what all boards share is there already."""
    for tool in ("verilator", "g++", "pyosys"):
        require(tool)
    verilated.compile_runtime()
    known = list(cache_path("emulator").glob("*.o"))

    def use(name: str) -> None:
        monkeypatch.setenv("GATESMITH_HOME", str(tmp_path / name))
        folder = cache_path("emulator")
        folder.mkdir(parents=True)
        for path in known:
            shutil.copy(path, folder)

    return use


def transcript(verilog: bytes) -> list[tuple[bytes, int]]:
    """What a board answers to requests, damaged requests and noise, and when."""
    random = np.random.default_rng(5)
    board = verilated.EmulatedBoard(verilog, divisor=4)
    heard = []
    for turn in range(60):
        payload = random.bytes(4 * int(random.integers(1, 40)))
        request = encode_request(Operation.INFER, turn, count=len(payload) // 4, payload=payload)
        sent = [request, request[: int(random.integers(len(request)))], random.bytes(30)][int(random.integers(3))]
        board.write(sent + encode_request(int(random.integers(1, 5)), turn))
        for _ in range(3):
            heard.append((board.read(int(random.integers(1, 400)), int(random.integers(1, 4000))), board.cycles))
    board.close()
    return heard


@pytest.mark.parametrize("name", CORES)
def test_a_cheap_cycle_is_a_whole_one(
    name: str, runtime: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    verilog = firmware(CORES[name]).hdl["top.v"]
    chosen: list[list[str]] = []
    original = verilated._clock

    def cheap(model: Path, verilog: bytes) -> list[str]:
        chosen.append(original(model, verilog))
        return chosen[-1]

    transcripts = []
    for folder, clock in (("cheap", cheap), ("whole", lambda model, verilog: [])):
        runtime(folder)
        monkeypatch.setattr(verilated, "_clock", clock)
        transcripts.append(transcript(verilog))
    assert "-DONE_TRIGGER" in chosen[0]
    assert transcripts[0] == transcripts[1]
    assert sum(len(data) for data, _ in transcripts[0]) > 500


@pytest.mark.parametrize("change", [b"negedge", b"comb"])
def test_models_that_do_more_are_run_whole(
    change: bytes, runtime: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted fault: tops that act on more than a rising edge of their clock."""
    body = {
        b"negedge": b"reg a; always @(negedge clk) a <= rx; assign tx = a;",
        b"comb": b"reg a; always @(posedge clk) a <= rx; assign tx = a ^ rx;",
    }[change]
    chosen: list[list[str]] = []
    original = verilated._clock

    def watched(model: Path, verilog: bytes) -> list[str]:
        chosen.append(original(model, verilog))
        return chosen[-1]

    runtime("more")
    monkeypatch.setattr(verilated, "_clock", watched)
    verilated.compile_board(b"module top(input clk, input rx, output tx); " + body + b" endmodule\n")
    assert "-DONE_TRIGGER" not in chosen[0]
