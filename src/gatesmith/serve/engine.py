"""One thread for each device, and the only place where async code and blocking devices meet.

The thread takes calls from the queue of the model that its device runs, makes one device call of them, and hands all
answers back in one wake-up of the event loop. Encoding and decoding happen in the thread too, once for a batch.

A device that waits for nothing needs no crossing: while its thread sleeps, small batches run on the event loop.
Whoever uses the device has the worker's ``_turn``; the thread lets go of it only to sleep.

When the device fails, the thread takes nothing more: the pool decides what becomes of device and calls. A thread that
does not come back from its device is abandoned; whatever it brings later is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from time import monotonic, perf_counter_ns
from typing import Any, Final, NamedTuple, TypeVar

from gatesmith.devices.device import Device
from gatesmith.errors import DeviceTimeout, FrameCorrupt, GatesmithError, InferenceError
from gatesmith.serve.deployment import Call, Deployment, Done, joined

__all__ = ["DeviceWorker", "Failure"]

T = TypeVar("T")
HERE_BYTES: Final = 4096
"""Most bytes, in and out, of what is run on the event loop: tens of microseconds."""
_log = logging.getLogger(__name__)


class Failure(NamedTuple):
    """A device failed while it ran calls of a deployment; nobody has answered these yet."""

    deployment: Deployment
    calls: list[Call]
    error: BaseException


class _Outcome(NamedTuple):
    """What the event loop is to do about calls that were run."""

    settle: Callable[..., None]
    arguments: tuple[Any, ...]
    is_urgent: bool  # it cannot wait until the thread knows what it does next


class _Task(NamedTuple):
    work: Callable[[], Any]
    future: asyncio.Future[Any]
    limit_s: float


class DeviceWorker:
    """The thread that owns a device; every method belongs to the event loop that made it.

    Parameters
    ----------
    on_failure : callable
        Called on the event loop when the device failed.
    limit_s : float
        How long a device call may take.
    parameters : mapping
        What answers from this device carry.

    Attributes
    ----------
    overdue_at : float
        ``time.monotonic()`` at which what runs now has taken too long; infinite when nothing runs.
    device_ns : int
        Time in device calls that ended well.
    """

    def __init__(
        self,
        device: Device,
        *,
        on_failure: Callable[[Failure], None],
        limit_s: float = 60.0,
        parameters: Mapping[str, str | int | bool] | None = None,
    ) -> None:
        self.device, self._on_failure, self.parameters = device, on_failure, parameters or {}
        self.overdue_at, self.device_ns, self._limit_s = math.inf, 0, limit_s
        self.deployment: Deployment | None = None
        self._loop = asyncio.get_running_loop()
        self._tasks: deque[_Task] = deque()
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._turn = threading.Lock()
        self._crowded = False  # the last batch had more than one call
        self._is_first = True  # nothing was run on the loop in this round of it
        self._current: Failure | None = None
        self._result: _Outcome | None = None
        self._dropped: list[Call] | None = None
        self._task: _Task | None = None
        self._abandoned = self._ended = False
        # A daemon, so that a device that hangs cannot keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"device {device.id}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """See :class:`gatesmith.serve.deployment.Taker`."""
        # Where many come at once, not before all of them are read: they belong into one batch, and a thread that wakes
        # now would contend for the interpreter with the loop that reads.
        if self._crowded:
            self._loop.call_soon(self._look)
        else:
            self._look()

    async def do(self, work: Callable[[], T], *, limit_s: float | None = None) -> T:
        """Run something in the device's thread, after what it is at; ``limit_s`` is how long it may take.

        Raises
        ------
        DeviceTimeout
            When the thread was abandoned; and whatever the work raises.
        """
        result: T = await self._put(work, limit_s or self._limit_s)
        return result

    def attach(self, deployment: Deployment) -> None:
        """Take calls of this deployment from now on."""
        self.deployment = deployment
        self._wakes.put(None)

    async def detach(self) -> None:
        """Take no more calls; what the device is at ends first."""
        deployment, self.deployment = self.deployment, None
        await self.do(lambda: None)
        if deployment is not None:
            deployment.poke()

    async def close(self, timeout_s: float) -> None:
        """Give the device back and end the thread; a device that hangs is left behind after the time."""
        if self._ended:
            return
        closed = self._put(self.device.close, self._limit_s)
        self._ended, self.deployment = True, None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closed, timeout_s)

    def abandon(self, error: DeviceTimeout) -> Failure | None:
        """Leave the thread to its fate; gives what it was at. When it ever comes back, it closes the device."""
        self._abandoned = self._ended = True
        self.deployment = None
        with contextlib.suppress(Exception):
            self.device.abort()
        for task in (self._task, *self._tasks):
            if task is not None:
                _settle(task.future, None, error)
        self._tasks.clear()
        self._wakes.put(None)
        current = self._current
        if current is None:
            return None
        self._dropped = current.calls
        return current._replace(error=error)

    def _put(self, work: Callable[[], Any], limit_s: float) -> asyncio.Future[Any]:
        task = _Task(work, self._loop.create_future(), limit_s)
        self._tasks.append(task)
        self._wakes.put(None)
        return task.future

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs; an abandoned one may hold its device as long as it does."""
        return self._thread.is_alive()

    def _look(self) -> None:
        """Run what waits on the event loop, or let the thread do it."""
        if self.device.waits or not self._look_here():
            self._wakes.put(None)

    def _look_here(self) -> bool:
        deployment, done = self.deployment, False
        small = deployment is not None and deployment.waiting * deployment.sample_bytes <= HERE_BYTES
        if deployment is not None and small and not self._tasks and self._turn.acquire(blocking=False):
            try:
                done = self._run_here(deployment)
            finally:
                self._turn.release()
        return done

    def _run_here(self, deployment: Deployment) -> bool:
        """Whether all was run, and the thread may sleep on."""
        deployment.rise(self)
        calls, over, wait_s = deployment.take()
        deployment.forget(over)
        if calls:
            outcome = self._run_calls(deployment, calls)
            if self._is_first:
                self._is_first = False
                self._loop.call_soon(self._next_round)
            else:
                self._crowded = True
            if outcome.is_urgent:  # whoever queued these calls may still be at it
                self._loop.call_soon(outcome.settle, *outcome.arguments)
            else:
                outcome.settle(*outcome.arguments)
        # Before the thread may wake: it must find itself among the idle, once.
        return not wait_s and self.deployment is deployment and deployment.rest(self)

    def _next_round(self) -> None:
        self._is_first = True

    # From here on: the device's thread, up to where the loop is called.

    def _run(self) -> None:
        with self._turn:
            self._work()
        if self._abandoned:
            with contextlib.suppress(Exception):
                self.device.close()

    def _work(self) -> None:
        while True:
            while self._tasks:
                self._flush()
                self._run_task(self._tasks.popleft())
            deployment = self.deployment
            if deployment is None:
                self._flush()
                if self._ended and not self._tasks:
                    return
                self._sleep()
                continue
            calls, over, wait_s = deployment.take()
            if over:
                self._tell(deployment.forget, over)
            if calls:
                self._flush()
                self._result = self._run_calls(deployment, calls)
                if self._result.is_urgent:
                    self._flush()
            elif not over:
                self._idle(deployment, wait_s)

    def _idle(self, deployment: Deployment, wait_s: float) -> None:
        """Say so first and hand results over then: between that and sleep, the loop waits for the interpreter."""
        resting = deployment.rest(self)
        self._flush()
        if wait_s:
            self._sleep(wait_s)
        elif resting:
            self._sleep()
        deployment.rise(self)

    def _sleep(self, seconds: float | None = None) -> None:
        """Until something is to be done, or for so long; the device may be used meanwhile."""
        self._turn.release()
        with contextlib.suppress(Empty):
            self._wakes.get(timeout=seconds)
        self._turn.acquire()

    def _flush(self) -> None:
        """Hand over what the device answered last."""
        result = self._result
        if result is not None:
            self._result = None
            self._tell(result.settle, *result.arguments)

    def _run_task(self, task: _Task) -> None:
        result, error = None, None
        self._task, self.overdue_at = task, monotonic() + task.limit_s
        try:
            result = task.work()
        except BaseException as caught:  # a device's bug belongs to whoever waits
            error = caught
        self._task, self.overdue_at = None, math.inf
        self._tell(_settle, task.future, result, error)

    def _run_calls(self, deployment: Deployment, calls: list[Call]) -> _Outcome:
        self._current = current = Failure(deployment, calls, TimeoutError())
        self._crowded = len(calls) > 1
        self.overdue_at = monotonic() + self._limit_s
        try:
            return _Outcome(self._deliver, (current, self._compute(deployment, calls)), False)
        except InferenceError as error:  # the request's fault and not the device's
            return _Outcome(self._refused, (current, error), True)
        except BaseException as error:
            if not isinstance(error, GatesmithError):
                _log.exception("device %s failed in an unexpected way", self.device.id)
            self.deployment = None
            return _Outcome(self._failed, (current._replace(error=error),), True)
        finally:
            self.overdue_at, self._current = math.inf, None

    def _compute(self, deployment: Deployment, calls: list[Call]) -> Done:
        contract = deployment.contract
        begin_ns = perf_counter_ns()
        if len(calls) == 1:
            tensors, samples = calls[0].tensors, calls[0].samples
        else:
            tensors, samples = joined([call.tensors for call in calls]), sum([call.samples for call in calls])
        payload = contract.encode(tensors)
        encoded_ns = perf_counter_ns()
        answer = self.device.infer(payload)
        answered_ns = perf_counter_ns()
        if answer.shape != (samples, deployment.output_bytes):
            raise FrameCorrupt(
                f"device {self.device.id} answered {list(answer.shape)} bytes, "
                f"{[samples, deployment.output_bytes]} are needed"
            )
        outputs = contract.decode(answer)
        end_ns = perf_counter_ns()
        return Done(outputs, begin_ns, encoded_ns - begin_ns, answered_ns - encoded_ns, end_ns - answered_ns)

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop has ended: nobody waits any more
            return

    # From here on: the event loop.

    def _deliver(self, current: Failure, done: Done) -> None:
        if current.calls is not self._dropped:
            self.device_ns += done.infer_ns
            current.deployment.deliver(current.calls, done, self.parameters)

    def _refused(self, current: Failure, error: InferenceError) -> None:
        if current.calls is self._dropped:
            return
        if len(current.calls) > 1:  # one of them is wrong; the others must not suffer
            current.deployment.put_back(current.calls, alone=True)
        else:
            current.deployment.refuse(current.calls, error)

    def _failed(self, failure: Failure) -> None:
        if failure.calls is not self._dropped:
            self._on_failure(failure)


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():  # cancelled: nobody waits any more
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
