"""Devices that serve when no other is free or healthy, if that was asked for; answers from them say so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from gatesmith.serve.model import Model, State
from gatesmith.serve.pool import Pool, Slot, SlotState

__all__ = ["Fallbacks"]

_log = logging.getLogger(__name__)


class Fallbacks:
    """Keeps models answering, and gives fallbacks up as soon as a real device does.

    Parameters
    ----------
    make : callable
        A device that is not of the pool's own; none without.
    replicate : callable
        Gives a model so many devices, its failed ones included, as far as there are free ones.
    """

    def __init__(
        self, pool: Pool, make: Callable[[], Slot] | None, replicate: Callable[[Model, int], Awaitable[None]]
    ) -> None:
        self._pool, self.make, self._replicate = pool, make, replicate
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self) -> Slot | None:
        """A fallback for a model that would have to wait; nothing when there is none."""
        if self.make is None:
            return None
        slot = self.make()
        slot.state = SlotState.RESERVED
        return slot

    def close(self) -> list[asyncio.Task[None]]:
        """End; the tasks that are to be waited for."""
        for task in self._tasks:
            task.cancel()
        return list(self._tasks)

    def lost(self, model: Model) -> None:
        """A model has no healthy device any more."""
        if self.make is not None and model.state is not State.UNLOADING and not model.falls_back:
            model.falls_back = True
            self._spawn(self._fall_back(model))

    def give_up(self) -> None:
        """Give fallbacks up whose models have a real device again."""
        for slot in [slot for slot in self._pool.slots if slot.is_fallback and slot.state is SlotState.SERVING]:
            others = [s for s in self._pool.slots if s.model is slot.model and s.state is SlotState.SERVING]
            if any(not other.is_fallback for other in others):
                self._spawn(self._pool.release(slot))

    def improve(self) -> None:
        """Give a model that runs on a fallback alone a real device that became free."""
        for slot in [slot for slot in self._pool.slots if slot.is_fallback and slot.state is SlotState.SERVING]:
            model = slot.model
            if model is not None and len(model.devices) == 1:
                self._spawn(self._improve(model))

    async def _improve(self, model: Model) -> None:
        own = [slot for slot in self._pool.slots if slot.model is model]
        await self._replicate(model, len(own) + 1)

    async def _fall_back(self, model: Model) -> None:
        slot = self.take()
        if slot is None:
            return
        try:
            await self._pool.program(slot, model.firmware)
        except Exception as error:  # the fallback's bug too
            _log.warning("model %s has no fallback: %s", model.name, error, extra={"model": model.name})
            self._pool.set_free(slot)
            if not model.ready:
                model.lose(str(error), 1)
            return
        finally:
            model.falls_back = False
        if model.state is State.UNLOADING or model.ready:
            self._pool.set_free(slot)
        else:
            model.state = State.LOADING
            self._pool.serve(slot, model)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
