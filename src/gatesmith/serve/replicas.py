"""Models get the devices that they should have, whenever there are free ones.

Devices leave a model for many reasons: they fail while a new version takes over, or another model needs one. Whatever
becomes free and is wanted by nobody else goes to a model that had to leave, else to one that has fewer than it should.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

from gatesmith.firmware import Firmware
from gatesmith.serve.model import Model, State
from gatesmith.serve.pool import Pool, Slot, SlotState

__all__ = ["Replicas"]

REST_S: Final = 5.0
"""How long a device is left alone by a version that it failed to run."""


class Replicas:
    """Hands free devices to models.

    Parameters
    ----------
    fits : callable
        Whether a device can run a firmware.
    current : mapping of str to Model
        The versions that are meant; it changes.

    Attributes
    ----------
    load_again : callable, optional
        Loads a model that lost its device to another one; without, requests do.
    wanted : dict of str to int
        How many devices a model should have; one for those that are not in it.
    """

    def __init__(
        self,
        pool: Pool,
        fits: Callable[[Slot, Firmware], bool],
        current: Mapping[str, Model],
    ) -> None:
        self._pool, self._fits, self._current = pool, fits, current
        self.load_again: Callable[[Model], Awaitable[None]] | None = None
        self._returning: set[str] = set()
        self.wanted: dict[str, int] = {}
        self._giving: Counter[Model] = Counter()
        self._failed: dict[tuple[Slot, str], float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Devices became free that nobody waits for, or a model became ready: see who should have more."""
        if not self._pool.free():
            return
        if self.load_again is not None:
            for gone in [model for model in self._current.values() if model.is_evicted]:
                if gone.state is State.UNAVAILABLE and gone.name not in self._returning:
                    self._returning.add(gone.name)
                    self._spawn(self._bring_back(self.load_again, gone))
        if self._returning:
            return
        for name, count in self.wanted.items():
            model = self._current.get(name)
            if model is not None and model.state is State.READY and self._count(model) < count:
                self._spawn(self.give(model, count))

    async def give(self, model: Model, count: int) -> None:
        """Give a model so many devices, those that are being brought back included, as far as free ones fit it."""
        for slot in self._pool.free():
            if self._count(model) >= count:
                return
            # The devices before this one took their time: it may be somebody's by now.
            if slot.state is SlotState.FREE and self._fits(slot, model.firmware) and not self._rests(slot, model):
                self._giving[model] += 1
                try:
                    await self._program(slot, model)
                finally:
                    self._giving[model] -= 1

    def close(self) -> list[asyncio.Task[None]]:
        """End; the tasks that are to be waited for."""
        if self._timer:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        return list(self._tasks)

    async def _bring_back(self, load_again: Callable[[Model], Awaitable[None]], model: Model) -> None:
        try:
            await load_again(model)
        except Exception:  # whatever it was, the load has told it
            await asyncio.sleep(REST_S)
        finally:
            self._returning.discard(model.name)
        self.look()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _program(self, slot: Slot, model: Model) -> None:
        slot.state = SlotState.RESERVED
        try:
            await self._pool.program(slot, model.firmware)
        except Exception as error:  # a device's bug too
            self._failed[slot, model.digest] = asyncio.get_running_loop().time() + REST_S
            self._look_later()
            self._pool.fence(slot, error)
            return
        if model.state is State.READY:
            self._pool.serve(slot, model)
        else:  # it left meanwhile
            self._pool.set_free(slot)

    def _count(self, model: Model) -> int:
        """Devices that it has, that will come back to it, or are being made ready for it."""
        own = [slot for slot in self._pool.slots if slot.model is model and slot.state is not SlotState.RESERVED]
        return len(own) + self._giving[model]

    def _rests(self, slot: Slot, model: Model) -> bool:
        now = asyncio.get_running_loop().time()
        self._failed = {key: until for key, until in self._failed.items() if until > now}
        return (slot, model.digest) in self._failed

    def _look_later(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(REST_S, self.look)
