# amaranth: UnusedElaboratable=no
"""What every device keeps, whatever it is made of: the double, an emulated board, a serial port."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from cores import Pipeline, firmware, successor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from requirements import require

from gatesmith.boards import find_board
from gatesmith.devices import open_device, serial
from gatesmith.devices.driver import Transport
from gatesmith.devices.emulator import EmulatedDevice, emulate
from gatesmith.devices.linked import LinkedDevice
from gatesmith.devices.loopback import FaultyTransport, LoopbackDevice
from gatesmith.devices.pty import PtyBoard
from gatesmith.devices.serial import SerialDevice
from gatesmith.errors import DeviceBusy, DeviceError, DeviceNotFound, FirmwareMismatch
from gatesmith.firmware import Firmware

Fault = Callable[[bytes], bytes]

CORE = Pipeline(32, 48, stages=6)
OTHER_BUILD = "ff" * 16


@pytest.fixture(scope="module")
def built() -> Firmware:
    for tool in ("verilator", "g++", "pyosys"):
        require(tool)
    return firmware(CORE)


@dataclass
class Setup:
    """A device, and a way to reach into its wire."""

    device: LinkedDevice
    firmware: Firmware

    def damage(self, *, on_write: Fault | None = None, on_read: Fault | None = None) -> None:
        driver = self.device._running()
        driver._transport = FaultyTransport(driver._transport, on_write=on_write, on_read=on_read)

    @property
    def wire(self) -> Transport:
        return self.device._running()._transport


@pytest.fixture(params=["loopback", "emulator", "serial"])
def setup(request: pytest.FixtureRequest, built: Firmware) -> Iterator[Setup]:
    if request.param == "loopback":
        with LoopbackDevice("0", function=expected) as double:
            double.program(built)
            yield Setup(double, built)
    elif request.param == "emulator":
        with EmulatedDevice("0") as emulated:
            emulated.program(built)
            yield Setup(emulated, built)
    else:
        with PtyBoard(emulate(built)) as board, SerialDevice(board.path) as device:
            device.program(built)
            yield Setup(device, built)


def expected(payload: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return successor(payload, CORE)


def batch(size: int) -> NDArray[np.uint8]:
    return np.random.default_rng(size).integers(0, 256, (size, 4), dtype=np.uint8)


class Once:
    """Does something to the first transfer that is longer than a header."""

    def __init__(self, act: Fault) -> None:
        self.act, self.done = act, False

    def __call__(self, data: bytes) -> bytes:
        if self.done or len(data) < 16:
            return data
        self.done = True
        return self.act(data)


FAULTS: dict[str, Fault] = {
    "changed": lambda data: data[:12] + bytes((data[12] ^ 0x20,)) + data[13:],
    "header changed": lambda data: data[:4] + bytes((data[4] ^ 0x01,)) + data[5:],
    "cut": lambda data: data[:14],
    "byte lost": lambda data: data[:9] + data[10:],
    "garbage before": lambda data: b"\xa5garbage\x5a" + data,
}


class TestDevice:
    """The contract."""

    def test_identifies_itself(self, setup: Setup) -> None:
        identity = setup.device.identify()
        assert identity.build_id == setup.firmware.build_id
        assert (identity.input_bits, identity.output_bits) == (32, 48)
        assert (identity.divisor, identity.clock_hz) == (4, 12_000_000)

    @pytest.mark.parametrize("size", [0, 1, 7, 256, 5000])
    def test_infers_exactly(self, setup: Setup, size: int) -> None:
        assert np.array_equal(setup.device.infer(batch(size)), expected(batch(size)))

    def test_counts_and_resets(self, setup: Setup) -> None:
        setup.device.reset()
        setup.device.infer(batch(300))
        counters = setup.device.counters()
        assert (counters.samples, counters.latency_cycles, counters.frame_errors) == (300, CORE.latency_cycles, 0)
        setup.device.reset()
        assert setup.device.counters().samples == 0

    def test_closes_twice_and_then_runs_nothing(self, setup: Setup) -> None:
        setup.device.close()
        setup.device.close()
        with pytest.raises(FirmwareMismatch, match="runs no firmware"):
            setup.device.infer(batch(1))

    def test_can_be_programmed_again(self, setup: Setup) -> None:
        setup.device.program(setup.firmware)
        assert np.array_equal(setup.device.infer(batch(5)), expected(batch(5)))

    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("side", ["request", "reply"])
    def test_survives_a_fault(self, setup: Setup, fault: str, side: str) -> None:
        once = Once(FAULTS[fault])
        setup.damage(**{"on_write" if side == "request" else "on_read": once})
        assert np.array_equal(setup.device.infer(batch(600)), expected(batch(600)))
        assert once.done

    def test_survives_an_overrun(self, setup: Setup) -> None:
        setup.wire.write(bytes(range(256)) * 20)
        assert np.array_equal(setup.device.infer(batch(50)), expected(batch(50)))

    @settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(noise=st.binary(max_size=3000))
    def test_survives_noise(self, setup: Setup, noise: bytes) -> None:
        setup.wire.write(noise)
        assert np.array_equal(setup.device.infer(batch(20)), expected(batch(20)))

    def test_a_line_that_stays_broken_is_an_error(self, setup: Setup) -> None:
        setup.damage(on_read=lambda data: bytes(byte ^ 0x11 for byte in data))
        with pytest.raises(DeviceError, match=r"\(4 attempts\)"):
            setup.device.infer(batch(3))


def test_emulated_boards_share_nothing(built: Firmware) -> None:
    with open_device("emulator:0") as first, open_device("emulator:1") as second:
        first.program(built)
        second.program(built)
        first.infer(batch(9))
        assert second.counters().samples == 0
        second.infer(batch(4))
        assert first.counters().samples == 9


def test_an_emulated_board_with_another_build_is_refused(built: Firmware) -> None:
    match = f"emulator:0 runs build {built.build_id} .*, {OTHER_BUILD} .* is needed; program it with successor"
    with EmulatedDevice("0") as device, pytest.raises(FirmwareMismatch, match=match):
        device.program(replace(built, build_id=OTHER_BUILD))


def test_a_board_with_another_build_and_no_loader_is_refused(built: Firmware, monkeypatch: pytest.MonkeyPatch) -> None:
    board = replace(find_board("icebreaker"), loader="")
    monkeypatch.setattr(serial, "find_board", lambda _: board)
    with PtyBoard(emulate(built)) as line, SerialDevice(line.path) as device:
        with pytest.raises(FirmwareMismatch, match=f"runs build {built.build_id}, {OTHER_BUILD} is needed; openFPGA"):
            device.program(replace(built, build_id=OTHER_BUILD))
        with pytest.raises(FirmwareMismatch, match="runs no firmware"):
            device.infer(batch(1))


def test_the_loader_is_asked_to_program(built: Firmware) -> None:
    """There is no board here, so openFPGALoader itself must say so."""
    require("openFPGALoader")
    wanted = replace(built, build_id=OTHER_BUILD, board="ulx3s-85f", family="ecp5", bitstream=b"\0" * 100)
    with (
        PtyBoard(emulate(built)) as line,
        SerialDevice(line.path) as device,
        pytest.raises(DeviceNotFound, match=r"openFPGALoader ended with code [0-9]+ on board ulx3s: .*; check cable"),
    ):
        device.program(wanted)


def test_a_loaded_board_is_identified_again(built: Firmware, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, bytes]] = []
    monkeypatch.setattr(serial, "_run_loader", lambda loader, path: calls.append((loader, path.read_bytes())))
    wanted = replace(built, build_id=OTHER_BUILD, bitstream=b"bits")
    with (
        PtyBoard(emulate(built)) as line,
        SerialDevice(line.path) as device,
        pytest.raises(FirmwareMismatch, match=f"runs build {built.build_id}"),
    ):
        device.program(wanted)
    assert calls == [("ice40_generic", b"bits")]


def test_a_port_belongs_to_one_program(built: Firmware) -> None:
    with PtyBoard(emulate(built)) as board, SerialDevice(board.path) as first, SerialDevice(board.path) as second:
        first.program(built)
        with pytest.raises(DeviceBusy, match="in use by another program"):
            second.program(built)
        assert np.array_equal(first.infer(batch(3)), expected(batch(3)))


def test_a_port_that_goes_away(built: Firmware) -> None:
    with PtyBoard(emulate(built)) as board, SerialDevice(board.path) as device:
        device.program(built)
        board.close()
        with pytest.raises(DeviceError):
            device.infer(batch(3))


def test_a_port_without_a_board(built: Firmware, monkeypatch: pytest.MonkeyPatch) -> None:
    board = replace(find_board("icebreaker"), loader="")
    monkeypatch.setattr(serial, "find_board", lambda _: board)
    master, port = os.openpty()
    try:
        with SerialDevice(os.ttyname(port)) as device, pytest.raises(FirmwareMismatch, match="does not answer"):
            device.program(built)
    finally:
        os.close(master)
        os.close(port)
