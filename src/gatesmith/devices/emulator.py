"""An emulated board: the firmware's whole top under Verilator, behind the wire protocol, one signal edge at a time.

The driver is the one that a real board has; what differs is that the wire is in memory and that time is the board's.
"""

from __future__ import annotations

from gatesmith.devices.device import DeviceInfo
from gatesmith.devices.driver import Transport
from gatesmith.devices.linked import LinkedDevice
from gatesmith.devices.verilated import EmulatedTransport
from gatesmith.errors import FirmwareMismatch, ToolNotFound
from gatesmith.firmware import Firmware
from gatesmith.tools import find_tool

__all__ = ["EmulatedDevice", "emulate"]


def emulate(firmware: Firmware) -> EmulatedTransport:
    """The wire of a new emulated board that runs a firmware.

    Raises
    ------
    FirmwareMismatch
        When the firmware has no ``top.v``.
    ToolNotFound, ToolFailed
        When the board cannot be made.
    """
    verilog = firmware.hdl.get("top.v")
    if verilog is None:
        raise FirmwareMismatch(
            f"firmware {firmware.name} holds no top.v, an emulated board needs it; build the firmware again, or "
            "name it in [hdl] of its contract.toml",
            firmware=firmware.name,
        )
    return EmulatedTransport(verilog, divisor=firmware.link.divisor, clock_hz=firmware.clock_hz)


class EmulatedDevice(LinkedDevice):
    """A board that needs no hardware; ``emulator:0`` and ``emulator:1`` are two of them."""

    kind = "emulator"

    def open_transport(self, firmware: Firmware) -> Transport:
        """Switch a new board on."""
        return emulate(firmware)

    @classmethod
    def discover(cls) -> list[DeviceInfo]:
        """One, wherever Verilator and a C++ compiler are; any number can be opened."""
        try:
            find_tool("verilator")
            find_tool("g++")
        except ToolNotFound as error:
            return [DeviceInfo(id="emulator:0", kind=cls.kind, state=f"unavailable: {error}")]
        return [DeviceInfo(id="emulator:0", kind=cls.kind, state="ready")]
