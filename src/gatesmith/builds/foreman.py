"""Takes builds from the queue, finds or builds them, and writes down how each one went.

A build ends done, failed or cancelled, or waits again after its worker or the registry was lost: a firmware that was
built once is in the store before it is pushed, so nothing is built twice whatever is killed when.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gatesmith.builds.blobs import Blobs
from gatesmith.builds.depot import Depot
from gatesmith.builds.job import Job, Tell, error_json
from gatesmith.builds.order import Order
from gatesmith.builds.queue import Queue, Record
from gatesmith.errors import (
    BuildCancelled,
    BuildError,
    BuildLost,
    GatesmithError,
    RegistryUnreachable,
    StoreWriteFailed,
)

__all__ = ["Builder", "Foreman"]

ATTEMPTS = 3
PUSH_TRIES = 8
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
PROGRESS_STEP = 0.01
LOOK_AGAIN_S = 10.0
_log = logging.getLogger(__name__)


class Builder(Protocol):
    """Something that builds jobs: this machine, or a cluster."""

    slots: int
    """Builds at a time."""

    def build(self, job: Job, folder: Path, *, tell: Tell, cancel: threading.Event) -> dict[str, Any]:
        """Build a job; its firmware is in ``folder/out`` afterwards. Blocks.

        Raises
        ------
        BuildCancelled, BuildLost, ModelError, BuildError
        """

    def close(self) -> None:
        """Give everything back."""


@dataclass
class _Running:
    """A build that runs now."""

    task: asyncio.Task[None]
    cancel: threading.Event


class Foreman:
    """Everything that runs; its methods belong to one event loop."""

    def __init__(self, queue: Queue, blobs: Blobs, depot: Depot, builder: Builder, folder: Path) -> None:
        self.queue, self._blobs, self.depot, self._builder, self._folder = queue, blobs, depot, builder, folder
        self._running: dict[str, _Running] = {}
        self._wake, self._changed = asyncio.Event(), asyncio.Condition()
        self.changes = 0
        self._plans: dict[str, asyncio.Lock] = {}
        self._closing = False

    @property
    def running(self) -> int:
        """Builds that run now."""
        return len(self._running)

    async def submit(self, order: Order, owner: str, *, again: bool = False, limit: int = 0) -> tuple[Record, bool]:
        """Ask for a build; a firmware that is finished somewhere is found before anything is queued.

        Raises
        ------
        BuildError
            When a file of the order was not uploaded, or the owner has too many builds.
        """
        lock = self._plans.setdefault(order.digest, asyncio.Lock())
        try:
            async with lock:
                known = await asyncio.to_thread(self.queue.get, order.digest.removeprefix("sha256:"))
                found = None if known else await asyncio.to_thread(self.depot.find, order)
                if found is None:
                    for digest in order.files:
                        self._blobs.check(digest)
                record, is_new = await asyncio.to_thread(
                    self.queue.submit, order, owner, again=again, limit=limit, result=found
                )
        finally:
            self._plans.pop(order.digest, None)
        self._wake.set()
        await self.tell_watchers()
        return record, is_new

    async def cancel(self, id: str, who: str) -> Record | None:
        """End a build."""
        record = await asyncio.to_thread(self.queue.cancel, id, who)
        if id in self._running:
            self._running[id].cancel.set()
        await self.tell_watchers()
        return record

    async def changed(self, since: int, timeout_s: float) -> None:
        """Wait until ``changes`` differs, which it does when something happened to some build; at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self.changes != since)

    async def run(self) -> None:
        """Build what is queued until cancelled; what runs then waits again at the next start."""
        is_recovered = False
        try:
            while True:
                self._wake.clear()
                pause_s = None
                try:
                    if not is_recovered:
                        await self._recover()
                        is_recovered = True
                    while len(self._running) < self._builder.slots and (record := await self._taken()):
                        self._start(record)
                except StoreWriteFailed as error:  # a disk that is full may have room again
                    pause_s = LOOK_AGAIN_S
                    _log.error("%s; nothing is built, again in %g s", error, pause_s)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause_s)
        finally:
            await self._stop()

    async def _recover(self) -> None:
        for id in await asyncio.to_thread(self.queue.recover):
            _log.warning("build %s was running when the service ended; it starts again", id[:12])

    def _start(self, record: Record) -> None:
        cancel = threading.Event()
        task = asyncio.create_task(self._run(record, cancel))
        running = self._running[record.id] = _Running(task, cancel)
        task.add_done_callback(lambda _: self._ended(record.id, running))

    async def _taken(self) -> Record | None:
        return await asyncio.to_thread(self.queue.take)

    def _ended(self, id: str, running: _Running) -> None:
        if self._running.get(id) is running:  # not the next attempt, which may have begun
            del self._running[id]
        self._wake.set()

    async def _stop(self) -> None:
        self._closing = True
        running = list(self._running.values())
        for one in running:
            one.cancel.set()
        await asyncio.gather(*(one.task for one in running), return_exceptions=True)
        await asyncio.to_thread(self._builder.close)

    async def _run(self, record: Record, cancel: threading.Event) -> None:
        folder = self._folder / f"{record.id[:16]}-{uuid.uuid4().hex[:16]}"
        ears = _Ears(self, record.id, asyncio.get_running_loop())
        try:
            result = await asyncio.to_thread(self._work, record, folder, ears, cancel)
            result["registry"] = await self._push(record, cancel)
            await asyncio.to_thread(self.queue.finish, record.id, result)
        except BuildCancelled:
            if self._closing:
                await asyncio.to_thread(self.queue.put_back, record.id, "the service is stopping", counts=False)
        except BuildLost as error:
            await self._lost(record, error)
        except GatesmithError as error:
            await asyncio.to_thread(self.queue.fail, record.id, error_json(error))
        except Exception as error:  # a bug of ours belongs to this build, not to the service
            _log.exception("build %s failed in an unexpected way", record.id[:12])
            failed = BuildError(f"the service failed: {type(error).__name__}; see its log")
            await asyncio.to_thread(self.queue.fail, record.id, error_json(failed))
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            await self.tell_watchers()

    def _work(self, record: Record, folder: Path, tell: Tell, cancel: threading.Event) -> dict[str, Any]:
        order = record.order
        found = self.depot.find(order)
        if found is not None:
            return found
        read = self._blobs.read
        job = Job(order=order, model=read(order.model), calibration=read(order.calibration), labels=read(order.labels))
        built = self._builder.build(job, folder, tell=tell, cancel=cancel)
        return built | self.depot.keep(order, folder / "out") | {"seconds": built.get("seconds", {})}

    async def _push(self, record: Record, cancel: threading.Event) -> str:
        pause_s = FIRST_PAUSE_S
        for tried in range(PUSH_TRIES):
            if cancel.is_set():
                raise BuildCancelled("the build was cancelled")
            try:
                await asyncio.to_thread(self.queue.tell, record.id, "push", tried / PUSH_TRIES)
                return await asyncio.to_thread(self.depot.push, record.order)
            except RegistryUnreachable as error:
                await asyncio.to_thread(self.queue.say, record.id, "push", f"{error}; again in {pause_s:g} s")
                await self.tell_watchers()
                await asyncio.to_thread(cancel.wait, pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return await asyncio.to_thread(self.depot.push, record.order)

    async def _lost(self, record: Record, error: BuildLost) -> None:
        if record.attempts < ATTEMPTS:
            await asyncio.to_thread(self.queue.put_back, record.id, str(error))
        else:
            last = BuildLost(f"{error}; {record.attempts} attempts were made", **error.facts)
            await asyncio.to_thread(self.queue.fail, record.id, error_json(last))

    async def tell_watchers(self) -> None:
        """Something happened."""
        self.changes += 1
        async with self._changed:
            self._changed.notify_all()


class _Ears:
    """Hears what a build says, in its thread, and writes down what is worth it."""

    def __init__(self, foreman: Foreman, id: str, loop: asyncio.AbstractEventLoop) -> None:
        self._foreman, self._id, self._loop = foreman, id, loop
        self._stage, self._done = "", -1.0

    def __call__(self, said: Mapping[str, Any]) -> None:
        queue = self._foreman.queue
        if "stage" in said:
            stage, done = str(said["stage"])[:40], float(said.get("done", 0.0))
            if stage == self._stage and abs(done - self._done) < PROGRESS_STEP:
                return
            self._stage, self._done = stage, done
            queue.tell(self._id, stage, done)
        elif "line" in said:
            queue.say(self._id, self._stage, str(said["line"]))
        elif "holds" in said:
            queue.say(self._id, self._stage, f"confined: {', '.join(map(str, said['holds'])) or 'nothing'}")
        else:
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody watches any more
            asyncio.run_coroutine_threadsafe(self._foreman.tell_watchers(), self._loop)
