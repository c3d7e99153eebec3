"""Boards with a Lattice ECP5.

# Ref: openFPGALoader doc/boards.yml: ulx3s, orangeCrab, colorlight-i5.
# Ref: amaranth 0.5.10 vendor/_lattice.py: BG381 is nextpnr's CABGA381, MG285 its CSFBGA285.
"""

from __future__ import annotations

from gatesmith.boards.board import Board, Family

__all__ = ["BOARDS"]


# Ref: emard/ulx3s doc/constraints/ulx3s_v20.lpf: clk_25mhz G2, ftdi_txd M1 "FPGA receives from ftdi",
# Ref: ftdi_rxd L4 "FPGA transmits to ftdi", LVCMOS33; amaranth-boards 0.0.21 ulx3s.py says the same, speed grade 6.
# Ref: FTDI FT231X data sheet: 300 baud to 3 Mbaud.
def _ulx3s(size: str, note: str = "") -> Board:
    return Board(
        name=f"ulx3s-{size}f",
        title=f"Radiona ULX3S {size}F",
        part=f"LFE5U-{size}F-6BG381C",
        family=Family.ECP5,
        device=f"{size}k",
        package="CABGA381",
        speed="6",
        clock_pin="G2",
        clock_hz=25_000_000,
        rx_pin="M1",
        tx_pin="L4",
        io_standard="LVCMOS33",
        baud=1_000_000,
        loader="ulx3s",
        source="emard/ulx3s, doc/constraints/ulx3s_v20.lpf",
        note=note,
    )


# Ref: amaranth-boards 0.0.21 orangecrab_r0_2.py: clk A9 at 48 MHz, connector io 0 is N17 and 1 is M18, speed grade 8.
# Ref: litex-boards 2023.12 gsd_orangecrab.py feather_serial: rx GPIO:0 (N17), tx GPIO:1 (M18).
def _orangecrab(size: str) -> Board:
    return Board(
        name=f"orangecrab-{size}f",
        title=f"OrangeCrab r0.2 {size}F",
        part=f"LFE5U-{size}F-8MG285C",
        family=Family.ECP5,
        device=f"{size}k",
        package="CSFBGA285",
        speed="8",
        clock_pin="A9",
        clock_hz=48_000_000,
        rx_pin="N17",
        tx_pin="M18",
        io_standard="LVCMOS33",
        baud=1_000_000,
        loader="orangeCrab",
        source="litex-boards 2023.12, platforms/gsd_orangecrab.py (feather_serial)",
        note="no USB-UART on the board: join a 3.3 V adapter to header pins 0 (FPGA receives) and 1 (FPGA transmits)",
    )


BOARDS = (
    # Ref: emard/ulx3s doc/MANUAL.md, CHIP_ID: 12F 0x21111043, 25F 0x41111043, 45F 0x41112043, 85F 0x41113043.
    _ulx3s("12", note="a bitstream holds the chip's identity: one built for the 25F is refused by the 12F"),
    _ulx3s("25"),
    _ulx3s("45"),
    _ulx3s("85"),
    _orangecrab("25"),
    _orangecrab("85"),
    # Ref: litex-boards 2023.12 colorlight_i5.py _io_v7_0: clk25 P3, serial rx H18, tx J17, LFE5U-25F-6BG381C.
    # Ref: wuxx/Colorlight-FPGA-Projects README: "A 25Mhz clock is connected to FPGA with pin P3".
    Board(
        name="colorlight-i5",
        title="Colorlight i5 v7.0 with extension board",
        part="LFE5U-25F-6BG381C",
        family=Family.ECP5,
        device="25k",
        package="CABGA381",
        speed="6",
        clock_pin="P3",
        clock_hz=25_000_000,
        rx_pin="H18",
        tx_pin="J17",
        io_standard="LVCMOS33",
        baud=1_000_000,
        loader="colorlight-i5",
        source="litex-boards 2023.12, platforms/colorlight_i5.py",
        note="the USB-UART is on the extension board (DAPLink), not on the module",
    ),
)
