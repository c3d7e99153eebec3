"""An emulated board in a process of its own, on a serial port: it can be killed, frozen, unplugged and plugged in.

    board_process.py STORE LINK DAMAGE REFERENCE...

serves the first artifact's firmware on a pseudo-terminal that ``LINK`` points to, and prints a line once it does. One
frame in ``DAMAGE`` is damaged, in each direction; 0: none. ``ProgrammableBoard`` is the host's side: a serial device
that can change what the board runs, to the firmware of another reference.
"""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from gatesmith.devices.driver import Transport
from gatesmith.devices.loopback import FaultyTransport
from gatesmith.devices.protocol import REPLY_MARK, REQUEST_MARK, Identity, Operation
from gatesmith.devices.serial import SerialDevice
from gatesmith.errors import DeviceNotFound, DeviceTimeout
from gatesmith.firmware import Firmware

__all__ = ["BoardProcess", "ProgrammableBoard"]

_ANSWER_S = 5.0


class BoardProcess:
    """One such process; ``link`` is the path that a serial device opens."""

    def __init__(self, store: Path, reference: str, link: Path, *others: str, damage: int = 0) -> None:
        self._arguments = [str(store), str(link), str(damage), reference, *others]
        self.link = link
        self.process = self._start()

    def signal(self, number: int) -> None:
        """Kill, stop or continue it."""
        if number == signal.SIGKILL:
            self.link.unlink(missing_ok=True)  # as the system does; the next board may get the same terminal
        self.process.send_signal(number)

    def plug_in(self) -> None:
        """A new board at the same place, after the old one was killed."""
        self.process.wait(30)
        self.process = self._start()

    def close(self) -> None:
        """Switch it off."""
        self.process.kill()
        self.process.wait(30)
        if self.process.stdout:
            self.process.stdout.close()

    def _start(self) -> subprocess.Popen[str]:
        if getattr(self, "process", None) is not None:
            self.close()
        command = [sys.executable, __file__, *self._arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        return process


class ProgrammableBoard(SerialDevice):
    """The serial driver as it is, and another way than openFPGALoader to change what such a board runs."""

    def _load(self, firmware: Firmware, running: Identity | None) -> None:
        self.close()
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(_ANSWER_S)
                line.connect(_control(self.address))
                line.sendall(firmware.build_id.encode())
                if line.recv(8) != b"ok":
                    raise DeviceNotFound(f"{self.id} was not programmed")
        except TimeoutError as error:
            raise DeviceTimeout(f"{self.id} was not programmed within {_ANSWER_S} s") from error
        except OSError as error:
            raise DeviceNotFound(f"{self.id} cannot be programmed: {error}") from error


def _control(link: str) -> str:
    return f"{link}.program"


def _damage(one_in: int, mark: bytes, chances: random.Random) -> Callable[[bytes], bytes]:
    """One frame in so many gets a wrong bit; frames are counted by how they begin."""

    def damage(data: bytes) -> bytes:
        if not one_in or chances.random() * one_in >= data.count(mark):
            return data
        changed = bytearray(data)
        changed[chances.randrange(len(data))] ^= 1 << chances.randrange(8)
        return bytes(changed)

    return damage


def main(store: str, link: str, damage: str, *references: str) -> None:
    """The process."""
    from gatesmith.artifact.policy import UNCHECKED
    from gatesmith.artifact.store import Store
    from gatesmith.devices.emulator import emulate
    from gatesmith.devices.pty import PtyBoard

    chances, one_in = random.Random(), int(damage)
    to_board = _damage(one_in, bytes((REQUEST_MARK, Operation.INFER)), chances)
    to_host = _damage(one_in, bytes((REPLY_MARK, Operation.INFER)), chances)

    def board(firmware: Firmware) -> PtyBoard:
        wire: Transport = FaultyTransport(emulate(firmware), on_write=to_board, on_read=to_host)
        made = PtyBoard(wire)
        new = Path(f"{link}.new")
        new.unlink(missing_ok=True)
        new.symlink_to(made.path)
        new.replace(link)
        return made

    opened = [Store(Path(store), policy=UNCHECKED).load(reference) for reference in references]
    known = {firmware.build_id: firmware for firmware in opened}
    running = board(opened[0])
    Path(_control(link)).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(_control(link))
        listening.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            line, _ = listening.accept()
            with line, contextlib.suppress(OSError):
                wanted = known.get(line.recv(64).decode())
                if wanted is not None:
                    Path(link).unlink(missing_ok=True)  # what it points to may soon be another board's
                    running.close()
                    running = board(wanted)
                line.sendall(b"ok" if wanted else b"unknown")


if __name__ == "__main__":
    main(*sys.argv[1:])
