"""One thread for each device, and the only place where async code and blocking devices meet.

A coroutine hands tensors over and waits for a future; the thread takes all that queued while the device was busy,
makes one device call of it, and hands all answers back in one wake-up of the event loop. There is no timer: an idle
device starts at once. Encoding and decoding happen in the thread too, once for a combined batch.
"""

# Ref: Triton dynamic batcher with max_queue_delay_microseconds = 0 has the same rule: batch what queued meanwhile

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gatesmith.devices.device import Device
from gatesmith.errors import FrameCorrupt, GatesmithError, ModelNotReady, Overloaded
from gatesmith.firmware import Firmware

__all__ = ["DeviceWorker", "Tensors"]

Tensors = Mapping[str, NDArray[Any]]
_SLICE = 4096
"""Samples that are encoded at once: bounds what a large request takes in memory beside its own tensors."""
_log = logging.getLogger(__name__)


class _Call(NamedTuple):
    tensors: Tensors
    samples: int
    future: asyncio.Future[Tensors]


class _Task(NamedTuple):
    work: Callable[[], None]
    future: asyncio.Future[None]
    last: bool = False


class DeviceWorker:
    """The thread that owns a device; every method belongs to the event loop that made it.

    Parameters
    ----------
    max_batch : int
        Most samples of different requests that one device call combines.
    max_waiting : int
        Most samples that may wait; one request alone may be larger.
    """

    def __init__(self, device: Device, firmware: Firmware, *, max_batch: int, max_waiting: int) -> None:
        self._device, self._firmware = device, firmware
        self._max_batch, self._max_waiting = max_batch, max_waiting
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Call | _Task] = SimpleQueue()
        self._waiting = 0
        self._closed = False
        # A daemon, so that a device that hangs cannot keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"device {device.id}", daemon=True)
        self._thread.start()

    async def program(self) -> None:
        """Make the device run the firmware."""
        await self._do(lambda: self._device.program(self._firmware))

    async def infer(self, tensors: Tensors, samples: int) -> Tensors:
        """Run checked tensors, each of shape (samples, ...), and give the outputs.

        Raises
        ------
        Overloaded
            When too many samples wait already.
        ModelNotReady
            When the server is stopping.
        DeviceError
        """
        if self._closed:
            raise ModelNotReady(f"device {self._device.id} was given back: the server is stopping")
        if self._waiting and self._waiting + samples > self._max_waiting:
            raise Overloaded(
                f"{self._waiting} samples wait for device {self._device.id}, {self._max_waiting} may; try again later",
                waiting=self._waiting,
                limit=self._max_waiting,
            )
        future: asyncio.Future[Tensors] = self._loop.create_future()
        self._waiting += samples
        self._queue.put(_Call(tensors, samples, future))
        return await future

    async def close(self, timeout_s: float) -> None:
        """Give the device back and end the thread; a device that hangs is left behind after the time."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._do(self._device.close, last=True), timeout_s)

    async def _do(self, work: Callable[[], None], *, last: bool = False) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        self._queue.put(_Task(work, future, last))
        await future

    # From here on: the device's thread, up to where the loop is called.

    def _run(self) -> None:
        job: _Call | _Task | None = None
        while True:
            job = job or self._queue.get()
            if isinstance(job, _Task):
                self._run_task(job)
                if job.last:
                    return
                job = None
            else:
                calls, job = self._gather(job)
                self._run_calls(calls)

    def _gather(self, first: _Call) -> tuple[list[_Call], _Call | _Task | None]:
        """All calls that wait and fit in one batch, and the job that did not."""
        calls, samples = [first], first.samples
        while samples < self._max_batch:
            try:
                job = self._queue.get_nowait()
            except Empty:
                break
            if isinstance(job, _Task) or samples + job.samples > self._max_batch:
                return calls, job
            calls.append(job)
            samples += job.samples
        return calls, None

    def _run_task(self, task: _Task) -> None:
        error: BaseException | None = None
        try:
            task.work()
        except BaseException as caught:  # a device's bug belongs to whoever waits
            error = caught
        self._wake(_settle, task.future, None, error)

    def _run_calls(self, calls: list[_Call]) -> None:
        live = [call for call in calls if not call.future.cancelled()]
        answer: Tensors | GatesmithError
        try:
            answer = self._compute(live) if live else {}
        except GatesmithError as error:
            answer = error
        except BaseException as error:  # a device's bug must not take the server with it
            _log.exception("device %s failed in an unexpected way", self._device.id)
            answer = GatesmithError(f"device {self._device.id} failed: {type(error).__name__}; see the server's log")
        self._wake(self._deliver, calls, live, answer)

    def _compute(self, calls: list[_Call]) -> Tensors:
        tensors = _joined([call.tensors for call in calls])
        samples = sum(call.samples for call in calls)
        if samples <= _SLICE:
            return self._compute_slice(tensors, samples)
        parts = []
        for start in range(0, samples, _SLICE):
            part = {name: values[start : start + _SLICE] for name, values in tensors.items()}
            parts.append(self._compute_slice(part, min(_SLICE, samples - start)))
        return _joined(parts)

    def _compute_slice(self, tensors: Tensors, samples: int) -> Tensors:
        contract = self._firmware.contract
        answer = self._device.infer(contract.encode(tensors))
        if answer.shape != (samples, contract.output_bytes):
            raise FrameCorrupt(
                f"device {self._device.id} answered {list(answer.shape)} bytes, "
                f"{[samples, contract.output_bytes]} are needed"
            )
        return contract.decode(answer)

    def _wake(self, function: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(function, *arguments)

    # From here on: the event loop.

    def _deliver(self, calls: list[_Call], live: list[_Call], answer: Tensors | GatesmithError) -> None:
        self._waiting -= sum(call.samples for call in calls)
        start = 0
        for call in live:
            stop = start + call.samples
            if isinstance(answer, GatesmithError):
                _settle(call.future, None, answer)
            else:
                part = answer if len(live) == 1 else {name: values[start:stop] for name, values in answer.items()}
                _settle(call.future, part, None)
            start = stop


def _joined(parts: list[Tensors]) -> Tensors:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():  # cancelled: its client went away
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
