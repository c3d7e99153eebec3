"""A real board behind a serial port, or anything else that looks like one.

Programming goes through openFPGALoader and loads the bitstream into the FPGA's memory, not into flash. No part of
this module has run on silicon: the link is tested against an emulated board on a pseudo-terminal, the call of
openFPGALoader against its command line.
"""

# Ref: openFPGALoader documentation, "first steps": openFPGALoader -b <board> <file>, a load to SRAM is the default

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import serial
from serial.tools import list_ports

from gatesmith.boards import Family, find_board
from gatesmith.devices.device import DeviceInfo
from gatesmith.devices.driver import Transport
from gatesmith.devices.linked import LinkedDevice
from gatesmith.devices.protocol import Identity
from gatesmith.errors import (
    DeviceBusy,
    DeviceNotFound,
    DeviceTimeout,
    FirmwareMismatch,
    FrameCorrupt,
)
from gatesmith.firmware import Firmware
from gatesmith.tools import find_tool, tool_environment

__all__ = ["SerialDevice", "SerialTransport"]

_SUFFIXES = {Family.ICE40: ".bin", Family.ECP5: ".bit", Family.GOWIN: ".fs", Family.GATEMATE: ".bit"}
_LOADER_TIMEOUT_S = 120


class SerialTransport:
    """A serial port that nobody else has open.

    Parameters
    ----------
    path : str
        ``/dev/ttyUSB1``, ``COM3``, or a URL that pyserial knows.
    baud : int

    Raises
    ------
    DeviceNotFound, DeviceBusy
    """

    def __init__(self, path: str, *, baud: int) -> None:
        self._path, self._aborted = path, False
        try:
            self._port: Any = serial.Serial(path, baudrate=baud, timeout=0, write_timeout=10, exclusive=True)
        except (serial.SerialException, ValueError, OSError) as error:
            raise _refused(path, baud, error) from error

    def write(self, data: bytes) -> None:
        """See :class:`gatesmith.devices.driver.Transport`."""
        self._check()
        try:
            self._port.write(data)
        except (serial.SerialException, OSError) as error:
            raise DeviceTimeout(f"serial port {self._path} took no more bytes: {error}", device=self._path) from error
        self._check()  # a write that was cancelled ends like any other

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        """See :class:`gatesmith.devices.driver.Transport`."""
        self._check()
        try:
            self._port.timeout = timeout_s
            data = bytes(self._port.read(max_bytes))
        except (serial.SerialException, OSError, TypeError) as error:
            raise DeviceNotFound(
                f"serial port {self._path} went away: {error}; check the cable", device=self._path
            ) from error
        self._check()
        return data

    def close(self) -> None:
        """See :class:`gatesmith.devices.driver.Transport`."""
        self._port.close()

    def abort(self) -> None:
        """Let what waits in another thread fail at once, and everything after it."""
        self._aborted = True
        for cancel in ("cancel_read", "cancel_write"):
            with contextlib.suppress(AttributeError, OSError, TypeError):  # not every kind of port has them
                getattr(self._port, cancel)()

    def _check(self) -> None:
        if self._aborted:
            raise DeviceTimeout(f"serial port {self._path} was given up while it was in use", device=self._path)


class SerialDevice(LinkedDevice):
    """A board behind a serial port."""

    kind = "serial"
    _transport: SerialTransport | None = None

    def open_transport(self, firmware: Firmware) -> Transport:
        """Open the port at the firmware's rate."""
        self._transport = SerialTransport(self.address, baud=firmware.link.baud)
        return self._transport

    def abort(self) -> None:
        """See :meth:`Device.abort`."""
        if self._transport is not None:
            self._transport.abort()

    def bring_up(self, firmware: Firmware) -> Identity:
        """Use the firmware that the board runs already, or load this one through openFPGALoader.

        This has never run on silicon; see the module.

        Raises
        ------
        FirmwareMismatch
            When the board runs another firmware and cannot be programmed from here.
        DeviceTimeout, DeviceNotFound, DeviceBusy
        ToolNotFound
            When openFPGALoader is needed and not installed.
        """
        running = self._running_identity(firmware)
        if running is None or running.build_id != firmware.build_id:
            self._load(firmware, running)
            running = self._connect(firmware).identify()
        return running

    @classmethod
    def discover(cls) -> list[DeviceInfo]:
        """Serial ports of USB devices; which board is behind one, only its firmware tells."""
        ports = sorted(port.device for port in list_ports.comports() if port.vid is not None)
        return [DeviceInfo(id=f"serial:{port}", kind=cls.kind) for port in ports]

    def _running_identity(self, firmware: Firmware) -> Identity | None:
        driver = self._connect(firmware)
        try:
            return driver.identify()
        except (DeviceTimeout, FrameCorrupt, FirmwareMismatch):
            return None

    def _load(self, firmware: Firmware, running: Identity | None) -> None:
        self.close()  # a board's programmer and its port are often one chip
        board = find_board(firmware.board)
        says = f"runs build {running.build_id}" if running else "does not answer"
        if not board.loader:
            raise FirmwareMismatch(
                f"{self.id} {says}, {firmware.build_id} is needed; "
                f"openFPGALoader does not know {firmware.board}: load the bitstream with the board's own tool",
                device=self.id,
                needed=firmware.build_id,
            )
        with tempfile.TemporaryDirectory() as folder:
            bitstream = Path(folder) / f"firmware{_SUFFIXES[board.family]}"
            bitstream.write_bytes(firmware.bitstream)
            _run_loader(board.loader, bitstream)


def _run_loader(loader: str, bitstream: Path) -> None:
    tool = find_tool("openFPGALoader")
    done = _run([*tool.command, "-b", loader, str(bitstream)])
    if done.returncode:
        words = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip() not in ("", "empty")]
        raise DeviceNotFound(
            f"openFPGALoader ended with code {done.returncode} on board {loader}: "
            f"{words[0] if words else 'no message'}; check cable and power",
            tool="openFPGALoader",
            code=done.returncode,
        )


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    waiting, held = os.pipe()  # a packaged program ends with the one that holds the other end of its input
    try:
        return subprocess.run(
            command,
            stdin=waiting,
            env=tool_environment(),
            capture_output=True,
            text=True,
            errors="replace",  # it repeats what USB devices say of themselves
            check=False,
            timeout=_LOADER_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceTimeout(f"openFPGALoader ran for {_LOADER_TIMEOUT_S} s without an end; check the cable") from error
    finally:
        os.close(waiting)
        os.close(held)


def _refused(path: str, baud: int, error: Exception) -> DeviceBusy | DeviceNotFound:
    number = getattr(error, "errno", None)
    if number in (errno.EAGAIN, errno.EBUSY, errno.EWOULDBLOCK) or "exclusively lock" in str(error):
        return DeviceBusy(f"serial port {path} is in use by another program; close that one", device=path)
    if number == errno.EACCES:
        return DeviceNotFound(
            f"serial port {path} may not be opened; add the user to the port's group (dialout)", device=path
        )
    reason = f" at {baud} baud" if isinstance(error, ValueError) else ""
    return DeviceNotFound(f"serial port {path} cannot be opened{reason}: {error}", device=path)
