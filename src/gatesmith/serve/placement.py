"""Which model gets which device, when there are more models than devices.

Who needs a device draws a ticket; tickets are served in order, so nobody starves. A ticket takes a free device, else a
spare one of a model that has several, else that of the model that was used least recently. A model that is pinned, or
has its device for less than the minimum residency, keeps it: two models that are asked for in turn do not push each
other out with every request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable
from typing import Final

from gatesmith.errors import DeviceNotFound
from gatesmith.serve.model import Model, State
from gatesmith.serve.pool import Pool, Slot, SlotState

__all__ = ["Placement"]

LOOK_AGAIN_S: Final = 0.005
SWAP_S: Final = 1.0
"""What a swap is taken to last beside the residency, to tell clients when to come again."""

Fits = Callable[[Slot], bool]


class _Ticket:
    """A wish for a device."""

    def __init__(self, name: str, fits: Fits, avoid: Collection[Slot], gentle: bool) -> None:
        self.name, self.fits, self.avoid, self.gentle = name, fits, avoid, gentle
        self.future: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self.promised: Slot | None = None  # being emptied for it


class Placement:
    """Hands out the devices of a pool.

    Parameters
    ----------
    pinned : set of str
        Names of models that keep their devices; may change.
    minimum_residency_s : float
    """

    def __init__(self, pool: Pool, *, pinned: set[str], minimum_residency_s: float) -> None:
        self._pool, self._pinned, self._residency_s = pool, pinned, minimum_residency_s
        self._tickets: list[_Ticket] = []
        self._timer: asyncio.TimerHandle | None = None
        self._emptying: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many models wait for a device."""
        return len(self._tickets)

    async def acquire(self, name: str, fits: Fits, *, avoid: Collection[Slot] = (), gentle: bool = False) -> Slot:
        """A device for a model; waits until there is one.

        Parameters
        ----------
        avoid : collection of Slot
            Devices that are not to be taken.
        gentle : bool
            Whether no model is to be pushed out for it.

        Raises
        ------
        DeviceNotFound
            When none of the pool fits at all.
        """
        if not any(fits(slot) and slot not in avoid for slot in self._pool.slots if not slot.is_fallback):
            raise DeviceNotFound(
                f"no device fits model {name}; the devices are {[slot.id for slot in self._pool.slots]}"
            )
        ticket = _Ticket(name, fits, avoid, gentle)
        self._tickets.append(ticket)
        self.assign()
        try:
            return await ticket.future
        except asyncio.CancelledError:
            self._return(ticket)
            raise

    def at_once(self, fits: Fits, avoid: Collection[Slot] = (), *, gentle: bool = False) -> bool:
        """Whether a ticket drawn now would get a device without waiting for others or for a residency to end."""
        if any(ticket.promised is None and any(map(ticket.fits, self._pool.slots)) for ticket in self._tickets):
            return False
        free = (slot for slot in self._pool.free() if slot not in avoid)
        return any(map(fits, free)) or self._victim(fits, avoid, gentle) is not None

    def retry_after_s(self, place: int | None = None) -> float:
        """When it is worth to try again, for whoever stands at this place in the queue (the end)."""
        ahead = len(self._tickets) if place is None else place
        return max(self._next_leave_s(), 0.0) + SWAP_S * max(1, ahead)

    def assign(self) -> None:
        """Give devices to tickets, in order."""
        wanted: set[Slot] = set()
        for ticket in list(self._tickets):
            slot = ticket.promised or self._find(ticket, wanted)
            if slot is None:
                wanted |= {s for s in self._pool.slots if ticket.fits(s) and s not in ticket.avoid}
            elif slot.state is SlotState.FREE or ticket.promised is None:
                self._give(ticket, slot)
        self._set_timer()

    def close(self) -> None:
        """No device is given any more."""
        if self._timer:
            self._timer.cancel()
        for ticket in self._tickets:
            ticket.future.cancel()
        for task in self._emptying:
            task.cancel()

    def _find(self, ticket: _Ticket, wanted: set[Slot]) -> Slot | None:
        promised = {other.promised for other in self._tickets}
        for slot in self._pool.free():
            if ticket.fits(slot) and slot not in wanted and slot not in ticket.avoid and slot not in promised:
                return slot
        return self._victim(ticket.fits, {*wanted, *ticket.avoid}, ticket.gentle)

    def _give(self, ticket: _Ticket, slot: Slot) -> None:
        if slot.state is SlotState.FREE:
            slot.state = SlotState.RESERVED
            self._tickets.remove(ticket)
            if not ticket.future.done():
                ticket.future.set_result(slot)
            return
        ticket.promised = slot
        task = asyncio.create_task(self._empty(ticket, slot))
        self._emptying.add(task)
        task.add_done_callback(self._emptying.discard)

    async def _empty(self, ticket: _Ticket, slot: Slot) -> None:
        """Take a device from its model, once that has answered what it has."""
        model = slot.model
        try:
            if model is not None and len(model.devices) <= 1:
                model.counts.evictions += 1
                model.is_evicted = True
                await model.leave(f"its device went to model {ticket.name}")
                await self._pool.release_all(model, but=slot)
            if slot.model is model and slot.state is SlotState.SERVING:
                await self._pool.release(slot)
        finally:
            if slot.state is not SlotState.FREE:  # it failed meanwhile, or is the ticket's already
                ticket.promised = None
            self.assign()

    def _victim(self, fits: Fits, avoid: Collection[Slot], gentle: bool) -> Slot | None:
        promised = {ticket.promised for ticket in self._tickets}
        serving = [
            slot
            for slot in self._pool.slots
            if slot.state is SlotState.SERVING and not slot.is_fallback
            and fits(slot) and slot not in avoid and slot not in promised
        ]  # fmt: skip
        left = {slot.id: self._spare(slot, promised) for slot in serving}
        spare = [slot for slot in serving if left[slot.id]]
        if spare:
            return max(spare, key=lambda slot: len(_model(slot).devices))
        if gentle:
            return None
        leaving = [slot for slot in serving if self._may_leave(_model(slot)) <= 0]
        return min(leaving, key=lambda slot: _model(slot).last_used, default=None)

    def _spare(self, slot: Slot, promised: Collection[Slot | None]) -> bool:
        others = [s for s in self._pool.slots if s.model is slot.model and s.state is SlotState.SERVING]
        return len([s for s in others if s not in promised]) > 1

    def _may_leave(self, model: Model) -> float:
        """Seconds until a model may be pushed out; infinite for one that is pinned."""
        if model.name in self._pinned or model.state is not State.READY:
            return float("inf")
        return model.ready_since + self._residency_s - asyncio.get_running_loop().time()

    def _next_leave_s(self) -> float:
        times = [self._may_leave(model) for model in self._models()]
        finite = [seconds for seconds in times if seconds != float("inf")]
        return min(finite, default=self._residency_s)

    def _models(self) -> Iterable[Model]:
        return {slot.model for slot in self._pool.slots if slot.model is not None and slot.state is SlotState.SERVING}

    def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if any(ticket.promised is None for ticket in self._tickets):
            seconds = max(self._next_leave_s(), LOOK_AGAIN_S)  # time goes on while this is worked out
            self._timer = asyncio.get_running_loop().call_later(seconds, self.assign)

    def _return(self, ticket: _Ticket) -> None:
        """Somebody does not want his device any more."""
        with contextlib.suppress(ValueError):
            self._tickets.remove(ticket)
        if ticket.future.done() and not ticket.future.cancelled():
            self._pool.set_free(ticket.future.result())


def _model(slot: Slot) -> Model:
    if slot.model is None:
        raise DeviceNotFound(f"device {slot.id} serves no model")
    return slot.model
