"""Firmware from anyone on an emulated board: its Verilog runs nothing on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from firmwares import tiny_firmware
from requirements import require

from gatesmith.devices import open_device, verilated
from gatesmith.errors import BitstreamUnsafe, ToolFailed

TOP = "module top(input clk, input rx, output tx);\n{inside}\nassign tx = rx;\nendmodule\n"


@pytest.fixture(autouse=True)
def _tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in ("verilator", "g++"):
        require(tool)
    monkeypatch.setenv("GATESMITH_HOME", str(tmp_path))


def program(inside: str) -> None:
    verilog = TOP.format(inside=inside).encode("latin-1")
    with open_device("emulator:hostile") as device:
        device.program(replace(tiny_firmware(), hdl={"top.v": verilog}))


@pytest.mark.parametrize("call", ['$system("touch {}")', '$c("system(\\"touch {}\\");")'])
def test_verilog_runs_nothing(tmp_path: Path, call: str) -> None:
    made = tmp_path / "made"
    with pytest.raises(BitstreamUnsafe, match="line 2, which an emulated board does not run"):
        program(f"initial {call.format(made)};")
    assert not made.exists()
    assert not list(tmp_path.rglob("*.so"))


def test_what_verilator_repeats_need_not_be_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="printf ended with code 1: Error"):
        verilated._run("printf", ["sh", "-c", "printf 'Error \\351\\377' >&2; exit 1"], tmp_path)


def test_an_interrupt_stays_one_when_the_program_has_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As Ctrl-C does: the wait for the program is over, and it was collected meanwhile."""

    def interrupted(process: verilated.subprocess.Popen[str], **_: object) -> None:
        process.wait()
        raise KeyboardInterrupt

    monkeypatch.setattr(verilated.subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        verilated._run("true", ["true"], tmp_path)
