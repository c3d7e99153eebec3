"""Programs that read bitstreams back, and do not end."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gatesmith.boards import find_board
from gatesmith.errors import ToolFailed
from gatesmith.toolchain import decode, netlist
from gatesmith.toolchain.process import Output


@pytest.fixture
def _endless(monkeypatch: pytest.MonkeyPatch) -> None:
    def unpacked(command: tuple[str, ...], *, folder: Path, **_: Any) -> Output:
        (folder / "top.asc").touch()
        return Output(status=0, lines=(), peak_memory_bytes=0)

    def endless(command: tuple[str, ...], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"])

    for module in (decode, netlist):
        monkeypatch.setattr(module, "find_tool", lambda name: SimpleNamespace(command=(name,)))
        monkeypatch.setattr(module, "run", unpacked)
    monkeypatch.setattr(subprocess, "run", endless)


@pytest.mark.usefixtures("_endless")
def test_a_decoder_without_end_is_a_tool_that_failed() -> None:
    board = find_board("icebreaker")
    with pytest.raises(ToolFailed, match="icebox_vlog did not end within 600 s"):
        decode.decode_bitstream(b"", board, clock_hz=board.clock_hz)
    with pytest.raises(ToolFailed, match="icebox_vlog did not end within 600 s"):
        netlist.bitstream_verilog(b"")


def test_a_bitstream_that_cannot_be_unpacked_names_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Output(status=1, lines=("Error: odd",), peak_memory_bytes=0)
    monkeypatch.setattr(netlist, "find_tool", lambda name: SimpleNamespace(command=(name,)))
    monkeypatch.setattr(netlist, "run", lambda *_, **__: failed)
    with pytest.raises(ToolFailed, match="cannot be unpacked: odd") as error:
        netlist.bitstream_verilog(b"")
    assert error.value.facts["tool"] == "iceunpack"
