"""A finished bitstream read back to a netlist: what the chip would do, in Verilog, independent of how it was made.

Only iCE40 has an open decoder of functions; the other families' bitstreams unpack to configuration bits, not to logic.
The result has the ports of the top and is self-contained, so an emulated board runs it like the RTL.
"""

# Ref: Project IceStorm, icebox_vlog: writes LUTs as expressions, flip-flops as always blocks, block RAM as SB_RAM40_4K;
# Ref: it does not decode SB_MAC16, SPRAM and PLLs, so designs with those are refused

from __future__ import annotations

import importlib.util
import re
import tempfile
from pathlib import Path

from gatesmith.boards import Board, Family
from gatesmith.errors import BuildError, ToolFailed
from gatesmith.toolchain.netlist import run_icebox_vlog
from gatesmith.toolchain.process import run
from gatesmith.tools import find_tool, tool_environment

__all__ = ["decode_bitstream"]

_TIMEOUT_S = 600.0
_CELL = "SB_RAM40_4K"


def decode_bitstream(bitstream: bytes, board: Board, *, clock_hz: int) -> bytes:
    """Verilog of the logic in a bitstream, with the ports ``clk``, ``rx`` and ``tx``.

    Raises
    ------
    BuildError
        When the family cannot be decoded, or the design has a PLL.
    ToolNotFound, ToolFailed
        When IceStorm is missing or does not understand the bitstream.
    """
    if board.family is not Family.ICE40:
        raise BuildError(f"a bitstream for {board.name} ({board.family}) cannot be read back; iCE40 ones can")
    if clock_hz != board.clock_hz:
        raise BuildError(f"the firmware has a PLL ({clock_hz} Hz from {board.clock_hz} Hz), which cannot be read back")
    with tempfile.TemporaryDirectory(prefix="gatesmith-decode-") as name:
        folder = Path(name)
        (folder / "top.bin").write_bytes(bitstream)
        pins = {"clk": board.clock_pin, "rx": board.rx_pin, "tx": board.tx_pin}
        (folder / "top.pcf").write_text("".join(f"set_io {port} {pin}\n" for port, pin in pins.items()))
        unpack = (*find_tool("iceunpack").command, "top.bin", "top.asc")
        output = run(unpack, folder=folder, environment=tool_environment(), timeout_s=_TIMEOUT_S)
        if output.status != 0 or not (folder / "top.asc").is_file():
            raise ToolFailed(f"bitstream cannot be unpacked: iceunpack: {output.words()}", tool="iceunpack")
        text = run_icebox_vlog(folder, "-p", "top.pcf")
    return (_with_plain_ports(text) + _cell_model()).encode()


def _with_plain_ports(text: str) -> str:
    """The ports once: icebox_vlog declares them in the header and again as wires."""
    header = "module top (clk, rx, tx);\ninput clk;\ninput rx;\noutput tx;\n"
    return re.sub(r"module top \([^)]*\);", header, text, count=1)


def _cell_model() -> str:
    """yosys's own model of the block RAM."""
    package = importlib.util.find_spec("pyosys")
    if package is None or package.origin is None:
        raise BuildError("pyosys is not installed; pip install 'gatesmith[build]'")
    cells = (Path(package.origin).parent / "share" / "ice40" / "cells_sim.v").read_text(encoding="utf-8")
    model = re.search(rf"^module {_CELL} .*?^endmodule", cells, re.DOTALL | re.MULTILINE)
    if model is None:
        raise ToolFailed(f"yosys's cell models hold no {_CELL}", tool="pyosys")
    # its ports' default values, its delays, its start from a file and the conditions around them are of no use here
    plain = re.sub(r"`ICE40_DEFAULT_ASSIGNMENT_\w+(\([^)]*\))?|\$readmemh\([^)]*\)", "", model[0])
    plain = re.sub(r"^`(ifdef|ifndef|endif)\b.*$", "", plain, flags=re.MULTILINE)
    return "\n" + re.sub(r"^\s*specify\b.*?^\s*endspecify\b", "", plain, flags=re.DOTALL | re.MULTILINE) + "\n"
