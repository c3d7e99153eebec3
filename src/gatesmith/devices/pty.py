"""An emulated board on a pseudo-terminal: to every program on this machine it is a serial port.

    with PtyBoard(emulate(firmware)) as board:
        with open_device(f"serial:{board.path}") as device: ...

A thread moves the bytes. The board's time passes while there is something to do, and when the host has been silent
for a moment the board lives through a silence of its own, so a frame that was cut is given up there as on hardware.
"""

from __future__ import annotations

import os
import select
import threading
import tty
from types import TracebackType
from typing import Self

from gatesmith.devices.driver import QUIET_S, Transport

__all__ = ["PtyBoard"]

_MOMENT_S = 0.02  # how long the host is silent before the board is
_STEP_S = 0.001  # of the board's time, between two looks at the host
_CHUNK_BYTES = 512


class PtyBoard:
    """Puts a device's wire on a pseudo-terminal.

    Parameters
    ----------
    transport : Transport
        The device's wire; closed with the board.

    Attributes
    ----------
    path : str
        The port.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._board, self._port = os.openpty()  # the port stays open here, so that a host may close and open it
        tty.setraw(self._port)
        self.path = os.ttyname(self._port)
        self._wake, self._stop = os.pipe()
        self._descriptors: tuple[int, ...] = (self._board, self._port, self._wake, self._stop)
        self._thread = threading.Thread(target=self._pump, name=f"board on {self.path}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take the port away; twice is allowed."""
        descriptors, self._descriptors = self._descriptors, ()
        if descriptors:
            os.write(self._stop, b"x")
            self._thread.join()
            self._transport.close()
            for descriptor in descriptors:
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pump(self) -> None:
        silence_s, busy = 0.0, False
        while True:
            wait_s = 0 if busy or 0 < silence_s < QUIET_S else _MOMENT_S if silence_s == 0 else None
            ready, _, _ = select.select([self._board, self._wake], [], [], wait_s)
            if self._wake in ready:
                return
            if ready:
                self._transport.write(os.read(self._board, _CHUNK_BYTES))
            data = self._transport.read(_CHUNK_BYTES, _STEP_S)
            silence_s = 0 if data or ready or busy else silence_s + _STEP_S
            busy = bool(data)
            if data and not self._send(data):
                return

    def _send(self, data: bytes) -> bool:
        """Hand bytes to the host; false when the board is switched off meanwhile."""
        while data:
            stopped, free, _ = select.select([self._wake], [self._board], [])
            if stopped:
                return False
            if free:
                data = data[os.write(self._board, data) :]
        return True
