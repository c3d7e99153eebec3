"""Devices: whatever runs firmware, found by entry points in the group ``gatesmith.devices``.

A device id is ``kind:address``: ``emulator:0``, ``serial:/dev/ttyUSB1``, ``loopback:0``. The entry point's name is the
kind, its object a :class:`~gatesmith.devices.device.Device` class that is called with the address.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from gatesmith.devices.device import Counters, Device, DeviceInfo
from gatesmith.errors import DeviceNotFound

__all__ = ["Counters", "Device", "DeviceInfo", "list_devices", "open_device"]


def open_device(device_id: str) -> Device:
    """The device of an id; it is opened when it is programmed.

    Raises
    ------
    DeviceNotFound
        When no installed package brings that kind of device.
    """
    kind, _, address = device_id.partition(":")
    found = _kinds()
    if kind not in found:
        raise DeviceNotFound(
            f"no device kind {kind!r} for {device_id!r}; the kinds are {', '.join(sorted(found))}",
            device=device_id,
            kinds=sorted(found),
        )
    return _load(found[kind])(address or "0")


def list_devices() -> list[DeviceInfo]:
    """All devices that can be found on this machine, by kind."""
    return [info for _, point in sorted(_kinds().items()) for info in _load(point).discover()]


def _kinds() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group="gatesmith.devices")}


def _load(point: EntryPoint) -> type[Device]:
    kind: type[Device] = point.load()
    return kind
