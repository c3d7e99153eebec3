"""The driver against the double, with every kind of damage on the line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gatesmith.devices.driver import LinkDriver
from gatesmith.devices.loopback import FaultyTransport, LoopbackTransport
from gatesmith.devices.protocol import Identity
from gatesmith.errors import DeviceTimeout, FirmwareMismatch, FrameCorrupt, TensorMismatch

IDENTITY = Identity(
    version=1,
    build_id="ab" * 16,
    input_bits=32,
    output_bits=16,
    clock_hz=12_000_000,
    divisor=4,
    window_bytes=2047,
    gap_limit_cycles=262144,
)


def middle(payload: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return payload[:, 1:3] ^ 0x5A


def batch(size: int, width: int = 4) -> NDArray[np.uint8]:
    return np.random.default_rng(size).integers(0, 256, (size, width), dtype=np.uint8)


class Nth:
    """Does something to one transfer, or from one on."""

    def __init__(self, number: int, act: Callable[[bytes], bytes], *, always: bool = False) -> None:
        self.seen, self.done = 0, 0
        self._number, self._act, self._always = number, act, always

    def __call__(self, data: bytes) -> bytes:
        self.seen += 1
        if self.seen == self._number or (self._always and self.seen > self._number):
            self.done += 1
            return self._act(data)
        return data


def flip(data: bytes) -> bytes:
    return data[:-6] + bytes((data[-6] ^ 1,)) + data[-5:]


def lose(_: bytes) -> bytes:
    return b""


FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "changed": flip,
    "lost": lose,
    "cut": lambda data: data[: len(data) // 2],
    "byte lost": lambda data: data[:7] + data[8:],
    "byte doubled": lambda data: data[:7] + data[6:],
    "garbage before": lambda data: b"\xa5\x5a\xa5\x00noise" + data,
    "twice": lambda data: data + data,
}


@pytest.mark.parametrize("size", [0, 1, 7, 256, 5000])
def test_infer_is_exact_and_stays_in_the_window(size: int) -> None:
    wire = LoopbackTransport(IDENTITY, middle)
    driver = LinkDriver(wire)
    result = driver.infer(batch(size))
    assert result.dtype == np.uint8
    assert np.array_equal(result, middle(batch(size)))
    assert wire.overruns == 0
    assert driver.counters().samples == size


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("side", ["request", "reply"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_one_fault_is_survived(fault: str, side: str, number: int) -> None:
    wire = LoopbackTransport(IDENTITY, middle)
    nth = Nth(number, FAULTS[fault])
    faulty = FaultyTransport(
        wire, on_write=nth if side == "request" else None, on_read=nth if side == "reply" else None
    )
    driver = LinkDriver(faulty)
    driver.identify()
    assert np.array_equal(driver.infer(batch(2000)), middle(batch(2000)))
    assert nth.done == 1
    assert driver.identify() == IDENTITY


@pytest.mark.parametrize(("act", "error"), [(flip, FrameCorrupt), (lose, DeviceTimeout)], ids=["changed", "lost"])
def test_a_fault_that_stays_is_an_error_after_four_attempts(
    act: Callable[[bytes], bytes], error: type[Exception]
) -> None:
    wire = LoopbackTransport(IDENTITY, middle)
    nth = Nth(2, act, always=True)
    driver = LinkDriver(FaultyTransport(wire, on_read=nth), name="loopback:7")
    driver.identify()
    with pytest.raises(error, match=r"loopback:7 .*\(4 attempts\)"):
        driver.infer(batch(10))
    nth._number, nth._always = -1, False
    assert np.array_equal(driver.infer(batch(10)), middle(batch(10)))  # what is left over does no harm


def test_endless_noise_is_an_error() -> None:
    class Noise(LoopbackTransport):
        def read(self, max_bytes: int, timeout_s: float) -> bytes:
            return b"\x5a\x00" * (max_bytes // 2 + 1)

    with pytest.raises(DeviceTimeout, match="was never silent"):
        LinkDriver(Noise(IDENTITY, middle)).identify()


def test_another_firmware_after_a_fault_is_noticed() -> None:
    wire = LoopbackTransport(IDENTITY, middle)

    def swap(data: bytes) -> bytes:
        wire.identity = replace(IDENTITY, build_id="cd" * 16)
        return b""

    driver = LinkDriver(FaultyTransport(wire, on_read=Nth(2, swap)))
    driver.identify()
    with pytest.raises(FirmwareMismatch, match=r"now runs build cdcd.*, abab.* is needed"):
        driver.infer(batch(10))


def test_an_operation_that_the_device_does_not_know() -> None:
    driver = LinkDriver(LoopbackTransport(IDENTITY, middle))
    with pytest.raises(FirmwareMismatch, match="refused operation 9 with status 2"):
        driver._ask(9, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [batch(3, 5), batch(3)[0], batch(3).astype(np.int64)])
def test_wrong_payloads_are_refused(wrong: NDArray[np.uint8]) -> None:
    with pytest.raises(TensorMismatch, match=r"uint8 of shape \[-1, 4\] is needed"):
        LinkDriver(LoopbackTransport(IDENTITY, middle)).infer(wrong)


def test_a_sample_larger_than_the_window_goes_alone() -> None:
    identity = replace(IDENTITY, window_bytes=64)

    class Direct(LoopbackTransport):
        """The buffer drains into the core while a sample comes."""

        def write(self, data: bytes) -> None:
            assert not self._received
            self._received += data

    wide = replace(identity, input_bits=8 * 100)
    driver = LinkDriver(Direct(wide, middle))
    assert np.array_equal(driver.infer(batch(9, 100)), middle(batch(9, 100)))


@settings(max_examples=60, deadline=None)
@given(
    damage=st.dictionaries(
        st.integers(1, 12), st.tuples(st.sampled_from(sorted(FAULTS)), st.booleans()), min_size=1, max_size=3
    )
)
def test_any_few_faults_never_give_a_wrong_answer(damage: dict[int, tuple[str, bool]]) -> None:
    passed = {"write": 0, "read": 0}

    def fault(side: str) -> Callable[[bytes], bytes]:
        def act(data: bytes) -> bytes:
            passed[side] += 1
            name, on_write = damage.get(passed[side], ("", False))
            return FAULTS[name](data) if name and on_write == (side == "write") and len(data) > 8 else data

        return act

    wire = LoopbackTransport(IDENTITY, middle)
    driver = LinkDriver(FaultyTransport(wire, on_write=fault("write"), on_read=fault("read")))
    assert np.array_equal(driver.infer(batch(1500)), middle(batch(1500)))
