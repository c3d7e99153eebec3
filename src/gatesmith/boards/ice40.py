"""Boards with a Lattice iCE40.

Both carry an FT2232H, which divides down from 12 Mbaud, and a 12 MHz oscillator: 3 Mbaud is four cycles a bit.

# Ref: FTDI FT2232H data sheet, "USB to asynchronous serial: data transfer rate up to 12 Mbaud".
# Ref: openFPGALoader doc/boards.yml: ice40_generic is its name for the iCEBreaker and the iCE40-HX8K board.
"""

from __future__ import annotations

from gatesmith.boards.board import Board, Family

__all__ = ["BOARDS"]

BOARDS = (
    # Ref: amaranth-boards 0.0.21 icebreaker.py: clk12 35, uart rx 6, tx 9, device iCE40UP5K-SG48.
    Board(
        name="icebreaker",
        title="1BitSquared iCEBreaker",
        part="iCE40UP5K-SG48",
        family=Family.ICE40,
        device="up5k",
        package="sg48",
        clock_pin="35",
        clock_hz=12_000_000,
        rx_pin="6",
        tx_pin="9",
        baud=3_000_000,
        loader="ice40_generic",
        source="amaranth-boards 0.0.21, icebreaker.py",
    ),
    # Ref: amaranth-boards 0.0.21 ice40_hx8k_b_evn.py: clk12 J3, uart rx B10, tx B12, device iCE40HX8K-CT256.
    Board(
        name="ice40-hx8k-b-evn",
        title="Lattice iCE40-HX8K Breakout Board",
        part="iCE40HX8K-CT256",
        family=Family.ICE40,
        device="hx8k",
        package="ct256",
        clock_pin="J3",
        clock_hz=12_000_000,
        rx_pin="B10",
        tx_pin="B12",
        baud=3_000_000,
        loader="ice40_generic",
        source="amaranth-boards 0.0.21, ice40_hx8k_b_evn.py",
    ),
)
