"""What all devices behind the link have in common: a transport, the driver on it, and the check of who answers."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from gatesmith.devices.device import Counters, Device, LinkStatistics
from gatesmith.devices.driver import LinkDriver, Transport
from gatesmith.devices.protocol import Identity
from gatesmith.errors import FirmwareMismatch
from gatesmith.firmware import Firmware

__all__ = ["LinkedDevice"]

_LATENCIES = 64  # a frame's samples may all be in the core before the first result leaves


class LinkedDevice(Device):
    """A device that speaks the link protocol; a subclass opens the transport."""

    kind = ""

    def __init__(self, address: str) -> None:
        self.id = f"{self.kind}:{address}"
        self.address = address
        self._driver: LinkDriver | None = None
        self._link = LinkStatistics()

    @abstractmethod
    def open_transport(self, firmware: Firmware) -> Transport:
        """Open the way to the device, for this firmware's link."""

    def program(self, firmware: Firmware) -> None:
        """See :meth:`Device.program`."""
        self.close()
        if firmware.link.kind != "uart":
            raise FirmwareMismatch(
                f"firmware {firmware.name} was made by {firmware.engine} and has no UART link, {self.id} has nothing "
                "else; it needs a device driver of its own",
                firmware=firmware.name,
            )
        try:
            self._require(firmware, self.bring_up(firmware))
        except BaseException:  # nothing may be asked of what answers there now
            self.close()
            raise

    def bring_up(self, firmware: Firmware) -> Identity:
        """Connect to the device, with this firmware on it if that can be; gives what answers then."""
        return self._connect(firmware).identify()

    def identify(self) -> Identity:
        """What the running gateware says of itself."""
        return self._running().identify()

    def infer(self, payload: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See :meth:`Device.infer`."""
        return self._running().infer(payload)

    def counters(self) -> Counters:
        """See :meth:`Device.counters`."""
        return self._running().counters()

    @property
    def link(self) -> LinkStatistics:
        """See :attr:`Device.link`."""
        return self._link

    def reset(self) -> None:
        """See :meth:`Device.reset`."""
        self._running().reset()

    def close(self) -> None:
        """See :meth:`Device.close`."""
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.close()

    def _connect(self, firmware: Firmware) -> LinkDriver:
        compute_s = _LATENCIES * (firmware.latency_cycles + firmware.initiation_interval_cycles) / firmware.clock_hz
        transport = self.open_transport(firmware)
        self._driver = LinkDriver(transport, name=self.id, compute_s=compute_s, statistics=self._link)
        return self._driver

    def _running(self) -> LinkDriver:
        if self._driver is None:
            raise FirmwareMismatch(f"{self.id} runs no firmware; program it first", device=self.id)
        return self._driver

    def _require(self, firmware: Firmware, identity: Identity) -> None:
        """Raise when another firmware answers."""
        wanted = (firmware.build_id, firmware.contract.input_bits, firmware.contract.output_bits)
        if (identity.build_id, identity.input_bits, identity.output_bits) == wanted:
            return
        raise FirmwareMismatch(
            f"{self.id} runs build {identity.build_id} ({identity.input_bits} bits in, {identity.output_bits} out), "
            f"{wanted[0]} ({wanted[1]} in, {wanted[2]} out) is needed; program it with {firmware.name}",
            device=self.id,
            running=identity.build_id,
            needed=firmware.build_id,
        )
