"""Boards with a Gowin FPGA.

# Ref: openFPGALoader doc/boards.yml and --list-boards: tangnano9k, tangnano20k.
# Ref: apycula 0.32 chip data bases: GW1N-9C holds the GW1NR-9C, GW2A-18C the GW2AR-18C.
"""

from __future__ import annotations

from gatesmith.boards.board import Board, Family

__all__ = ["BOARDS"]

BOARDS = (
    # Ref: sipeed/TangNano-9K-example uart/src/top.cst: clk 52, uart_rx 18, uart_tx 17, LVCMOS33,
    # Ref: part GW1NR-LV9QN88PC6/I5; amaranth-boards 0.0.21 tang_nano_9k.py says the same, 27 MHz.
    Board(
        name="tangnano9k",
        title="Sipeed Tang Nano 9K",
        part="GW1NR-LV9QN88PC6/I5",
        family=Family.GOWIN,
        device="GW1N-9C",
        clock_pin="52",
        clock_hz=27_000_000,
        rx_pin="18",
        tx_pin="17",
        io_standard="LVCMOS33",
        baud=1_000_000,
        loader="tangnano9k",
        source="sipeed/TangNano-9K-example, uart/src/top.cst",
    ),
    # Ref: sipeed/TangNano-20K-example uart/src/top.cst: clk 4, uart_rx 70, uart_tx 69, LVCMOS33.
    # Ref: litex-boards 2023.12 sipeed_tang_nano_20k.py: clk27, GW2AR-LV18QN88C8/I7.
    Board(
        name="tangnano20k",
        title="Sipeed Tang Nano 20K",
        part="GW2AR-LV18QN88C8/I7",
        family=Family.GOWIN,
        device="GW2A-18C",
        clock_pin="4",
        clock_hz=27_000_000,
        rx_pin="70",
        tx_pin="69",
        io_standard="LVCMOS33",
        baud=1_000_000,
        loader="tangnano20k",
        source="sipeed/TangNano-20K-example, uart/src/top.cst",
    ),
)
