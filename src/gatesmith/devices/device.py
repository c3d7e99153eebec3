"""The seam between a firmware and whatever runs it: a real board, an emulated one, a double.

A device is synchronous and belongs to one thread; ``serve`` crosses over to that thread in one place, or does without
where a device waits for nothing, but never calls it from two places at once. Payloads are the wire bytes of
:class:`gatesmith.contract.Contract`, so a device knows nothing of tensors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gatesmith.firmware import Firmware

__all__ = ["Counters", "Device", "DeviceInfo", "LinkStatistics"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Counters:
    """What the gateware counts since its last reset."""

    latency_cycles: int  # of the newest sample, core input to core output
    samples: int
    frame_errors: int


@dataclass(kw_only=True, slots=True)
class LinkStatistics:
    """What went over a device's link since the device was made: plain numbers that only grow."""

    frames: int = 0
    bad_frames: int = 0  # damaged or missing, and sent again
    bytes_out: int = 0
    bytes_in: int = 0

    def __add__(self, other: LinkStatistics) -> LinkStatistics:
        """Both together."""
        return LinkStatistics(
            frames=self.frames + other.frames,
            bad_frames=self.bad_frames + other.bad_frames,
            bytes_out=self.bytes_out + other.bytes_out,
            bytes_in=self.bytes_in + other.bytes_in,
        )

    def copy(self) -> LinkStatistics:
        """The numbers as they are now."""
        return self + LinkStatistics()


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceInfo:
    """What is known of a device without opening it.

    Parameters
    ----------
    board : str
        Kind of board, or empty where only the firmware tells.
    state : str
        ``ready``, ``busy``, or ``unavailable: why``.
    firmware : str
        Build id that it is known to run, or empty.
    """

    id: str
    kind: str
    board: str = ""
    state: str = "ready"
    firmware: str = ""


class Device(ABC):
    """One thing that runs firmware.

    Attributes
    ----------
    id : str
        Unique on this machine, ``kind:rest`` (``emulator:0``, ``serial:/dev/ttyUSB1``).
    kind : str
        Name of the entry point in ``gatesmith.devices``.
    waits : bool
        Whether :meth:`infer` waits for anything outside this process. One that does not returns within microseconds
        and cannot hang, so a server may call it where it must not be kept: on its event loop. True when in doubt.
    """

    id: str
    kind: str
    waits: bool = True

    @abstractmethod
    def __init__(self, address: str) -> None:
        """A device at an address; nothing is opened yet."""

    @classmethod
    @abstractmethod
    def discover(cls) -> list[DeviceInfo]:
        """Devices of this kind on this machine; nothing is opened."""

    @abstractmethod
    def program(self, firmware: Firmware) -> None:
        """Make the device run this firmware and check that it does.

        Raises
        ------
        FirmwareMismatch
            When the device answers with another build id.
        DeviceTimeout, DeviceNotFound, DeviceBusy
        """

    @abstractmethod
    def infer(self, payload: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Run samples in order.

        Parameters
        ----------
        payload : ndarray of uint8, shape (batch, input_bytes)

        Returns
        -------
        ndarray of uint8, shape (batch, output_bytes)

        Raises
        ------
        DeviceTimeout, FrameCorrupt, FirmwareMismatch
        """

    @abstractmethod
    def counters(self) -> Counters:
        """Read the gateware's counters."""

    @property
    def link(self) -> LinkStatistics:
        """What went over the link; zeros where there is none. May be read in any thread."""
        return LinkStatistics()

    @abstractmethod
    def reset(self) -> None:
        """Clear the counters and whatever the link had half received."""

    def abort(self) -> None:
        """Let a call that hangs in another thread fail soon, where that is possible; only closing is allowed then."""
        return

    @abstractmethod
    def close(self) -> None:
        """Give everything back; closing twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
