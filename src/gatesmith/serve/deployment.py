"""One queue for each served model version; the threads of its devices take from it.

A device that is free takes what waits, so the least busy one gets the next request and nobody has to choose. There is
no timer on the way: an idle device starts at once, a busy one takes all that came meanwhile, up to ``max_batch``.

Lists are shared between the event loop and the devices' threads without a lock. Both sides announce first and look
afterwards: the loop queues a call, then looks for an idle device; a device says that it is idle, then looks for calls.
One of the two sees the other; a wake-up too many costs a look. Numbers are changed on the event loop alone.
"""

# Ref: Triton dynamic batcher with max_queue_delay_microseconds = 0 has the same rule: batch what queued meanwhile
# Ref: Triton "schedule_policy" extension: priority 1 is the highest, 0 and unknown ones mean the default, timeout in us

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter_ns
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gatesmith.contract import Contract
from gatesmith.errors import DeadlineExceeded, GatesmithError, ModelNotReady, Overloaded
from gatesmith.serve.counts import Counts

__all__ = ["DEFAULT_PRIORITY", "PRIORITIES", "Answer", "Call", "Deployment", "Done", "Tensors", "joined", "not_ready"]

Tensors = Mapping[str, NDArray[Any]]
PRIORITIES: Final = 4
DEFAULT_PRIORITY: Final = 2


class Answer(NamedTuple):
    """Output tensors, each of shape (batch, ...), and what else the client should know, normally nothing."""

    outputs: Tensors
    parameters: Mapping[str, str | int | bool]


class Done(NamedTuple):
    """What a device made of some calls; the three times are nanoseconds."""

    outputs: Tensors
    begin_ns: int
    input_ns: int
    infer_ns: int
    output_ns: int


class Taker(Protocol):
    """Whatever takes calls, in a thread of its own."""

    def wake(self) -> None:
        """Look for calls again; once too often does no harm."""


class Call:
    """Checked tensors that wait for a device, each of shape (samples, ...)."""

    __slots__ = ("alone", "attempts", "expires_ns", "future", "lane", "samples", "since_ns", "tensors", "timer")

    def __init__(
        self, tensors: Tensors, samples: int, future: asyncio.Future[Answer], lane: deque[Call], since_ns: int
    ) -> None:
        self.tensors, self.samples, self.future, self.lane, self.since_ns = tensors, samples, future, lane, since_ns
        self.expires_ns = 0
        self.timer: asyncio.TimerHandle | None = None
        self.attempts = 0
        self.alone = False


class Deployment:
    """Calls for one version of one model.

    Parameters
    ----------
    name : str
        The model's, for messages.
    max_batch : int
        Most samples in one device call.
    max_waiting : int
        Most samples that may wait; one request alone may be larger.
    delay_us : int
        How long a device may wait for a batch to fill.

    Attributes
    ----------
    waiting : int
        Samples that wait or are being computed.
    output_bytes, sample_bytes : int
        Bytes of a sample coming out of a device, and both ways together.
    """

    def __init__(
        self, name: str, contract: Contract, *, max_batch: int, max_waiting: int, delay_us: int = 0, counts: Counts
    ) -> None:
        self.name, self.contract, self.counts = name, contract, counts
        self.max_batch, self.max_waiting, self._delay_ns = max_batch, max_waiting, delay_us * 1000
        self.output_bytes = contract.output_bytes
        self.sample_bytes = contract.input_bytes + self.output_bytes
        self._loop = asyncio.get_running_loop()
        self._lanes: tuple[deque[Call], ...] = tuple(deque() for _ in range(PRIORITIES))
        self._idle: deque[Taker] = deque()
        self.waiting = 0
        self._empty = asyncio.Event()

    # The event loop's side.

    def submit(
        self, tensors: Tensors, samples: int, *, priority: int = 0, timeout_us: int = 0
    ) -> asyncio.Future[Answer]:
        """Queue tensors of at most ``max_batch`` samples.

        Raises
        ------
        Overloaded
            When too many samples wait already.
        """
        self._check_room(samples)
        return self._enqueue(tensors, samples, priority, timeout_us)

    async def infer(self, tensors: Tensors, samples: int, *, priority: int = 0, timeout_us: int = 0) -> Answer:
        """Run tensors of any number of samples; more than ``max_batch`` are split.

        Raises
        ------
        Overloaded, DeadlineExceeded, ModelNotReady, DeviceError
        """
        self._check_room(samples)
        step = self.max_batch
        if samples <= step:
            return await self._enqueue(tensors, samples, priority, timeout_us)
        futures = []
        for start in range(0, samples, step):
            part = {name: values[start : start + step] for name, values in tensors.items()}
            futures.append(self._queue(part, min(step, samples - start), priority, timeout_us))
        for _ in futures:  # now that all of it is seen to wait
            self._wake_one()
        try:
            answers = [await future for future in futures]
        finally:
            for future in futures:
                if not future.cancel() and not future.cancelled():
                    future.exception()  # it is told once
        parameters: dict[str, str | int | bool] = {}
        for answer in answers:
            parameters |= answer.parameters
        return Answer(joined([answer.outputs for answer in answers]), parameters)

    def deliver(self, calls: Sequence[Call], done: Done, parameters: Mapping[str, str | int | bool]) -> None:
        """Answer calls that a device ran together."""
        outputs, begin_ns, now_ns, counts, start = done.outputs, done.begin_ns, perf_counter_ns(), self.counts, 0
        single = len(calls) == 1
        for call in calls:
            stop = start + call.samples
            if not call.future.done():  # else its client went away
                part = outputs if single else {name: values[start:stop] for name, values in outputs.items()}
                call.future.set_result(Answer(part, parameters))
                counts.answered(begin_ns - call.since_ns, now_ns - call.since_ns)
            self._release(call)
            start = stop
        counts.executed(start, done.input_ns, done.infer_ns, done.output_ns)
        counts.last_ns = now_ns
        if parameters:
            counts.fallback += len(calls)

    def refuse(self, calls: Iterable[Call], error: GatesmithError) -> None:
        """Answer calls with an error."""
        for call in calls:
            if not call.future.done():
                call.future.set_exception(error)
                self.counts.failed(call.since_ns, error)
            self._release(call)

    def forget(self, calls: Iterable[Call]) -> None:
        """Calls that were taken out because nobody waits for them any more, or no longer than this."""
        for call in calls:
            if not call.future.done() and call.expires_ns:
                self._fail_expired(call)
            elif call.future.cancelled():
                self.counts.cancelled += 1
            self._release(call)

    def put_back(self, calls: Sequence[Call], *, alone: bool = False) -> None:
        """Calls that no device answered go to the front again; ``alone``: each in a batch of its own."""
        for call in reversed(calls):
            call.alone = alone
            call.lane.appendleft(call)
        for _ in calls:
            self._wake_one()

    def refuse_waiting(self, error: GatesmithError) -> None:
        """Answer what waits with an error."""
        for lane in self._lanes:
            calls = []
            while lane:
                try:
                    calls.append(lane.popleft())
                except IndexError:  # a device was quicker
                    break
            self.refuse(calls, error)

    async def drained(self) -> None:
        """Come back once nothing waits and nothing is being computed."""
        while self.waiting:
            self._empty.clear()
            await self._empty.wait()

    def poke(self) -> None:
        """Wake an idle device if something waits; after one left that may have been woken for it."""
        if self.has_calls():
            self._wake_one()

    def _enqueue(self, tensors: Tensors, samples: int, priority: int, timeout_us: int) -> asyncio.Future[Answer]:
        future = self._queue(tensors, samples, priority, timeout_us)
        if self._idle:
            self._wake_one()
        return future

    def _queue(self, tensors: Tensors, samples: int, priority: int, timeout_us: int) -> asyncio.Future[Answer]:
        lane = self._lanes[priority - 1 if 0 < priority <= PRIORITIES else DEFAULT_PRIORITY - 1]
        call = Call(tensors, samples, self._loop.create_future(), lane, perf_counter_ns())
        if timeout_us:
            call.expires_ns = call.since_ns + timeout_us * 1000
            call.timer = self._loop.call_later(timeout_us / 1e6, self._expire, call)
        self.waiting += samples
        lane.append(call)
        return call.future

    def _check_room(self, samples: int) -> None:
        if self.waiting and self.waiting + samples > self.max_waiting:
            self.counts.overloaded += 1
            raise Overloaded(
                f"{self.waiting} samples wait for model {self.name}, {self.max_waiting} may; try again later",
                waiting=self.waiting,
                limit=self.max_waiting,
                retry_after_s=1,
            )

    def _release(self, call: Call) -> None:
        self.waiting -= call.samples
        if call.timer is not None:
            call.timer.cancel()
        if not self.waiting:
            self._empty.set()

    def _wake_one(self) -> None:
        try:
            taker = self._idle.pop()
        except IndexError:  # it looked by itself
            return
        taker.wake()

    def _expire(self, call: Call) -> None:
        if not call.future.done() and call in call.lane:  # what a device has begun is let end
            self._fail_expired(call)

    def _fail_expired(self, call: Call) -> None:
        timeout_us = (call.expires_ns - call.since_ns) // 1000
        waited_us = (perf_counter_ns() - call.since_ns) // 1000
        error = DeadlineExceeded(
            f"request for model {self.name} waited {waited_us} us for a device, it allows {timeout_us} us",
            model=self.name,
            timeout_us=timeout_us,
        )
        call.future.set_exception(error)
        self.counts.failed(call.since_ns, error)

    # The devices' side: any thread.

    def has_calls(self) -> bool:
        """Whether something waits."""
        return any(self._lanes)

    def take(self) -> tuple[list[Call], list[Call], float]:
        """What a device should run now, what was found to be over, and how many seconds to wait for more instead.

        Never more than ``max_batch`` samples; the urgent first.
        """
        calls: list[Call] = []
        over: list[Call] = []
        room = self.max_batch
        for lane in self._lanes:
            while lane:
                try:
                    call = lane.popleft()
                except IndexError:  # another device was quicker
                    break
                if call.future.done() or (call.expires_ns and call.expires_ns < perf_counter_ns()):
                    over.append(call)
                elif calls and (call.samples > room or call.alone):
                    lane.appendleft(call)
                    return calls, over, 0.0
                else:
                    calls.append(call)
                    room -= call.samples
                    if room <= 0 or call.alone:
                        return calls, over, 0.0
        if calls and self._delay_ns:
            left_ns = min(call.since_ns for call in calls) + self._delay_ns - perf_counter_ns()
            if left_ns > 0:
                for call in reversed(calls):
                    call.lane.appendleft(call)
                return [], over, left_ns / 1e9
        return calls, over, 0.0

    def rest(self, taker: Taker) -> bool:
        """Say that a device is idle; false when there is something to take after all."""
        self._idle.append(taker)
        return not self.has_calls()

    def rise(self, taker: Taker) -> None:
        """Say that a device is not idle any more."""
        try:
            self._idle.remove(taker)
        except ValueError:  # it was woken
            return


def joined(parts: Sequence[Tensors]) -> Tensors:
    """The same tensors for several groups of samples, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def not_ready(name: str, why: str, retry_after_s: float) -> ModelNotReady:
    """The error for a request that may work later."""
    seconds = max(1, math.ceil(retry_after_s))
    return ModelNotReady(f"model {name} {why}; try again in {seconds} s", model=name, retry_after_s=seconds)
