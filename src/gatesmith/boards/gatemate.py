"""Boards with a Cologne Chip GateMate.

# Ref: openFPGALoader --list-boards: olimex_gatemateevb (cable dirtyJtag).
"""

from __future__ import annotations

from gatesmith.boards.board import Board, Family

__all__ = ["BOARDS"]

BOARDS = (
    # Ref: litex-boards platforms/olimex_gatemate_a1_evb.py: clk0 IO_SB_A8 at 10 MHz, rx IO_SA_A6, tx IO_SA_B6.
    # Ref: chili-chips-ba/openCologne issue 11: on the board rx is IO_SA_A6 and tx IO_SA_B6; the schematic names them
    # Ref: as the RP2040 sees them. Its 2.Simple--5--UART-Test/3.build/top.ccf says the same.
    # Ref: phdussud/pico-dirtyJtag: the RP2040 bridges a UART to a USB serial port.
    Board(
        name="gatemate-a1-evb",
        title="Olimex GateMateA1-EVB",
        part="CCGM1A1",
        family=Family.GATEMATE,
        device="CCGM1A1",
        clock_pin="IO_SB_A8",
        clock_hz=10_000_000,
        rx_pin="IO_SA_A6",
        tx_pin="IO_SA_B6",
        baud=1_000_000,
        loader="olimex_gatemateevb",
        source="litex-boards, platforms/olimex_gatemate_a1_evb.py",
        note="the serial port is the RP2040's: it needs the DirtyJTAG firmware with its UART bridge",
    ),
)
