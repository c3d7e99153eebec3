"""The devices of one node: what ``gatesmith devices`` finds, what the administrator says of them, and their health.

Which board is behind a serial port only its firmware tells, so the administrator names it (``/dev/ttyUSB1=ulx3s-85f``);
a port without a name is not offered. Emulated boards can be offered in any number, for nodes without FPGAs.
"""

# Ref: Linux sysfs: /sys/class/tty/NAME/device leads into the USB device's folder, which holds busnum and devnum
# Ref: Kubernetes extended resources: a domain prefix and a name of letters, digits, - _ .

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gatesmith.boards import find_board
from gatesmith.devices import list_devices
from gatesmith.devices.device import DeviceInfo
from gatesmith.errors import DeviceNotFound

__all__ = ["DOMAIN", "EMULATED", "Inventory", "NodeDevice", "parse_boards"]

DOMAIN = "gatesmith.dev"
EMULATED = "emulator"
MAX_EMULATED = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeDevice:
    """One device of this node, as the cluster sees it.

    Parameters
    ----------
    id : str
        Device id of gatesmith, ``serial:/dev/ttyUSB1``.
    nodes : tuple of str
        Device nodes that a container needs.
    problem : str
        Why it cannot be used now; empty when it can.
    """

    id: str
    board: str
    family: str
    nodes: tuple[str, ...] = ()
    problem: str = ""

    @property
    def name(self) -> str:
        """The device's id in the cluster: letters, digits, ``.``, ``_`` and ``-``."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.id).strip("-")

    @property
    def resource(self) -> str:
        """The resource that a pod asks for: one for each kind of board."""
        return f"{DOMAIN}/{self.board}"


def parse_boards(texts: Sequence[str]) -> dict[str, str]:
    """``PORT=BOARD`` from a command line: boards by port.

    Raises
    ------
    DeviceNotFound
        When a text has no ``=``.
    BoardNotFound
    """
    found = {}
    for text in texts:
        port, equals, board = text.rpartition("=")
        if not equals or not port:
            raise DeviceNotFound(f"{text!r} names no board; PORT=BOARD is needed, for example /dev/ttyUSB1=ulx3s-85f")
        found[port.removeprefix("serial:")] = find_board(board).name
    return found


class Inventory:
    """Devices of this node.

    Parameters
    ----------
    boards : mapping of str to str
        Board by serial port.
    emulated : int
        Emulated boards to offer.
    discover : callable
        What finds devices; the one behind ``gatesmith devices``.
    sys : Path
        Root of sysfs.
    """

    def __init__(
        self,
        boards: Mapping[str, str],
        *,
        emulated: int = 0,
        discover: Callable[[], list[DeviceInfo]] = list_devices,
        sys: Path = Path("/sys"),
    ) -> None:
        if not 0 <= emulated <= MAX_EMULATED:
            raise DeviceNotFound(f"{emulated} emulated boards, 0 to {MAX_EMULATED} are possible")
        self._boards, self._emulated, self._discover, self._sys = dict(boards), emulated, discover, sys

    def look(self) -> list[NodeDevice]:
        """Every device that is offered, healthy or not, by id. A named port that is away is an unhealthy device."""
        found = {info.id: info for info in self._discover()}
        devices = [self._serial(port, board, found) for port, board in self._boards.items()]
        emulator = found.get("emulator:0")
        problem = "no emulator on this node" if emulator is None else _problem(emulator)
        devices += [
            NodeDevice(id=f"emulator:{number}", board=EMULATED, family=EMULATED, problem=problem)
            for number in range(self._emulated)
        ]
        return sorted(devices, key=lambda device: device.id)

    def _serial(self, port: str, board: str, found: Mapping[str, DeviceInfo]) -> NodeDevice:
        info = found.get(f"serial:{port}")
        problem = _problem(info) if info else ("" if Path(port).exists() else "the port is not there")
        return NodeDevice(
            id=f"serial:{port}",
            board=board,
            family=find_board(board).family.value,
            nodes=(port, *self._usb_node(port)),
            problem=problem,
        )

    def _usb_node(self, port: str) -> tuple[str, ...]:
        """The USB device behind a port, through which its programmer is reached."""
        try:
            place = (self._sys / "class" / "tty" / Path(port).name / "device").resolve(strict=True)
        except OSError:
            return ()
        for folder in (place, *place.parents):
            if (folder / "busnum").is_file() and (folder / "devnum").is_file():
                bus, number = (int((folder / name).read_text()) for name in ("busnum", "devnum"))
                return (f"/dev/bus/usb/{bus:03d}/{number:03d}",)
        return ()


def _problem(info: DeviceInfo) -> str:
    """``busy`` is no problem: a pod that runs holds its device."""
    return info.state if info.state.startswith("unavailable") else ""
