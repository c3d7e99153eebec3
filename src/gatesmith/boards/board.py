"""What is known of a kind of circuit board: frozen facts, each with its source."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Board", "Family"]


class Family(StrEnum):
    """FPGA families with an open toolchain."""

    ICE40 = "ice40"
    ECP5 = "ecp5"
    GOWIN = "gowin"
    GATEMATE = "gatemate"


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """A kind of circuit board.

    Parameters
    ----------
    name, title : str
        Short name for the command line; name for people.
    part : str
        The chip's full name, package and speed grade included.
    device, package, speed : str
        What the toolchain calls the same; empty where it needs no such word.
    clock_pin, clock_hz
        Oscillator on the board.
    rx_pin, tx_pin : str
        UART pins seen from the FPGA: ``rx`` is its input.
    io_standard : str
        I/O standard of the three pins, where constraints need one.
    links : tuple of str
        How a host reaches it: ``uart``.
    baud : int
        Bits per second that the board's serial bridge carries and its oscillator divides to within 2 %.
    loader : str
        Board or cable name that openFPGALoader knows; empty where it knows none.
    source : str
        Schematic or constraint file that the pins were read from.
    """

    name: str
    title: str
    part: str
    family: Family
    device: str
    package: str = ""
    speed: str = ""
    clock_pin: str
    clock_hz: int
    rx_pin: str
    tx_pin: str
    io_standard: str = ""
    links: tuple[str, ...] = ("uart",)
    baud: int = 1_000_000
    loader: str = ""
    source: str
