"""The finished bitstream, read back to a netlist, answers the same integers over the wire; one flipped bit does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import trained
from requirements import require

from gatesmith.boards import find_board
from gatesmith.devices import open_device
from gatesmith.errors import BuildError, DeviceError, ToolFailed
from gatesmith.firmware import Firmware
from gatesmith.flow import build_firmware
from gatesmith.model import reference
from gatesmith.model.vectors import random_vectors
from gatesmith.proof import firmware_graph, verify_firmware
from gatesmith.toolchain.decode import decode_bitstream
from gatesmith.toolchain.process import run
from gatesmith.tools import find_tool, tool_environment


@pytest.fixture(scope="module")
def firmware() -> Firmware:
    for tool in ("pyosys", "nextpnr-ice40", "icepack", "verilator", "g++", "icebox_vlog"):
        require(tool)
    model = trained("iris")
    return build_firmware(model.estimator, "icebreaker", calibration=model.x, name="iris").firmware


def test_the_build_proved_its_bitstream(firmware: Firmware) -> None:
    assert firmware.verified == ("reference", "rtl", "bitstream")
    proof = verify_firmware(firmware, level="bitstream", samples=500)
    assert (proof.level, proof.mismatches) == ("bitstream", 0)
    assert proof.samples > 500


def test_flipped_configuration_bits_are_seen(firmware: Firmware, tmp_path: Path) -> None:
    """One bit of a logic tile cleared and the bitstream packed again: its checksum is right, its answers are not."""
    graph = firmware_graph(firmware)
    vectors = random_vectors(graph, 200)
    wanted = reference.infer(graph, vectors)
    seen = 0
    for tile in (20, 60, 100):
        bitstream = _with_a_bit_cleared(firmware.bitstream, tile, tmp_path)
        verilog = decode_bitstream(bitstream, find_board("icebreaker"), clock_hz=firmware.clock_hz)
        seen += not _answers(firmware, verilog, vectors, wanted)
    assert seen, "no cleared bit was seen"


def _with_a_bit_cleared(bitstream: bytes, number: int, folder: Path) -> bytes:
    (folder / "top.bin").write_bytes(bitstream)
    _tool("iceunpack", "top.bin", "top.asc", folder=folder)
    lines = (folder / "top.asc").read_text().splitlines()
    tiles = [i for i, line in enumerate(lines) if line.startswith(".logic_tile")]
    busy = [i for i in tiles if sum(line.count("1") for line in lines[i + 1 : i + 17]) > 100]
    row = busy[number % len(busy)] + 1
    # Ref: Project IceStorm, LOGIC tile: columns 36 to 45 of a tile's rows hold the eight logic cells' LUTs
    row, column = next((r, lines[r].find("1", 36, 46)) for r in range(row, row + 16) if "1" in lines[r][36:46])
    lines[row] = lines[row][:column] + "0" + lines[row][column + 1 :]
    (folder / "top.asc").write_text("\n".join(lines) + "\n")
    _tool("icepack", "top.asc", "changed.bin", folder=folder)
    return (folder / "changed.bin").read_bytes()


def _tool(name: str, *arguments: str, folder: Path) -> None:
    command = [*find_tool(name).command, *arguments]
    output = run(tuple(command), folder=folder, environment=tool_environment(), timeout_s=60)
    assert output.status == 0, output.words()


def _answers(firmware: Firmware, verilog: bytes, vectors: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether a decoded bitstream gives the wanted integers; one whose link is broken does not."""
    with open_device("emulator:changed") as device:
        try:
            device.program(replace(firmware, hdl={"top.v": verilog}))
            given = firmware.contract.unpack_outputs(device.infer(firmware.contract.pack_inputs(vectors)))
        except DeviceError:
            return False
    return bool((given == wanted).all())


def test_other_families_and_damage_are_refused(firmware: Firmware) -> None:
    with pytest.raises(BuildError, match=r"ulx3s-85f .* cannot be read back; iCE40 ones can"):
        decode_bitstream(firmware.bitstream, find_board("ulx3s-85f"), clock_hz=25_000_000)
    with pytest.raises(BuildError, match="has a PLL"):
        decode_bitstream(firmware.bitstream, find_board("icebreaker"), clock_hz=24_000_000)
    with pytest.raises(ToolFailed, match="bitstream cannot be"):
        decode_bitstream(firmware.bitstream[:5000], find_board("icebreaker"), clock_hz=12_000_000)
