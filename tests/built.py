"""Firmware for an integer graph without place and route: its RTL is the one that would be synthesised."""

from __future__ import annotations

from gatesmith.boards import find_board
from gatesmith.firmware import Firmware, Link, Report
from gatesmith.gateware.engines import build_core, choose_engine, plan_logic
from gatesmith.gateware.top import compose
from gatesmith.model.graph import Graph
from gatesmith.toolchain import elaborate

__all__ = ["rtl_firmware"]

BUILD_ID = "0123456789abcdef" * 2


def rtl_firmware(graph: Graph, board_name: str, *, cutoff: int = 4, build_id: str = BUILD_ID) -> Firmware:
    """Firmware whose bitstream is empty and whose ``top.v`` is whole."""
    board = find_board(board_name)
    link = Link(divisor=board.divisor, clock_hz=board.clock_hz)
    core = build_core(plan_logic(graph), cutoff=cutoff)
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
        build_id=design.build_id,
        engine=choose_engine(graph, "auto"),
        model_digest=graph.digest,
        report=Report(utilization={}, fmax_hz=0.0),
        toolchain={},
        quantization={"agreement": None, "max_abs_error": 0.0},
    )
