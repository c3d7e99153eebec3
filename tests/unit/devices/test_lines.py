"""Lines to boards that fail on the way: what was opened is given back, and the reason is told."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from firmwares import tiny_firmware

from gatesmith.devices import serial
from gatesmith.devices.device import DeviceInfo
from gatesmith.devices.driver import Transport
from gatesmith.devices.linked import LinkedDevice
from gatesmith.devices.pty import PtyBoard
from gatesmith.errors import FirmwareMismatch
from gatesmith.firmware import Firmware


class BrokenTransport:
    def __init__(self) -> None:
        self.closed = 0

    def write(self, data: bytes) -> None:
        raise OSError("broken")

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        raise OSError("broken")

    def close(self) -> None:
        self.closed += 1


class BrokenDevice(LinkedDevice):
    kind = "broken"

    def __init__(self) -> None:
        super().__init__("0")
        self.transport = BrokenTransport()

    @classmethod
    def discover(cls) -> list[DeviceInfo]:
        return []

    def open_transport(self, firmware: Firmware) -> Transport:
        return self.transport


def test_a_device_that_failed_to_take_firmware_runs_none() -> None:
    device = BrokenDevice()
    with pytest.raises(OSError, match="broken"):
        device.program(tiny_firmware())
    assert device.transport.closed == 1
    with pytest.raises(FirmwareMismatch, match="broken:0 runs no firmware; program it first"):
        device.infer(np.zeros((1, 4), np.uint8))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_board_whose_thread_ended_gives_everything_back() -> None:
    transport = BrokenTransport()
    board = PtyBoard(transport)
    board._thread.join(30)
    descriptors = board._descriptors
    board.close()
    board.close()
    assert transport.closed == 1
    assert len(descriptors) == 4
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_the_board_and_not_the_metadata_says_how_a_bitstream_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[tuple[str, str]] = []
    monkeypatch.setattr(serial, "_run_loader", lambda loader, path: loaded.append((loader, Path(path).suffix)))
    serial.SerialDevice("/dev/none")._load(replace(tiny_firmware(board="icebreaker"), family="unheard-of"), None)
    assert loaded == [("ice40_generic", ".bin")]
