"""An emulated board in a process of its own, on a serial port: it can be killed, frozen, unplugged and plugged in.

    board_process.py STORE REFERENCE LINK

serves the artifact's firmware on a pseudo-terminal that ``LINK`` points to, and prints a line once it does.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

__all__ = ["BoardProcess"]


class BoardProcess:
    """One such process; ``link`` is the path that a serial device opens."""

    def __init__(self, store: Path, reference: str, link: Path) -> None:
        self._arguments = [str(store), reference, str(link)]
        self.link = link
        self.process = self._start()

    def signal(self, number: int) -> None:
        """Kill, stop or continue it."""
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


def main(store: str, reference: str, link: str) -> None:
    """The process."""
    from gatesmith.artifact.policy import UNCHECKED
    from gatesmith.artifact.store import Store
    from gatesmith.devices.emulator import emulate
    from gatesmith.devices.pty import PtyBoard

    firmware = Store(Path(store), policy=UNCHECKED).load(reference)
    with PtyBoard(emulate(firmware)) as board:
        new = Path(f"{link}.new")
        new.unlink(missing_ok=True)
        new.symlink_to(board.path)
        new.replace(link)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
