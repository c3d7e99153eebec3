from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from firmwares import ArithmeticDevice, expected_payload, tiny_firmware
from numpy.typing import NDArray

from gatesmith.errors import DeviceTimeout, FrameCorrupt, GatesmithError, ModelNotReady, Overloaded
from gatesmith.serve.engine import DeviceWorker, Tensors

FIRMWARE = tiny_firmware()
Body = Callable[[DeviceWorker, ArithmeticDevice], Awaitable[None]]


def with_worker(body: Body, *, max_batch: int = 8, max_waiting: int = 100) -> ArithmeticDevice:
    """Run a test's body against a worker in an event loop of its own."""
    device = ArithmeticDevice()

    async def main() -> None:
        worker = DeviceWorker(device, FIRMWARE, max_batch=max_batch, max_waiting=max_waiting)
        try:
            await worker.program()
            await asyncio.wait_for(body(worker, device), 30)
        finally:
            device.hold.set()
            await worker.close(10)

    asyncio.run(main())
    return device


def samples(count: int, start: int) -> dict[str, NDArray[np.float32]]:
    return {"x": (np.arange(count * 4, dtype=np.float32).reshape(count, 4) + start) % 20}


def expected(tensors: Tensors) -> list[list[float]]:
    payload = expected_payload(FIRMWARE.contract, FIRMWARE.contract.encode(tensors))
    answer: list[list[float]] = FIRMWARE.contract.decode(payload)["y"].tolist()
    return answer


async def busy(worker: DeviceWorker, device: ArithmeticDevice) -> asyncio.Task[Tensors]:
    """A request that keeps the device occupied until ``hold`` is set."""
    device.hold.clear()
    first = asyncio.create_task(worker.infer(samples(1, 0), 1))
    assert await asyncio.to_thread(device.entered.wait, 10)
    return first


def test_the_device_has_one_thread_and_is_closed_in_it() -> None:
    async def body(worker: DeviceWorker, _device: ArithmeticDevice) -> None:
        for start in range(3):
            answer = await worker.infer(samples(2, start), 2)
            assert answer["y"].tolist() == expected(samples(2, start))

    device = with_worker(body)
    assert device.closed
    assert len(device.threads) == 1
    assert threading.get_ident() not in device.threads


def test_what_waits_is_combined_and_everyone_gets_his_own() -> None:
    async def body(worker: DeviceWorker, device: ArithmeticDevice) -> None:
        first = await busy(worker, device)
        sizes = [1, 3, 2, 5, 8, 9, 1]
        rest = [asyncio.create_task(worker.infer(samples(n, n), n)) for n in sizes]
        await asyncio.sleep(0)
        device.hold.set()
        await first
        for size, answer in zip(sizes, await asyncio.gather(*rest), strict=True):
            assert answer["y"].tolist() == expected(samples(size, size))

    device = with_worker(body)
    assert device.calls == [1, 6, 5, 8, 9, 1]  # never more than 8 combined; one larger request goes alone


def test_a_large_request_is_sent_in_slices_and_put_together() -> None:
    async def body(worker: DeviceWorker, _device: ArithmeticDevice) -> None:
        answer = await worker.infer(samples(10_000, 0), 10_000)
        assert answer["y"].tolist() == expected(samples(10_000, 0))

    assert with_worker(body).calls == [4096, 4096, 1808]


def test_too_much_waiting_is_refused_and_recovers() -> None:
    async def body(worker: DeviceWorker, device: ArithmeticDevice) -> None:
        first = await busy(worker, device)
        second = asyncio.create_task(worker.infer(samples(9, 0), 9))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="10 samples wait for device arithmetic:0, 10 may; try again later"):
            await worker.infer(samples(1, 0), 1)
        device.hold.set()
        await asyncio.gather(first, second)
        await worker.infer(samples(50, 0), 50)  # an idle device takes a request of any size

    with_worker(body, max_waiting=10)


def test_a_cancelled_request_is_not_computed() -> None:
    async def body(worker: DeviceWorker, device: ArithmeticDevice) -> None:
        first = await busy(worker, device)
        gone, stays = (asyncio.create_task(worker.infer(samples(2, n), 2)) for n in (1, 2))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        device.hold.set()
        await first
        assert (await stays)["y"].tolist() == expected(samples(2, 2))

    assert with_worker(body).calls == [1, 2]


@pytest.mark.parametrize(
    ("failure", "seen", "message"),
    [
        (DeviceTimeout("no answer after 2 s"), DeviceTimeout, "no answer after 2 s"),
        (
            ZeroDivisionError("bug"),
            GatesmithError,
            "device arithmetic:0 failed: ZeroDivisionError; see the server's log",
        ),
    ],
)
def test_a_failure_reaches_its_requests_and_no_others(failure: Exception, seen: type[Exception], message: str) -> None:
    async def body(worker: DeviceWorker, device: ArithmeticDevice) -> None:
        device.failure = failure
        with pytest.raises(seen) as caught:
            await worker.infer(samples(1, 0), 1)
        assert str(caught.value) == message
        device.failure = None
        await worker.infer(samples(1, 0), 1)

    with_worker(body)


def test_a_short_answer_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(worker: DeviceWorker, _device: ArithmeticDevice) -> None:
        with pytest.raises(FrameCorrupt, match=r"answered \[1, 5\] bytes, \[2, 5\] are needed"):
            await worker.infer(samples(2, 0), 2)

    monkeypatch.setattr(ArithmeticDevice, "infer", lambda _self, payload: np.zeros((len(payload) - 1, 5), np.uint8))
    with_worker(body)


def test_a_device_that_hangs_does_not_keep_the_server_from_ending() -> None:
    device = ArithmeticDevice()

    async def main() -> None:
        worker = DeviceWorker(device, FIRMWARE, max_batch=1, max_waiting=1)
        await worker.program()
        first = await busy(worker, device)
        await worker.close(0.01)
        with pytest.raises(ModelNotReady, match="the server is stopping"):
            await worker.infer(samples(1, 0), 1)
        device.hold.set()
        await first

    asyncio.run(main())
