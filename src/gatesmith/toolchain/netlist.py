"""Netlists to look at: of an iCE40 bitstream, read back, and of Verilog, down to gates with nothing optimised away."""

# Ref: yosys help proc (-noopt), flatten, techmap, write_json: none of them simplifies. opt_expr, which proc runs
#      otherwise, makes a wire of two inverters in a row, and so of a ring that synthesis was told to keep

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatesmith.errors import ToolFailed
from gatesmith.toolchain.process import run
from gatesmith.tools import find_tool, tool_environment

__all__ = ["bitstream_verilog", "hdl_netlist", "run_icebox_vlog"]

_TIMEOUT_S = 600.0
_PASSES = (
    "hierarchy -auto-top",
    "proc -noopt",
    "flatten",
    "delete t:$meminit* t:$memwr*",
    "techmap",
    "write_json netlist.json",
)


def bitstream_verilog(bitstream: bytes) -> str:
    """The logic in an iCE40 bitstream as ``icebox_vlog`` writes it, one statement a line.

    Raises
    ------
    ToolNotFound, ToolFailed
        When IceStorm is missing or does not understand the bitstream.
    """
    find_tool("icebox_vlog")  # a missing one is told before the work
    with tempfile.TemporaryDirectory(prefix="gatesmith-scan-") as name:
        folder = Path(name)
        (folder / "top.bin").write_bytes(bitstream)
        command = (*find_tool("iceunpack").command, "top.bin", "top.asc")
        _run("iceunpack", command, folder, made="top.asc", what="bitstream cannot be unpacked")
        return run_icebox_vlog(folder)


def run_icebox_vlog(folder: Path, *options: str) -> str:
    """What ``icebox_vlog`` writes for the ``top.asc`` in a folder.

    Raises
    ------
    ToolNotFound, ToolFailed
    """
    command = (*find_tool("icebox_vlog").command, "-s", "-n", "top", *options, "top.asc")
    try:
        done = subprocess.run(
            command, cwd=folder, env=tool_environment(), capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ToolFailed(f"icebox_vlog did not end within {_TIMEOUT_S:g} s", tool="icebox_vlog") from error
    if done.returncode != 0 or "endmodule" not in done.stdout:
        words = (done.stderr.strip().splitlines() or ["no words"])[-1]
        raise ToolFailed(f"bitstream cannot be decoded: icebox_vlog: {words}", tool="icebox_vlog")
    return done.stdout


def hdl_netlist(sources: Mapping[str, bytes]) -> dict[str, Any]:
    """Verilog as one flat module of gates, as yosys writes it in JSON.

    Raises
    ------
    ToolNotFound, ToolFailed
        When yosys is missing or does not understand the sources.
    """
    verilog = sorted(name for name in sources if name.endswith((".v", ".sv")))
    with tempfile.TemporaryDirectory(prefix="gatesmith-scan-") as name:
        folder = Path(name)
        files = {}
        for number, source in enumerate(verilog):
            files[source] = f"{number}{Path(source).suffix}"
            (folder / files[source]).write_bytes(sources[source])
        for source in sources.keys() - files.keys():  # tables that $readmemh names
            place = folder / Path(source).name
            place.write_bytes(sources[source])
        passes = [f"read_verilog {'-sv ' if file.endswith('.sv') else ''}{file}" for file in files.values()]
        (folder / "passes.json").write_text(json.dumps([*passes, *_PASSES]))
        command = (*find_tool("pyosys").command, "passes.json")
        _run("pyosys", command, folder, made="netlist.json", what="HDL cannot be read")
        netlist: dict[str, Any] = json.loads((folder / "netlist.json").read_bytes())
    return netlist


def _run(tool: str, command: tuple[str, ...], folder: Path, *, made: str, what: str) -> None:
    output = run(command, folder=folder, environment=tool_environment(), timeout_s=_TIMEOUT_S)
    if output.status != 0 or not (folder / made).is_file():
        raise ToolFailed(f"{what}: {output.words()}", tool=tool)
