"""Devices, and what keeps them healthy: programming, fencing, bringing back.

A device that fails takes no more work (it is fenced). What it was at goes back to the queue, where another device of
the model takes it: running a sample twice changes nothing. ``blame`` knows when it is a request's fault. Meanwhile the
device is closed, programmed and checked again, at once and then less and less often. While the first of these attempts
runs, requests of a model without another device wait; when it fails, they are refused with the device's error and can
be tried again elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from time import monotonic, perf_counter_ns
from typing import Any, Final

import numpy as np

from gatesmith.artifact.manifest import firmware_digest
from gatesmith.devices.device import Device, LinkStatistics
from gatesmith.errors import (
    DeviceBusy,
    DeviceError,
    DeviceTimeout,
    FirmwareMismatch,
    FrameCorrupt,
    GatesmithError,
    StoreWriteFailed,
    VerificationFailed,
)
from gatesmith.firmware import Firmware
from gatesmith.serve.blame import Blame, Suspects
from gatesmith.serve.engine import DeviceWorker, Failure
from gatesmith.serve.model import Model
from gatesmith.serve.residents import Residents
from gatesmith.serve.settings import Settings

__all__ = ["Pool", "Slot", "SlotState", "is_device_fault"]

TICK_S: Final = 0.1
FIRST_DELAY_S, LONGEST_DELAY_S = 0.25, 30.0
WARM_VECTORS, HEAL_VECTORS = 64, 1
_LEAST_FRAMES = 50  # before a share of bad ones says anything
_log = logging.getLogger(__name__)


class SlotState(StrEnum):
    """What a device is at."""

    FREE = "free"
    RESERVED = "reserved"  # being programmed, or promised to a model
    SERVING = "serving"
    FENCED = "fenced"


class Slot:
    """One device of the pool; ``open`` gives a driver for it, a new one each time if it can."""

    def __init__(self, id: str, open: Callable[[], Device], *, board: str = "", is_fallback: bool = False) -> None:
        self.id, self.open, self.board, self.is_fallback = id, open, board, is_fallback
        self.state, self.reason = SlotState.FREE, ""
        self.model: Model | None = None
        self.firmware: Firmware | None = None
        self.worker: DeviceWorker | None = None
        self.recovery: asyncio.Task[None] | None = None
        self.stuck: list[DeviceWorker] = []
        self.suspects = Suspects()
        self.fencings = self.programmings = self.programming_ns = self.failures = 0
        self._past_device_ns = 0
        self._past_link = LinkStatistics()
        self._seen = LinkStatistics()

    @property
    def device_ns(self) -> int:
        """Time in device calls since the start."""
        return self._past_device_ns + (self.worker.device_ns if self.worker else 0)

    @property
    def link(self) -> LinkStatistics:
        """What went over the link since the start."""
        return self._past_link + self.worker.device.link if self.worker else self._past_link

    def drop_worker(self) -> DeviceWorker | None:
        """Let go of the worker, and keep its numbers."""
        worker = self.worker
        if worker is not None:
            self._past_device_ns, self._past_link = self.device_ns, self.link
            self.worker, self._seen = None, LinkStatistics()
        return worker

    def forget_frames(self) -> None:
        """What came so far says nothing of how the link is now."""
        if self.worker is not None:
            self._seen = self.worker.device.link.copy()

    def bad_share(self) -> float:
        """Share of frames that came damaged since this was asked last, once there were enough of them."""
        if self.worker is None:
            return 0.0
        link, seen = self.worker.device.link, self._seen
        frames = link.frames - seen.frames
        if frames < _LEAST_FRAMES:
            return 0.0
        self._seen = link.copy()
        return (link.bad_frames - seen.bad_frames) / frames


class Pool:
    """All devices of a server.

    Parameters
    ----------
    on_free : callable
        Called when a device became free.
    on_lost : callable
        Called with a model that has no healthy device any more.
    on_served : callable
        Called when a device began to take a model's requests.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_free: Callable[[], None],
        on_lost: Callable[[Model], None],
        on_served: Callable[[], None],
    ) -> None:
        self._settings, self._on_free, self._on_lost, self._on_served = settings, on_free, on_lost, on_served
        self.slots: list[Slot] = []
        self._watch: asyncio.Task[None] | None = None
        self._blame = Blame()
        self._closing = False
        self._residents = Residents(Path(settings.residents)) if settings.residents else None

    def add(self, slot: Slot) -> Slot:
        """One more device."""
        self.slots.append(slot)
        return slot

    def free(self) -> list[Slot]:
        """Devices that nobody has."""
        return [slot for slot in self.slots if slot.state is SlotState.FREE and not slot.is_fallback]

    async def program(self, slot: Slot, firmware: Firmware, *, vectors: int = WARM_VECTORS) -> None:
        """Make a device run a firmware and see that it gives the right answers.

        Raises
        ------
        VerificationFailed
            When it answers test vectors of the firmware wrongly.
        DeviceError, ToolNotFound, ToolFailed
        """
        self._start_watch()
        if slot.worker is None:
            slot.worker = self._new_worker(slot)
        device = slot.worker.device
        begin_ns = perf_counter_ns()
        await slot.worker.do(lambda: _program(device, firmware, vectors), limit_s=self._settings.program_limit_s)
        took_ns = perf_counter_ns() - begin_ns
        slot.programming_ns += took_ns
        slot.programmings += 1
        slot.firmware, slot.failures = firmware, 0
        facts = {"device": slot.id, "model": firmware.name, "seconds": round(took_ns / 1e9, 6)}
        _log.info("device %s runs model %s after %.3f s", slot.id, firmware.name, facts["seconds"], extra=facts)
        self._note(slot.id, firmware)

    def _note(self, device: str, firmware: Firmware) -> None:
        """Leave word of what a device runs, for whoever places the next model on this machine."""
        if self._residents is None:
            return
        facts = {"model": firmware.name, "digest": firmware_digest(firmware), "build_id": firmware.build_id}
        try:
            self._residents.write(device, facts)
        except StoreWriteFailed as error:
            _log.warning("%s", error)

    def serve(self, slot: Slot, model: Model) -> None:
        """Let a programmed device take a model's requests."""
        slot.forget_frames()
        worker_of(slot).attach(model.queue())
        slot.model, slot.state, slot.reason = model, SlotState.SERVING, ""
        model.add_device(slot.id)
        self._on_served()

    async def release(self, slot: Slot) -> None:
        """Take a device away from its model, after what it is at; it is free then."""
        await self.take_over(slot)
        if slot.state is not SlotState.FENCED:  # it may have failed meanwhile
            self.set_free(slot)

    async def take_over(self, slot: Slot) -> None:
        """The same, but it stays reserved."""
        model, slot.model = slot.model, None
        if slot.state is not SlotState.SERVING:
            return
        slot.state = SlotState.RESERVED
        if model is not None:
            model.remove_device(slot.id)
        with contextlib.suppress(DeviceError):
            await worker_of(slot).detach()

    async def release_all(self, model: Model, *, but: Slot | None = None) -> None:
        """Take all devices away from a model."""
        for slot in [slot for slot in self.slots if slot.model is model and slot is not but]:
            await self.release(slot)

    def set_free(self, slot: Slot) -> None:
        """A device that nobody has any more; a fallback is switched off."""
        slot.state, slot.model = SlotState.FREE, None
        if slot.is_fallback:
            worker = slot.drop_worker()
            if worker is not None:
                _spawn(worker.close(self._settings.grace_s))
        else:
            self._on_free()

    def fence(self, slot: Slot, error: BaseException, failure: Failure | None = None) -> None:
        """Take a device out that failed, give its requests to others, and begin to bring it back."""
        model = slot.model
        if slot.state is not SlotState.FENCED:
            slot.fencings += 1
            _log.warning("device %s is taken out: %s", slot.id, error, extra={"device": slot.id})
        slot.state, slot.reason = SlotState.FENCED, str(error)
        if model is not None:
            model.remove_device(slot.id)
        if failure is not None:
            self._blame.accuse(slot.suspects, failure)
        if self._closing:
            self._blame.refuse(slot.suspects)
        elif slot.recovery is None:
            slot.recovery = asyncio.create_task(self._recover(slot))
        if model is not None and not model.ready:
            self._on_lost(model)

    async def close(self, grace_s: float) -> None:
        """Give all devices back; one that hangs is left behind after the time."""
        self._closing = True
        tasks = [task for task in (self._watch, *(slot.recovery for slot in self.slots)) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        workers = [slot.worker for slot in self.slots if slot.worker]
        await asyncio.gather(*(worker.close(grace_s) for worker in workers), return_exceptions=True)

    def tick(self, now: float) -> None:
        """Look for devices that hang and links that are bad."""
        for slot in [slot for slot in self.slots if slot.worker]:
            worker = worker_of(slot)
            if worker.overdue_at <= now:
                error = DeviceTimeout(f"device {slot.id} does not come back from a call; it is left behind")
                failure = worker.abandon(error)
                slot.drop_worker()
                slot.stuck.append(worker)
                self.fence(slot, error, failure)
            elif slot.state is SlotState.SERVING and (share := slot.bad_share()) > self._settings.frame_error_limit:
                _spawn(self._fence_gently(slot, FrameCorrupt(f"{share:.1%} of device {slot.id}'s frames were damaged")))

    def _new_worker(self, slot: Slot) -> DeviceWorker:
        slot.stuck = [worker for worker in slot.stuck if worker.is_alive]
        device = slot.open()
        if any(worker.device is device for worker in slot.stuck):
            raise DeviceBusy(f"device {slot.id} still hangs in a call", device=slot.id)
        return DeviceWorker(
            device,
            on_failure=lambda failure: self.fence(slot, failure.error, failure),
            limit_s=self._settings.device_limit_s,
            parameters={"fallback": slot.id} if slot.is_fallback else {},
        )

    async def _fence_gently(self, slot: Slot, error: FrameCorrupt) -> None:
        """The device still gives right answers: what it is at is let end."""
        with contextlib.suppress(DeviceError):
            await worker_of(slot).detach()
        if slot.state is SlotState.SERVING:
            self.fence(slot, error)

    async def _recover(self, slot: Slot) -> None:
        try:
            while not await self._attempt(slot):
                self._blame.judge(slot.suspects, healthy=False)
                slot.failures += 1
                self._give_up_waiting(slot)
                delay_s = min(FIRST_DELAY_S * 2 ** (slot.failures - 1), LONGEST_DELAY_S)
                _log.warning("device %s is not back: %s; again in %g s", slot.id, slot.reason, delay_s)
                await asyncio.sleep(delay_s)
            self._blame.judge(slot.suspects, healthy=True)
        finally:
            slot.recovery = None
            self._blame.refuse(slot.suspects)
        model = slot.model
        _log.info("device %s is back", slot.id, extra={"device": slot.id})
        if model is None:
            self.set_free(slot)
        else:
            self.serve(slot, model)

    async def _attempt(self, slot: Slot) -> bool:
        firmware = _wanted(slot)
        if firmware is None:
            return slot.failures > 0  # nothing is known to run on it: the next load tries
        try:
            await self.program(slot, firmware, vectors=HEAL_VECTORS)
        except Exception as error:  # a device's bug too
            slot.reason = str(error) or type(error).__name__
            return False
        # Another model may have got it meanwhile, which then needs its own firmware on it.
        return _wanted(slot) is firmware or await self._attempt(slot)

    def _give_up_waiting(self, slot: Slot) -> None:
        """After a failed attempt: nobody waits longer for this device alone."""
        model = slot.model
        if model is None or model.ready or model.falls_back:
            return
        others = [s for s in self.slots if s.model is model and s is not slot and not s.failures]
        if not others:
            model.lose(slot.reason, min(FIRST_DELAY_S * 2**slot.failures, LONGEST_DELAY_S))

    def _start_watch(self) -> None:
        if self._watch is None and not self._closing:
            self._watch = asyncio.create_task(self._watching())

    async def _watching(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.tick(monotonic())


def _wanted(slot: Slot) -> Firmware | None:
    """What a device is to run when it is back."""
    return slot.model.firmware if slot.model else slot.firmware


def is_device_fault(error: BaseException) -> bool:
    """Whether a load that failed speaks against the device, and another one may do better."""
    if isinstance(error, FirmwareMismatch):
        return "running" in error.facts
    return isinstance(error, DeviceError | VerificationFailed) or not isinstance(error, GatesmithError)


def worker_of(slot: Slot) -> DeviceWorker:
    """The worker of a device that has one.

    Raises
    ------
    DeviceBusy
    """
    if slot.worker is None:
        raise DeviceBusy(f"device {slot.id} is being brought back", device=slot.id)
    return slot.worker


def _program(device: Device, firmware: Firmware, count: int) -> None:
    device.program(firmware)
    contract, (inputs, outputs) = firmware.contract, firmware.vectors
    count = min(count, len(inputs) // contract.input_bytes, len(outputs) // contract.output_bytes)
    if not count:
        return
    payload = np.frombuffer(inputs, np.uint8)[: count * contract.input_bytes].reshape(count, contract.input_bytes)
    wanted = np.frombuffer(outputs, np.uint8)[: count * contract.output_bytes].reshape(count, contract.output_bytes)
    answer = device.infer(payload)
    if answer.shape != wanted.shape or (answer != wanted).any():
        wrong = int((answer != wanted).any(axis=1).sum()) if answer.shape == wanted.shape else count
        raise VerificationFailed(
            f"device {device.id} answers {wrong} of {count} test vectors of {firmware.name} wrongly",
            device=device.id,
            samples=count,
            mismatches=wrong,
        )


_spawned: set[asyncio.Task[None]] = set()


def _spawn(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    _spawned.add(task)
    task.add_done_callback(_spawned.discard)
