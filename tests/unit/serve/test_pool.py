"""Devices that fail in every way, and what becomes of the requests that they were at."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import numpy as np
import pytest
from firmwares import ArithmeticDevice, expected_payload, tiny_firmware
from numpy.typing import NDArray
from planes import ask, check, eventually, one_each, with_plane

from gatesmith.devices.device import LinkStatistics
from gatesmith.errors import (
    DeviceNotFound,
    DeviceTimeout,
    FirmwareMismatch,
    FrameCorrupt,
    ModelNotReady,
    VerificationFailed,
)
from gatesmith.firmware import Firmware
from gatesmith.serve import pool as pool_module
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.pool import SlotState

Doubles = list[ArithmeticDevice]
FAILURES = [
    DeviceTimeout("silent"),
    FrameCorrupt("noise"),
    DeviceNotFound("unplugged"),
    FirmwareMismatch("another build", running="00", needed="11"),
    ZeroDivisionError("a driver's bug"),
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(pool_module, "LONGEST_DELAY_S", 0.004)


def states(plane: DataPlane) -> list[str]:
    return [slot.state.value for slot in plane.pool.slots]


def test_devices_that_are_left_become_replicas() -> None:
    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        assert states(plane) == ["serving"] * 5
        assert [len(plane.model(name).devices) for name in ("a", "b")] == [3, 2]
        check(await ask(plane, "a"))

    with_plane(body, one_each("a", "b"), devices=5, preload=["a", "b"])


@pytest.mark.parametrize("failure", FAILURES, ids=lambda error: type(error).__name__)
def test_what_a_failed_device_was_at_is_answered_by_another(failure: Exception) -> None:
    async def body(plane: DataPlane, doubles: Doubles) -> None:
        doubles[0].failure = failure
        answers = await asyncio.gather(*(ask(plane, "a", n) for n in range(20)))
        for n, answer in enumerate(answers):
            check(answer, n)
        if len(doubles[0].calls):  # it was asked: it is out, and the model is still ready
            assert plane.pool.slots[0].fencings == 1
        assert plane.model("a").ready
        assert plane.ready

    with_plane(body, one_each("a"), devices=2, preload=["a"], max_batch=1)


def test_a_failed_device_comes_back_by_itself() -> None:
    async def body(plane: DataPlane, doubles: Doubles) -> None:
        slot = plane.pool.slots[0]
        doubles[0].failure = DeviceTimeout("silent")
        with pytest.raises(ModelNotReady, match="model a has no healthy device: silent; try again in 1 s") as caught:
            await ask(plane, "a")
        assert caught.value.retryable
        assert not plane.ready
        assert slot.state is SlotState.FENCED
        await eventually(lambda: slot.failures > 3)  # it is tried again and again
        doubles[0].failure = None
        await eventually(lambda: plane.ready)
        check(await ask(plane, "a"))
        assert (slot.fencings, slot.state) == (1, SlotState.SERVING)

    with_plane(body, one_each("a"), preload=["a"])


def test_a_request_outlives_a_hiccup_of_the_only_device() -> None:
    """The first attempt to bring it back succeeds, so nobody notices."""

    async def body(plane: DataPlane, doubles: Doubles) -> None:
        original, failures = doubles[0].infer, [DeviceTimeout("once")]

        def infer(payload: NDArray[np.uint8]) -> NDArray[np.uint8]:
            if failures:
                raise failures.pop()
            return original(payload)

        doubles[0].infer = infer  # type: ignore[method-assign]
        first = asyncio.ensure_future(ask(plane, "a", 5))
        await eventually(lambda: plane.pool.slots[0].fencings == 1)
        second = asyncio.ensure_future(ask(plane, "a", 6))  # while the model is not ready
        check(await first, 5)
        check(await second, 6)
        assert plane.model("a").counts.retried == 1

    with_plane(body, one_each("a"), preload=["a"])


class Poisoned:
    """Makes a device fail when a sample that begins with 13 is in its batch."""

    SAMPLE = tiny_firmware().contract.encode({"x": np.array([[13.0, 2.0, 3.0, 4.0]], np.float32)})[0]

    def __init__(self, device: ArithmeticDevice) -> None:
        self._infer = device.infer
        device.infer = self.infer  # type: ignore[method-assign]

    def infer(self, payload: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if (payload == self.SAMPLE).all(axis=1).any():
            raise DeviceTimeout("poisoned")
        return self._infer(payload)


def test_a_request_that_kills_its_only_device_is_refused_alone() -> None:
    async def body(plane: DataPlane, doubles: Doubles) -> None:
        Poisoned(doubles[0])
        with pytest.raises(DeviceTimeout, match="poisoned"):
            await ask(plane, "a", 13)
        assert plane.pool.slots[0].fencings == 2
        await eventually(lambda: plane.ready)
        check(await ask(plane, "a", 5), 5)

    with_plane(body, one_each("a"), preload=["a"])


def test_a_request_that_kills_devices_does_not_take_the_pool_down() -> None:
    async def body(plane: DataPlane, doubles: Doubles) -> None:
        for double in doubles:
            Poisoned(double)
            double.hold.clear()
        first = []
        for n in range(4):  # until every device is busy
            first.append(asyncio.ensure_future(ask(plane, "a", n)))
            await eventually(lambda n=n: sum(double.entered.is_set() for double in doubles) > n)  # type: ignore[misc]
        asked = [asyncio.ensure_future(ask(plane, "a", n)) for n in range(10, 20)]  # one batch, the poison in it
        await asyncio.sleep(0)
        for double in doubles:
            double.hold.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for n, answer in zip(range(10, 20), answers, strict=True):
            if n == 13:
                assert isinstance(answer, DeviceTimeout)
                assert str(answer) == "poisoned"
            else:
                assert not isinstance(answer, BaseException), answer
                check(answer, n)
        for n, earlier in enumerate(first):
            check(await earlier, n)
        assert sum(slot.fencings for slot in plane.pool.slots) == 2
        await eventually(lambda: states(plane) == ["serving"] * 4)

    with_plane(body, one_each("a"), devices=4, preload=["a"])


def test_a_request_is_not_blamed_for_devices_that_stay_away() -> None:
    async def body(plane: DataPlane, doubles: Doubles) -> None:
        for double in doubles[:3]:
            double.failure = DeviceNotFound("unplugged")
        for n in range(30):
            check(await ask(plane, "a", n), n)
        assert all(slot.fencings <= 1 for slot in plane.pool.slots)

    with_plane(body, one_each("a"), devices=4, preload=["a"])


def test_a_device_that_hangs_is_left_behind_and_its_requests_go_elsewhere() -> None:
    async def body(plane: DataPlane, doubles: Doubles) -> None:
        for double in doubles:
            double.hold.clear()
        first = asyncio.ensure_future(ask(plane, "a", 7))
        await eventually(lambda: any(double.entered.is_set() for double in doubles))
        (at,) = (n for n, double in enumerate(doubles) if double.entered.is_set())
        doubles[1 - at].hold.set()
        plane.pool.tick(monotonic() + 59)  # not yet
        assert not plane.pool.slots[at].fencings
        plane.pool.tick(monotonic() + 61)
        check(await first, 7)
        slot = plane.pool.slots[at]
        assert (slot.fencings, slot.state) == (1, SlotState.FENCED)
        await eventually(lambda: "still hangs" in slot.reason)
        doubles[at].hold.set()  # the old thread comes back, closes the device, and a new one takes it
        await eventually(lambda: slot.state is SlotState.SERVING)
        assert plane.model("a").counts.successes == 1

    with_plane(body, one_each("a"), devices=2, preload=["a"])


def test_a_device_that_hangs_while_it_is_programmed_does_not_hold_the_load() -> None:
    async def body(plane: DataPlane, doubles: Doubles) -> None:
        original = doubles[0].program

        def program(firmware: Firmware) -> None:
            doubles[0].entered.set()
            assert doubles[0].hold.wait(30)
            original(firmware)

        doubles[0].program = program  # type: ignore[method-assign]
        doubles[0].hold.clear()
        loading = asyncio.ensure_future(plane.load_model("a"))
        await eventually(doubles[0].entered.is_set)
        plane.pool.tick(monotonic() + 1801)
        await loading
        assert plane.model("a").devices == ["arithmetic:1"]

    with_plane(body, one_each("a"), devices=2)


@pytest.mark.parametrize(("bad", "fenced"), [(2, 0), (20, 1)])
def test_a_link_with_too_many_bad_frames_is_taken_out(monkeypatch: pytest.MonkeyPatch, bad: int, fenced: int) -> None:
    numbers = LinkStatistics()
    monkeypatch.setattr(ArithmeticDevice, "link", property(lambda _self: numbers))

    async def body(plane: DataPlane, _doubles: Doubles) -> None:
        slot = plane.pool.slots[0]
        numbers.frames, numbers.bad_frames = 40, 40
        plane.pool.tick(0.0)  # so few say nothing
        assert slot.fencings == 0
        slot.bad_share()
        numbers.frames, numbers.bad_frames = 240, 40 + bad
        slot._seen = LinkStatistics(frames=40, bad_frames=40)
        plane.pool.tick(0.0)
        for _ in range(20):
            await asyncio.sleep(0.001)
        await eventually(lambda: slot.fencings == fenced and slot.state is SlotState.SERVING)
        check(await ask(plane, "a"))

    with_plane(body, one_each("a"), preload=["a"])


def test_wrong_answers_to_test_vectors_are_seen_before_anybody_gets_them() -> None:
    """A planted fault: one device computes something else."""

    def wrong(payload: NDArray[np.uint8]) -> NDArray[np.uint8]:
        answer = expected_payload(tiny_firmware().contract, payload)
        answer[0, 0] ^= 1
        return answer

    async def body(plane: DataPlane, doubles: Doubles) -> None:
        doubles[0].infer = wrong  # type: ignore[method-assign]
        await plane.load_model("a")
        assert plane.model("a").devices == ["arithmetic:1"]
        assert plane.pool.slots[0].fencings == 1
        assert "answers 1 of 8 test vectors of a wrongly" in plane.pool.slots[0].reason
        doubles[1].infer = wrong  # type: ignore[method-assign]
        await plane.unload_model("a")
        with pytest.raises(VerificationFailed, match="test vectors of a wrongly"):
            await plane.load_model("a")
        (entry,) = plane.index()
        assert entry["state"] == "UNAVAILABLE"
        assert "test vectors" in entry["reason"]

    with_plane(body, one_each("a"), devices=2)


def test_devices_are_closed_in_the_end_whatever_they_are_at() -> None:
    async def body(plane: DataPlane, doubles: Doubles) -> None:
        doubles[1].failure = DeviceTimeout("silent")
        with pytest.raises(ModelNotReady):
            await ask(plane, "b")

    doubles = with_plane(body, one_each("a", "b"), devices=2, preload=["a", "b"])
    assert [double.closed for double in doubles] == [True, True]


def test_metrics_tell_of_it() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    from gatesmith.serve.metrics import exposition

    async def body(plane: DataPlane, doubles: Doubles) -> None:
        doubles[0].failure = DeviceTimeout("silent")
        await asyncio.gather(*(ask(plane, "a", n) for n in range(20)))
        families = text_string_to_metric_families(exposition(plane).decode())
        samples: dict[tuple[str, str], Any] = {}
        for family in families:
            for sample in family.samples:
                key = sample.labels.get("device") or sample.labels.get("outcome") or sample.labels.get("le") or ""
                samples[sample.name, key] = sample.value
        assert samples["gatesmith_requests_total", "success"] == 20
        assert samples["gatesmith_request_seconds_bucket", "+Inf"] == 20
        assert samples["gatesmith_request_seconds_count", ""] == 20
        assert samples["gatesmith_device_fencings_total", "arithmetic:0"] == plane.pool.slots[0].fencings
        assert samples["gatesmith_samples_total", ""] == 20
        assert samples["gatesmith_batch_samples_bucket", "1.0"] == 20
        assert samples["gatesmith_requests_retried_total", ""] == plane.model("a").counts.retried
        assert samples["gatesmith_queue_samples", ""] == 0

    with_plane(body, one_each("a"), devices=2, preload=["a"], max_batch=1)
