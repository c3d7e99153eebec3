"""Firmware for an emulated board alone, in seconds: everything of a build but place and route.

Its RTL is what would be synthesised, proved like that of a build; there is no bitstream, so no real board takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gatesmith.aim import Aim
from gatesmith.boards import Board, find_board
from gatesmith.builds.order import Order
from gatesmith.firmware import Firmware, Link, Report
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.model.vectors import corner_vectors, random_vectors
from gatesmith.proof import GRAPH_FILE, on_emulator, prove

if TYPE_CHECKING:
    from gatesmith.gateware.engines import Logic

__all__ = ["preview_firmware", "rtl_firmware"]

CUTOFF = 4
VECTORS = 200
MIN_DIVISOR = 4


def preview_firmware(
    graph: Graph, order: Order, aim: Aim, calibration: Path | None, progress: Callable[[str, float], None]
) -> Firmware:
    """The firmware of a float graph for an emulated board.

    Raises
    ------
    ModelError, BuildError
    """
    from gatesmith.gateware.engines import plan_logic
    from gatesmith.quantize import load_calibration

    board = find_board(order.board)
    progress(aim.stage, 0.0)
    data = load_calibration(calibration) if calibration else None
    quantized = aim.quantized(graph, data, board=board, clock_hz=order.clock_hz or None, progress=progress)
    integer = quantized.graph
    progress("gateware", 0.0)
    logic = plan_logic(integer, order.engine)
    build_id = order.digest.removeprefix("sha256:")[:32]
    firmware = replace(
        rtl_firmware(integer, board, build_id=build_id, clock_hz=order.clock_hz, engine=order.engine, logic=logic),
        name=graph.name,
        model_digest=order.model,
        quantization=quantized.facts,
        reports={GRAPH_FILE: integer.to_bytes(), **quantized.reports},
        parameters={**aim.parameters(), "emulated": True},
    )
    progress("verify", 0.0)
    vectors = np.concatenate([corner_vectors(integer), random_vectors(integer, VECTORS)])
    wanted = reference.infer(integer, vectors)
    prove("reference", logic.infer(vectors), wanted)
    prove("rtl", on_emulator(firmware, vectors), wanted)
    return replace(firmware, verified=("reference", "rtl"))


def rtl_firmware(
    graph: Graph,
    board: Board,
    *,
    build_id: str,
    clock_hz: int = 0,
    engine: str = "auto",
    cutoff: int = CUTOFF,
    logic: Logic | None = None,
) -> Firmware:
    """The firmware of an integer graph without place and route, not proved yet.

    Parameters
    ----------
    clock_hz : int
        0 for the board's own clock.
    cutoff : int
        See :func:`gatesmith.gateware.engines.build_core`.
    logic : Logic, optional
        What :func:`gatesmith.gateware.engines.plan_logic` made of the graph.

    Raises
    ------
    BuildError
    """
    from gatesmith.gateware.engines import build_core, choose_engine, plan_logic
    from gatesmith.gateware.top import compose
    from gatesmith.toolchain import elaborate

    clock_hz = clock_hz or board.clock_hz
    link = Link(divisor=max(MIN_DIVISOR, round(clock_hz / board.baud)), clock_hz=clock_hz)
    core = build_core(logic or plan_logic(graph, engine), cutoff=cutoff)
    design = compose(core, contract=graph.contract(), link=link, build_id=build_id)
    return Firmware(
        name=graph.name,
        board=board.name,
        part=board.part,
        family=board.family.value,
        bitstream=b"",
        hdl={"top.v": elaborate(design)},
        contract=graph.contract(),
        link=link,
        latency_cycles=design.latency_cycles,
        initiation_interval_cycles=design.initiation_interval_cycles,
        build_id=build_id,
        engine=choose_engine(graph, engine),
        model_digest=graph.digest,
        report=Report(utilization={}, fmax_hz=0.0),
        toolchain={"gatesmith": version("gatesmith"), "da4ml": version("da4ml")},
        quantization={"agreement": None, "max_abs_error": 0.0},
    )
