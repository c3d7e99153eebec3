"""What is known of a kind of circuit board: frozen facts, each with its source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["BAUD_TOLERANCE", "MINIMUM_DIVISOR", "Board", "Family"]

# The receiver samples the middle of a bit: measured in simulation, four cycles a bit carry +-2.5 %.
MINIMUM_DIVISOR = 4
BAUD_TOLERANCE = 0.02

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


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
    note : str
        What a user has to know before plugging it in; empty where there is nothing.
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
    note: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"board name {self.name!r} is not of lower-case letters, digits and hyphens")
        if self.divisor < MINIMUM_DIVISOR:
            raise ValueError(f"{self.name}: divisor {self.divisor} is below {MINIMUM_DIVISOR}")
        error = abs(self.clock_hz / self.divisor / self.baud - 1)
        if error > BAUD_TOLERANCE:
            raise ValueError(f"{self.name}: {self.clock_hz} Hz misses {self.baud} baud by {error:.1%}")

    @property
    def divisor(self) -> int:
        """Oscillator cycles for each bit on the UART."""
        return round(self.clock_hz / self.baud)
