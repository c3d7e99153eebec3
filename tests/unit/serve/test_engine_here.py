"""Devices that wait for nothing, and run on the event loop: everything but the thread is as with any other device."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from firmwares import ArithmeticDevice, tiny_firmware
from numpy.typing import NDArray
from planes import ask, check, one_each, with_plane

from gatesmith.errors import DeadlineExceeded, DeviceTimeout, FrameCorrupt, GatesmithError, TensorMismatch
from gatesmith.serve.counts import Counts
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.deployment import Deployment
from gatesmith.serve.engine import HERE_BYTES, DeviceWorker, Failure

FIRMWARE = tiny_firmware()
CONTRACT = FIRMWARE.contract


class Prompt(ArithmeticDevice):
    """Knows where it was called, and that it is never called twice at the same time."""

    waits = False

    def __init__(self, address: str = "arithmetic:0") -> None:
        super().__init__(address)
        self.callers: list[int] = []
        self.unlucky = -1.0
        self._free = threading.Lock()

    def infer(self, payload: NDArray[np.uint8]) -> NDArray[np.uint8]:
        assert self._free.acquire(blocking=False), "called in two places"
        try:
            self.callers.append(threading.get_ident())
            bad = CONTRACT.encode({"x": np.full((1, 4), self.unlucky, np.float32)})
            if (payload == bad).all(axis=1).any():
                raise TensorMismatch("unlucky")
            return super().infer(payload)
        finally:
            self._free.release()


class Waiting(Prompt):
    """The same with a thread."""

    waits = True


class Bench:
    def __init__(self, devices: list[Prompt], *, delay_us: int = 0, max_batch: int = 8) -> None:
        self.counts = Counts()
        self.deployment = Deployment(
            "iris", CONTRACT, max_batch=max_batch, max_waiting=10_000, delay_us=delay_us, counts=self.counts
        )
        self.devices, self.failures = devices, list[Failure]()
        self.workers = [DeviceWorker(device, on_failure=self.failures.append) for device in devices]
        self.loop_thread = threading.get_ident()

    def infer(self, count: int, value: float, *, priority: int = 0, timeout_us: int = 0) -> asyncio.Task[list[float]]:
        async def run() -> list[float]:
            tensors = {"x": np.full((count, 4), value, np.float32)}
            answer = await self.deployment.infer(tensors, count, priority=priority, timeout_us=timeout_us)
            got: list[float] = answer.outputs["y"].ravel().tolist()
            return got

        return asyncio.ensure_future(run())


def wanted(count: int, value: float) -> list[float]:
    """Scale 1, 2, 1, 0.5; the third has 1 added; sums saturate at the format's end."""
    total = round(value * 16) * 4.5 / 16 + 1
    return [min(total + place / 16, 2047 / 16) for place in range(3)] * count


def with_bench(body: Callable[[Bench], Awaitable[None]], *devices: Prompt, delay_us: int = 0) -> None:
    async def main() -> None:
        bench = Bench(list(devices), delay_us=delay_us)
        try:
            for worker in bench.workers:
                await worker.do(lambda worker=worker: worker.device.program(FIRMWARE))  # type: ignore[misc]
                worker.attach(bench.deployment)
            await asyncio.wait_for(body(bench), 30)
        finally:
            for worker, device in zip(bench.workers, devices, strict=True):
                device.hold.set()
                await worker.close(10)

    asyncio.run(main())


async def settled(bench: Bench) -> None:
    """The devices' threads have gone to sleep."""
    async with asyncio.timeout(10):
        while not all(worker in bench.deployment._idle and _sleeps(worker) for worker in bench.workers):
            await asyncio.sleep(0)


def _sleeps(worker: DeviceWorker) -> bool:
    return worker._wakes.empty() and not worker._turn.locked()


def test_a_request_is_run_at_once_and_many_as_one_batch() -> None:
    device = Prompt()

    async def body(bench: Bench) -> None:
        await settled(bench)
        for moment in range(2):
            tasks = [bench.infer(1, value) for value in range(moment, moment + 5)]
            assert await asyncio.gather(*tasks) == [wanted(1, value) for value in range(moment, moment + 5)]
        assert device.calls == [1, 1, 3, 5]  # the second one in a round of the loop says that there are more
        for _ in range(2):
            assert await bench.infer(2, 7) == wanted(2, 7)
        assert device.calls == [1, 1, 3, 5, 2, 2]
        assert set(device.callers) == {bench.loop_thread}
        assert bench.counts.samples == 14
        assert bench.counts.batches == 6
        assert bench.counts.infer_ns > 0
        assert bench.workers[0].device_ns == bench.counts.infer_ns
        assert bench.deployment.waiting == 0

    with_bench(body, device)
    assert device.closed
    assert len(device.threads) == 2  # programmed and closed in its own thread


def test_what_takes_long_goes_to_the_thread() -> None:
    device = Prompt()

    async def body(bench: Bench) -> None:
        await settled(bench)
        count = HERE_BYTES // bench.deployment.sample_bytes + 1
        assert await bench.infer(count, 1) == wanted(count, 1)
        assert bench.loop_thread not in device.callers
        await settled(bench)
        assert await bench.infer(1, 1) == wanted(1, 1)
        assert device.callers[-1] == bench.loop_thread

    with_bench(body, device)


def test_while_its_thread_has_the_device_the_loop_does_not_wait_for_it() -> None:
    device, go, begun = Prompt(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go.wait(10)

    async def body(bench: Bench) -> None:
        await settled(bench)
        task = asyncio.ensure_future(bench.workers[0].do(work))
        request = bench.infer(1, 3)
        while not begun.is_set():
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not request.done()
        go.set()
        await task
        assert await request == wanted(1, 3)

    with_bench(body, device)


@pytest.mark.parametrize("kind", [Prompt, Waiting])
@pytest.mark.parametrize("devices", [1, 3])
def test_any_mixture_of_requests_and_work_is_answered_the_same(kind: type[Prompt], devices: int) -> None:
    """The same script for both kinds; the double sees to it that nobody else is at it."""
    random = np.random.default_rng(devices)
    script = random.integers(0, 40, (300, 2)).tolist()

    async def body(bench: Bench) -> None:
        tasks: list[tuple[int, int, asyncio.Task[list[float]]]] = []
        others: list[asyncio.Future[None]] = []
        for step, (value, choice) in enumerate(script):
            count = 1 + choice % 4 if choice else 30
            tasks.append((count, value, bench.infer(count, value, priority=choice % 6, timeout_us=choice * 10**8)))
            if choice == 7:
                others.append(asyncio.ensure_future(bench.workers[step % devices].do(lambda: None)))
            if choice % 3 == 0:
                await asyncio.sleep(0)
        for count, value, task in tasks:
            assert await task == wanted(count, value)
        await asyncio.gather(*others)
        assert bench.counts.samples == sum(count for count, _, _ in tasks)
        assert bench.counts.successes == sum(-(-count // 8) for count, _, _ in tasks)
        assert bench.deployment.waiting == 0
        await bench.deployment.drained()
        assert not bench.failures
        for worker in bench.workers:
            await worker.detach()
        assert not bench.deployment._idle

    with_bench(body, *(kind(f"arithmetic:{i}") for i in range(devices)))


@pytest.mark.parametrize("kind", [Prompt, Waiting])
def test_what_is_over_is_not_run(kind: type[Prompt]) -> None:
    device = kind()

    async def body(bench: Bench) -> None:
        await settled(bench)
        go = threading.Event()
        other = asyncio.ensure_future(bench.workers[0].do(lambda: go.wait(10)))
        await asyncio.sleep(0)
        late, gone, stays = bench.infer(1, 1, timeout_us=1000), bench.infer(1, 2), bench.infer(1, 3)
        with pytest.raises(DeadlineExceeded):
            await late
        gone.cancel()
        go.set()
        await other
        assert await stays == wanted(1, 3)
        assert (bench.counts.expired, bench.counts.cancelled, bench.counts.successes) == (1, 1, 1)
        assert bench.deployment.waiting == 0

    with_bench(body, device)
    assert device.calls == [1]


@pytest.mark.parametrize("kind", [Prompt, Waiting])
def test_a_batch_may_be_waited_for(kind: type[Prompt]) -> None:
    device = kind()

    async def body(bench: Bench) -> None:
        await asyncio.gather(*(bench.infer(1, value) for value in range(3)))
        await asyncio.gather(*(bench.infer(4, value) for value in range(2)))

    with_bench(body, device, delay_us=20_000)
    assert device.calls == [3, 8]


@pytest.mark.parametrize("kind", [Prompt, Waiting])
def test_a_request_that_the_device_refuses_harms_no_other(kind: type[Prompt]) -> None:
    device = kind()

    async def body(bench: Bench) -> None:
        device.unlucky = 13.0
        tasks = [bench.infer(1, value) for value in (12, 13, 14)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[0] == wanted(1, 12)
        assert isinstance(results[1], TensorMismatch)
        assert results[2] == wanted(1, 14)
        assert not bench.failures

    with_bench(body, device)


@pytest.mark.parametrize("kind", [Prompt, Waiting])
@pytest.mark.parametrize("failure", [DeviceTimeout("silent"), FrameCorrupt("noise"), ZeroDivisionError("a bug")])
def test_a_device_that_fails_takes_nothing_more(
    monkeypatch: pytest.MonkeyPatch, kind: type[Prompt], failure: Exception
) -> None:
    monkeypatch.setattr(ArithmeticDevice, "waits", kind.waits)

    async def body(plane: DataPlane, doubles: list[ArithmeticDevice]) -> None:
        for n in range(3):
            check(await ask(plane, "a", n), n)
        for double in doubles:
            double.failure = failure
        doubles[-1].failure = None
        answers = await asyncio.gather(*(ask(plane, "a", n) for n in range(20)))
        for n, answer in enumerate(answers):
            check(answer, n)
        assert plane.model("a").ready
        assert all(slot.fencings <= 1 for slot in plane.pool.slots)
        doubles[-1].failure = failure
        with pytest.raises(GatesmithError):  # when the last one has failed too
            await asyncio.gather(*(ask(plane, "a") for _ in range(10)))

    with_plane(body, one_each("a"), devices=3, preload=["a"], max_batch=1)
