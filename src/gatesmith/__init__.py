"""gatesmith: deploy a trained model on an FPGA.

The public names below are imported when they are used, so that the run side stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatesmith.artifact.store import Store
    from gatesmith.boards import all_boards, find_board
    from gatesmith.client import Client
    from gatesmith.devices import list_devices, open_device
    from gatesmith.errors import GatesmithError
    from gatesmith.firmware import Firmware
    from gatesmith.flow import build_firmware
    from gatesmith.proof import verify_firmware

__all__ = [
    "Client",
    "Firmware",
    "GatesmithError",
    "Store",
    "all_boards",
    "build_firmware",
    "find_board",
    "list_devices",
    "open_device",
    "verify_firmware",
]

_HOMES = {
    "Client": "client",
    "Firmware": "firmware",
    "GatesmithError": "errors",
    "Store": "artifact.store",
    "all_boards": "boards",
    "build_firmware": "flow",
    "find_board": "boards",
    "list_devices": "devices",
    "open_device": "devices",
    "verify_firmware": "proof",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"gatesmith.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'gatesmith' has no attribute {name!r}")
