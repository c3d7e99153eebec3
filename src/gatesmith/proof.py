"""The proof that a firmware computes what its graph says: integers compared, level by level.

Levels, from the model to the chip: ``reference`` (the engine's plan, which da4ml's emulator runs for an adder graph),
``rtl`` (the complete top under Verilator, over the wire), ``bitstream`` (the same with the netlist that an iCE40
bitstream decodes to).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gatesmith.boards import find_board
from gatesmith.devices import open_device
from gatesmith.errors import BuildError, ManifestInvalid, VerificationFailed
from gatesmith.firmware import Firmware
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.model.vectors import corner_vectors, random_vectors

__all__ = [
    "GRAPH_FILE",
    "LEVELS",
    "Verification",
    "decoded",
    "firmware_graph",
    "on_emulator",
    "prove",
    "verify_firmware",
]

LEVELS = ("reference", "rtl", "bitstream")

GRAPH_FILE = "graph.json"
"""Where a firmware's reports hold the integer graph."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """One level's proof: samples compared and how many had a different integer."""

    level: str
    samples: int
    mismatches: int
    seconds: float


def on_emulator(firmware: Firmware, vectors: NDArray[np.int64]) -> NDArray[np.int64]:
    """Output integers of a firmware's RTL for input integers, through the driver and over the wire."""
    with open_device("emulator:verify") as device:
        device.program(firmware)
        return firmware.contract.unpack_outputs(device.infer(firmware.contract.pack_inputs(vectors)))


def decoded(firmware: Firmware) -> Firmware:
    """The firmware with the netlist of its own bitstream in place of the RTL."""
    from gatesmith.toolchain.decode import decode_bitstream

    verilog = decode_bitstream(firmware.bitstream, find_board(firmware.board), clock_hz=firmware.clock_hz)
    return replace(firmware, hdl={"top.v": verilog})


def prove(level: str, given: NDArray[np.int64], wanted: NDArray[np.int64]) -> None:
    """Raise VerificationFailed, with the first difference, when two levels differ."""
    wrong = int(np.any(given != wanted, axis=1).sum())
    if wrong:
        first = int(np.argmax(np.any(given != wanted, axis=1)))
        raise VerificationFailed(
            f"level {level} differs from the reference in {wrong} of {len(wanted)} samples, first in sample {first}: "
            f"{given[first].tolist()} instead of {wanted[first].tolist()}; do not use this firmware",
            level=level,
            samples=len(wanted),
            mismatches=wrong,
        )


def firmware_graph(firmware: Firmware) -> Graph:
    """The integer graph that a firmware computes.

    Raises
    ------
    ManifestInvalid
        When the firmware carries none (it was built elsewhere).
    """
    if GRAPH_FILE not in firmware.reports:
        raise ManifestInvalid(f"firmware {firmware.name!r} for {firmware.board} carries no graph to compare with")
    return Graph.from_bytes(firmware.reports[GRAPH_FILE])


def verify_firmware(firmware: Firmware, *, level: str = "rtl", samples: int = 10_000, seed: int = 2) -> Verification:
    """Compare a firmware with the reference on corner and random samples.

    Parameters
    ----------
    level : str
        ``reference``: the engine's plan; ``rtl``: the complete top under Verilator, over the wire;
        ``bitstream``: the same with the netlist that the bitstream decodes to (iCE40).
    samples : int
        Random samples beside the corners.

    Raises
    ------
    VerificationFailed
        At the first level that differs.
    """
    if level not in LEVELS:
        raise BuildError(f"level {level!r} cannot be verified; levels are {', '.join(LEVELS)}")
    graph = firmware_graph(firmware)
    vectors = np.concatenate([corner_vectors(graph), random_vectors(graph, samples, seed=seed)])
    wanted = reference.infer(graph, vectors)
    start = time.perf_counter()
    if level != "reference":
        given = on_emulator(firmware if level == "rtl" else decoded(firmware), vectors)
    else:
        from gatesmith.gateware.engines import plan_logic

        given = plan_logic(graph).infer(vectors)
    seconds = time.perf_counter() - start
    prove(level, given, wanted)
    return Verification(level=level, samples=len(vectors), mismatches=0, seconds=seconds)
