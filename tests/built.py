"""Firmware for an integer graph without place and route: its RTL is the one that would be synthesised."""

from __future__ import annotations

from gatesmith.boards import find_board
from gatesmith.builds import preview
from gatesmith.firmware import Firmware
from gatesmith.model.graph import Graph

__all__ = ["rtl_firmware"]

BUILD_ID = "0123456789abcdef" * 2


def rtl_firmware(graph: Graph, board_name: str, *, cutoff: int = 4, build_id: str = BUILD_ID) -> Firmware:
    """Firmware whose bitstream is empty and whose ``top.v`` is whole."""
    return preview.rtl_firmware(graph, find_board(board_name), cutoff=cutoff, build_id=build_id)
