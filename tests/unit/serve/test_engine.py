from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic

import numpy as np
import pytest
from firmwares import ArithmeticDevice, expected_payload, tiny_firmware
from numpy.typing import NDArray

from gatesmith.errors import (
    DeadlineExceeded,
    DeviceError,
    DeviceTimeout,
    FrameCorrupt,
    GatesmithError,
    ModelNotReady,
    Overloaded,
    TensorMismatch,
)
from gatesmith.serve.counts import Counts
from gatesmith.serve.deployment import Answer, Call, Deployment, Tensors
from gatesmith.serve.engine import DeviceWorker, Failure

FIRMWARE = tiny_firmware()


class Bench:
    """A deployment and workers on it; what fails is put back, as often as the test says."""

    def __init__(self, *, max_batch: int, max_waiting: int, delay_us: int, devices: int) -> None:
        self.deployment = Deployment(
            "iris",
            FIRMWARE.contract,
            max_batch=max_batch,
            max_waiting=max_waiting,
            delay_us=delay_us,
            counts=Counts(),
        )
        self.devices = [ArithmeticDevice(f"arithmetic:{i}") for i in range(devices)]
        self.at = 0
        self.failures: list[Failure] = []
        self.failed = asyncio.Event()
        self.workers = [DeviceWorker(device, on_failure=self._fail) for device in self.devices]

    @property
    def device(self) -> ArithmeticDevice:
        return self.devices[self.at]

    def _fail(self, failure: Failure) -> None:
        self.failures.append(failure)
        self.failed.set()

    def infer(self, count: int, start: int, *, priority: int = 0, timeout_us: int = 0) -> asyncio.Task[Answer]:
        return asyncio.ensure_future(
            self.deployment.infer(samples(count, start), count, priority=priority, timeout_us=timeout_us)
        )

    async def busy(self) -> asyncio.Task[Answer]:
        """A request that keeps ``device``, whichever that is, occupied until its ``hold`` is set."""
        for device in self.devices:
            device.hold.clear()
        first = self.infer(1, 0)
        while not any(device.entered.is_set() for device in self.devices):
            await asyncio.sleep(0)
        (self.at,) = (place for place, device in enumerate(self.devices) if device.entered.is_set())
        for device in self.devices:
            if device is not self.device:
                device.hold.set()
        return first


Body = Callable[[Bench], Awaitable[None]]


def with_bench(
    body: Body, *, max_batch: int = 8, max_waiting: int = 100, delay_us: int = 0, devices: int = 1
) -> list[ArithmeticDevice]:
    """Run a test's body in an event loop of its own."""

    async def main() -> list[ArithmeticDevice]:
        bench = Bench(max_batch=max_batch, max_waiting=max_waiting, delay_us=delay_us, devices=devices)
        try:
            for worker, device in zip(bench.workers, bench.devices, strict=True):
                await worker.do(lambda device=device: device.program(FIRMWARE))
                worker.attach(bench.deployment)
            await asyncio.wait_for(body(bench), 30)
        finally:
            for worker, device in zip(bench.workers, bench.devices, strict=True):
                device.hold.set()
                await worker.close(10)
        return bench.devices

    return asyncio.run(main())


def samples(count: int, start: int) -> dict[str, NDArray[np.float32]]:
    return {"x": (np.arange(count * 4, dtype=np.float32).reshape(count, 4) + start) % 20}


def expected(tensors: Tensors) -> list[list[float]]:
    payload = expected_payload(FIRMWARE.contract, FIRMWARE.contract.encode(tensors))
    answer: list[list[float]] = FIRMWARE.contract.decode(payload)["y"].tolist()
    return answer


def check(answer: Answer, count: int, start: int) -> None:
    assert answer.outputs["y"].tolist() == expected(samples(count, start))


def test_the_device_has_one_thread_and_is_closed_in_it() -> None:
    async def body(bench: Bench) -> None:
        for start in range(3):
            check(await bench.infer(2, start), 2, start)

    (device,) = with_bench(body)
    assert device.closed
    assert len(device.threads) == 1
    assert threading.get_ident() not in device.threads


def test_what_waits_is_combined_and_everyone_gets_his_own() -> None:
    async def body(bench: Bench) -> None:
        first = await bench.busy()
        sizes = [1, 3, 2, 5, 8, 7, 1]
        rest = [bench.infer(n, n) for n in sizes]
        await asyncio.sleep(0)
        bench.device.hold.set()
        await first
        for size, answer in zip(sizes, await asyncio.gather(*rest), strict=True):
            check(answer, size, size)
        assert bench.deployment.waiting == 0
        assert bench.deployment.counts.samples == 1 + sum(sizes)
        assert bench.deployment.counts.successes == 1 + len(sizes)

    (device,) = with_bench(body)
    assert device.calls == [1, 6, 5, 8, 8]  # never more than 8, in the order in which they came


def test_a_large_request_is_split_and_put_together() -> None:
    async def body(bench: Bench) -> None:
        check(await bench.infer(1000, 0), 1000, 0)

    (device,) = with_bench(body, max_batch=256)
    assert device.calls == [256, 256, 256, 232]


def test_devices_share_what_waits() -> None:
    async def body(bench: Bench) -> None:
        for device in bench.devices:
            device.hold.clear()
        task = bench.infer(24, 0)
        for device in bench.devices:
            assert await asyncio.to_thread(device.entered.wait, 10)  # all three are at it at the same time
        for device in bench.devices:
            device.hold.set()
        check(await task, 24, 0)

    assert [device.calls for device in with_bench(body, devices=3)] == [[8], [8], [8]]


def test_a_busy_device_gets_nothing_while_another_is_free() -> None:
    async def body(bench: Bench) -> None:
        first = await bench.busy()
        for start in range(5):
            check(await bench.infer(1, start), 1, start)
        bench.device.hold.set()
        await first

    calls = [device.calls for device in with_bench(body, devices=2)]
    assert sorted(calls) == [[1], [1] * 5]


def test_too_much_waiting_is_refused_and_recovers() -> None:
    async def body(bench: Bench) -> None:
        first = await bench.busy()
        second = bench.infer(9, 0)
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="10 samples wait for model iris, 10 may; try again later") as caught:
            await bench.infer(1, 0)
        assert caught.value.facts["retry_after_s"] == 1
        bench.device.hold.set()
        await asyncio.gather(first, second)
        await bench.infer(50, 0)  # an idle device takes a request of any size
        assert bench.deployment.counts.overloaded == 1

    with_bench(body, max_waiting=10)


def test_a_cancelled_request_is_not_computed() -> None:
    async def body(bench: Bench) -> None:
        first = await bench.busy()
        gone, stays = bench.infer(2, 1), bench.infer(2, 2)
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        bench.device.hold.set()
        await first
        check(await stays, 2, 2)
        assert bench.deployment.waiting == 0
        assert bench.deployment.counts.cancelled == 1

    (device,) = with_bench(body)
    assert device.calls == [1, 2]


def test_the_urgent_go_first() -> None:
    order: list[int] = []

    async def body(bench: Bench) -> None:
        first = await bench.busy()
        tasks = []
        for priority in (4, 3, 0, 2, 1, 99):  # unknown ones count as the default, which is 2
            task = bench.infer(1, priority, priority=priority)
            task.add_done_callback(lambda _, priority=priority: order.append(priority))
            tasks.append(task)
        await asyncio.sleep(0)
        bench.device.hold.set()
        await asyncio.gather(first, *tasks)

    with_bench(body, max_batch=1)
    assert order == [1, 0, 2, 99, 3, 4]


def test_an_urgent_request_does_not_wait_for_all_of_a_large_one() -> None:
    order: list[str] = []

    async def body(bench: Bench) -> None:
        first = await bench.busy()
        large, urgent = bench.infer(80, 0), bench.infer(1, 3, priority=1)
        large.add_done_callback(lambda _: order.append("large"))
        urgent.add_done_callback(lambda _: order.append("urgent"))
        await asyncio.sleep(0)
        bench.device.hold.set()
        await first
        check(await urgent, 1, 3)
        check(await large, 80, 0)

    with_bench(body)
    assert order == ["urgent", "large"]


def test_a_request_that_waited_too_long_is_refused_and_never_computed() -> None:
    async def body(bench: Bench) -> None:
        first = await bench.busy()
        with pytest.raises(DeadlineExceeded, match=r"waited \d+ us for a device, it allows 1000 us"):
            await bench.infer(3, 0, timeout_us=1000)  # the device is still held: it is told while it waits
        bench.device.hold.set()
        await first
        check(await bench.infer(2, 5, timeout_us=30_000_000), 2, 5)
        assert bench.deployment.waiting == 0
        assert bench.deployment.counts.expired == 1

    (device,) = with_bench(body)
    assert device.calls == [1, 2]


def test_a_device_finds_an_expired_request_before_the_loop_does() -> None:
    async def body(bench: Bench) -> None:
        first = await bench.busy()
        late = bench.infer(3, 0, timeout_us=1)
        await asyncio.sleep(0)
        for lane in bench.deployment._lanes:
            for call in lane:
                assert call.timer
                call.timer.cancel()
        bench.device.hold.set()
        await first
        with pytest.raises(DeadlineExceeded):
            await late
        assert bench.deployment.waiting == 0

    (device,) = with_bench(body)
    assert device.calls == [1]


def test_a_batch_may_be_waited_for() -> None:
    async def body(bench: Bench) -> None:
        begin = monotonic()
        three = [bench.infer(1, start) for start in range(3)]
        check(await three[0], 1, 0)
        assert monotonic() - begin >= 0.3
        await asyncio.gather(*three)
        full = [bench.infer(4, start) for start in range(2)]  # a full batch is not waited for
        await asyncio.gather(*full)

    (device,) = with_bench(body, delay_us=300_000)
    assert device.calls == [3, 8]


@pytest.mark.parametrize("failure", [DeviceTimeout("no answer after 2 s"), ZeroDivisionError("bug")])
def test_a_device_that_fails_takes_nothing_more_and_leaves_its_calls(failure: Exception) -> None:
    async def body(bench: Bench) -> None:
        bench.devices[0].failure = failure
        bench.devices[1].hold.clear()
        tasks = [bench.infer(1, start) for start in range(2)]  # one for each of the two
        await bench.failed.wait()
        assert bench.failures[0].error is failure
        bench.devices[1].hold.set()
        more = [bench.infer(1, start) for start in range(5)]
        await asyncio.gather(*more)  # by the other device
        bench.deployment.put_back(bench.failures[0].calls)
        for start, task in enumerate(tasks):
            check(await task, 1, start)

    assert len(with_bench(body, devices=2, max_batch=1)[0].calls) == 1


def test_a_request_that_the_device_refuses_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(bench: Bench) -> None:
        first = await bench.busy()
        good, bad = bench.infer(1, 1), bench.infer(1, 13)
        await asyncio.sleep(0)
        bench.device.hold.set()
        await first
        check(await good, 1, 1)
        with pytest.raises(TensorMismatch, match="unlucky"):
            await bad
        assert not bench.failures

    original = ArithmeticDevice.infer
    unlucky = FIRMWARE.contract.encode(samples(1, 13))[0]

    def refuse(self: ArithmeticDevice, payload: NDArray[np.uint8]) -> NDArray[np.uint8]:
        answer = original(self, payload)
        if (payload == unlucky).all(axis=1).any():
            raise TensorMismatch("unlucky")
        return answer

    monkeypatch.setattr(ArithmeticDevice, "infer", refuse)
    with_bench(body)


def test_a_short_answer_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(bench: Bench) -> None:
        task = bench.infer(2, 0)
        await bench.failed.wait()
        error = bench.failures[0].error
        assert isinstance(error, FrameCorrupt)
        assert "answered [1, 5] bytes, [2, 5] are needed" in str(error)
        bench.deployment.refuse(bench.failures[0].calls, error)
        with pytest.raises(FrameCorrupt):
            await task

    monkeypatch.setattr(ArithmeticDevice, "infer", lambda _self, payload: np.zeros((len(payload) - 1, 5), np.uint8))
    with_bench(body)


def test_a_thread_that_hangs_is_abandoned_and_what_it_brings_late_is_dropped() -> None:
    async def body(bench: Bench) -> None:
        task = await bench.busy()
        worker = bench.workers[bench.at]
        waiting = asyncio.ensure_future(worker.do(lambda: None))
        await asyncio.sleep(0)
        assert worker.overdue_at > monotonic() + 30
        failure = worker.abandon(DeviceTimeout("60 s are over"))
        with pytest.raises(DeviceTimeout, match="60 s are over"):
            await waiting
        assert failure
        bench.deployment.put_back(failure.calls)
        check(await task, 1, 0)
        bench.device.hold.set()
        await asyncio.to_thread(worker._thread.join, 10)
        assert bench.device.closed
        assert bench.deployment.counts.successes == 1

    with_bench(body, devices=2)


def test_a_device_that_hangs_does_not_keep_the_server_from_ending() -> None:
    async def body(bench: Bench) -> None:
        first = await bench.busy()
        await bench.workers[0].close(0.01)
        bench.device.hold.set()
        await first

    with_bench(body)


def test_what_waits_can_be_refused_while_a_device_takes_from_it() -> None:
    class Raced(deque[Call]):
        """A lane from which a device takes what is left, just when somebody else takes the first."""

        def popleft(self) -> Call:
            first = super().popleft()
            if not taken:
                taken.extend(self)
                self.clear()
            return first

    taken: list[Call] = []

    async def body(bench: Bench) -> None:
        first = await bench.busy()
        bench.deployment._lanes = tuple(Raced() for _ in bench.deployment._lanes)
        waiting = [bench.infer(1, start) for start in (1, 2, 3)]
        await asyncio.sleep(0)
        bench.deployment.refuse_waiting(ModelNotReady("too long"))
        with pytest.raises(ModelNotReady, match="too long"):
            await waiting[0]
        bench.deployment.put_back(taken)  # the device gives them up
        bench.device.hold.set()
        await asyncio.gather(first, *waiting[1:])

    with_bench(body)


def test_errors_of_tasks_belong_to_whoever_waits() -> None:
    async def body(bench: Bench) -> None:
        bench.device.failure = DeviceError("no")
        with pytest.raises(GatesmithError, match="no"):
            await bench.workers[0].do(lambda: bench.device.program(FIRMWARE))
        bench.device.failure = None
        check(await bench.infer(1, 0), 1, 0)

    with_bench(body)
