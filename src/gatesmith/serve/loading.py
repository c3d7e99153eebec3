"""Models come and go: finding a version, getting a device for it, programming, switching over, taking away.

A new version is loaded beside the old one and requests move over when it is ready; the old one answers what it has and
gives its device back. Where there is no second device the swap happens in place, and requests wait for it. Whatever
blocks (reading, fetching, programming) happens in threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any

from gatesmith.errors import ArtifactNotFound, DeviceBusy, GatesmithError, ModelNotFound, ModelNotReady
from gatesmith.firmware import Firmware
from gatesmith.serve.deployment import not_ready
from gatesmith.serve.fallback import Fallbacks
from gatesmith.serve.model import Model, State
from gatesmith.serve.placement import Placement
from gatesmith.serve.pool import Pool, Slot, SlotState, is_device_fault
from gatesmith.serve.replicas import Replicas
from gatesmith.serve.settings import Settings
from gatesmith.serve.source import Builder, Offer, Source, search

__all__ = ["Loader"]

Key = tuple[str, str | None]
_KEPT_VERSIONS = 4
_log = logging.getLogger(__name__)


class Loader:
    """All models of a server, by name and version.

    Parameters
    ----------
    board : str
        Which firmware devices get that can run any; empty: the first.

    Attributes
    ----------
    fallbacks : Fallbacks
    replicas : Replicas
    current : dict of str to Model
        The version that is meant when no version is named.
    bound : dict of str to Slot
        Models that run on one device and no other.
    wanted : set of str
        Models that have to be ready for the server to be ready.
    """

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        placement: Placement,
        sources: Sequence[Source],
        *,
        board: str = "",
        builder: Builder | None = None,
    ) -> None:
        self._settings, self._pool, self._placement, self._sources = settings, pool, placement, sources
        self._board, self._builder = board, builder
        self.current: dict[str, Model] = {}
        self.replicas = Replicas(pool, self._fits_firmware, self.current)
        self.fallbacks = Fallbacks(pool, None, self.replicas.give)
        self.bound: dict[str, Slot] = {}
        self.wanted: set[str] = set()
        self._versions: dict[str, dict[str, Model]] = {}
        self._loads: dict[Key, asyncio.Task[Model]] = {}
        self._unloaded: set[str] = set()
        self._swapping: set[str] = set()
        self._background: set[asyncio.Task[None]] = set()

    @property
    def names(self) -> list[str]:
        """Names of all models that are known without asking a network."""
        return sorted({*self.current, *(name for source in self._sources for name in source.names())})

    def versions(self, name: str) -> list[Model]:
        """Known versions of a model, the current one first."""
        found = self._versions.get(name, {}).values()
        current = self.current.get(name)
        return [*([current] if current else []), *(model for model in found if model is not current)]

    def find(self, name: str, version: str | None) -> Model | None:
        """A version that is known, ready or not."""
        if not version:
            return self.current.get(name)
        return next((model for model in self.versions(name) if model.is_version(version)), None)

    def expect(self, name: str, model: Model | None = None) -> None:
        """Let a model be known before it is loaded."""
        model = model or Model(name=name, tag="", firmware=None, settings=self._settings)
        model.state, model.reason = State.LOADING, ""
        self.current[name] = model
        self.wanted.add(name)

    async def ready(self, name: str, version: str | None) -> Model:
        """A model that can answer, after a bounded wait.

        Raises
        ------
        ModelNotFound, ModelNotReady
        """
        waited, end = 0, asyncio.get_running_loop().time() + self._settings.load_wait_s
        while True:
            model = self.find(name, version)
            if model is not None and model.ready:
                model.counts.misses += waited
                return model
            waited = 1
            await self._wait(name, version, model, end - asyncio.get_running_loop().time())

    async def load(self, name: str, version: str | None = None, *, fresh: bool = True, switch: bool = True) -> Model:
        """Load a version, or the newest, whoever else asks for it at the same time.

        Parameters
        ----------
        fresh : bool
            Ask a registry whether a tag moved.
        switch : bool
            Whether it is the version that is meant from then on.

        Raises
        ------
        ModelNotFound, ArtifactError, DeviceError, VerificationFailed, ToolNotFound, ToolFailed
        """
        self._unloaded.discard(name)
        return await asyncio.shield(self._task(name, version, fresh, switch))

    async def unload(self, name: str) -> None:
        """Take all versions of a model away, after their requests.

        Raises
        ------
        ModelNotFound
        """
        if name not in self.names:
            raise self.unknown(name)
        self._unloaded.add(name)
        self.wanted.discard(name)
        for key in [key for key in self._loads if key[0] == name]:
            self._loads[key].cancel()
        for model in self.versions(name):
            await self._retire(model, "it was unloaded")

    async def close(self, grace_s: float) -> None:
        """No more loading; requests that wait are answered within the time."""
        tasks = [*self._loads.values(), *self._background, *self.fallbacks.close(), *self.replicas.close()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        models = [model for name in list(self.current) for model in self.versions(name)]
        if left := [asyncio.ensure_future(model.leave("the server is stopping")) for model in models]:
            await asyncio.wait(left, timeout=grace_s)
        for leaving in left:
            leaving.cancel()
        for model in models:
            model.give_up(ModelNotReady("the server is stopping", model=model.name))

    def unknown(self, name: str) -> ModelNotFound:
        """The error for a name that no source has."""
        return ModelNotFound(f"no model {name[:80]!r} is served here; the models are {self.names}", model=name[:80])

    async def _wait(self, name: str, version: str | None, model: Model | None, seconds: float) -> None:
        waitable: asyncio.Future[Any] | None = None  # whatever may make it ready
        if model is not None and model.recovery is not None:
            waitable = model.recovery
        elif self._settings.load_on_demand and name not in self._unloaded:
            waitable = self._task(name, version, False, version is None or name not in self.current)
        elif name in self._swapping:
            waitable = self._loads.get((name, None)) or next((t for k, t in self._loads.items() if k[0] == name), None)
        if waitable is None:
            if model is None:
                raise self.unknown(name) if name not in self.names else not_ready(name, "is not loaded", 1)
            model.check_ready()
            return
        done, _ = await asyncio.wait([waitable], timeout=max(0.0, seconds))
        if not done:
            raise not_ready(name, f"was not ready within {self._settings.load_wait_s:g} s",
                            self._placement.retry_after_s())  # fmt: skip
        error = None if waitable.cancelled() else waitable.exception()
        if waitable.cancelled():
            raise not_ready(name, "was unloaded meanwhile", 1)
        if isinstance(error, GatesmithError):
            raise error
        if error is not None:
            raise ModelNotReady(f"model {name} failed to load: {type(error).__name__}", model=name) from error

    def _task(self, name: str, version: str | None, fresh: bool, switch: bool) -> asyncio.Task[Model]:
        key = (name, version)
        if key not in self._loads:
            self._loads[key] = asyncio.create_task(self._load(name, version, fresh, switch))
            self._loads[key].add_done_callback(lambda done: self._loaded(key, done))
        return self._loads[key]

    def _loaded(self, key: Key, task: asyncio.Task[Model]) -> None:
        self._loads.pop(key, None)
        if task.cancelled():
            return
        error = task.exception()
        model = self.current.get(key[0])
        if error is not None and model is not None and not model.ready and model.recovery is None:
            model.state, model.reason, model.failure = State.UNAVAILABLE, str(error), error
        if error is not None:
            _log.warning("model %s is not loaded: %s", key[0], error, extra={"model": key[0]})

    async def _load(self, name: str, version: str | None, fresh: bool, switch: bool) -> Model:
        offer = await asyncio.to_thread(search, self._sources, name, version, fresh=fresh)
        old = self.current.get(name)
        for known in self.versions(name):
            if known.ready and (known.firmware.board in offer.boards or self._builder is not None):
                firmware = await self._firmware(name, offer, known.firmware.board)
                if known.is_firmware(firmware):
                    return self._same(known, offer, switch)
        if old is None or not old.ready:
            self.expect_loading(name)
        busy = [slot for slot in self._pool.slots if slot.model is old] if old and len(old.devices) == 1 else []
        if old is not None and old.ready and switch and not self._has_room(name, offer, busy):
            return await self._swap(old, offer)
        # A new version takes nobody else's only device.
        model, slot = await self._start(name, offer, avoid=busy, gentle=old is not None and old.ready)
        return await self._switch(model, slot, switch)

    def expect_loading(self, name: str) -> None:
        """Show a model as being loaded."""
        model = self.current.get(name)
        if model is None:
            model = self.current[name] = Model(name=name, tag="", firmware=None, settings=self._settings)
        model.state, model.reason, model.failure = State.LOADING, "", None

    async def _start(self, name: str, offer: Offer, *, avoid: Sequence[Slot], gentle: bool) -> tuple[Model, Slot]:
        """Programmed and warm on a device, which is still reserved; a device that fails is replaced by another."""
        tried = list(avoid)
        while True:
            slot = await self._acquire(name, offer, tried, gentle)
            try:
                model = await self._read(name, offer, slot)
                await self._pool.program(slot, model.firmware)
            except BaseException as error:
                if not is_device_fault(error) or isinstance(error, asyncio.CancelledError):
                    if slot.state is SlotState.RESERVED:
                        self._pool.set_free(slot)
                    raise
                self._pool.fence(slot, error)
                tried.append(slot)
                fitting = any(self._fits(s, name, offer) and s not in tried for s in self._pool.slots)
                if not fitting or (gentle and not self._has_room(name, offer, tried)):
                    raise
            else:
                return model, slot

    async def _acquire(self, name: str, offer: Offer, avoid: Sequence[Slot], gentle: bool) -> Slot:
        fits = partial(self._fits, name=name, offer=offer)
        if self.fallbacks.make is not None and not self._placement.at_once(fits, avoid, gentle=gentle):
            slot = self.fallbacks.take()
            if slot is not None:
                return slot
        if not any(fits(slot) for slot in self._pool.slots) and self._builder is None:
            devices = {slot.id: slot.board or self._board or "any board" for slot in self._pool.slots}
            raise ArtifactNotFound(
                f"{offer.reference} has no firmware for any of the devices {devices}: it holds firmware for "
                f"{', '.join(offer.boards) or 'no board'}",
                boards=list(offer.boards),
            )
        return await self._placement.acquire(name, fits, avoid=avoid, gentle=gentle)

    async def _read(self, name: str, offer: Offer, slot: Slot) -> Model:
        """The version of a model for a device."""
        firmware = await self._firmware(name, offer, self._board_for(slot, offer))
        known = next((model for model in self.versions(name) if model.is_firmware(firmware)), None)
        return known or Model(name=name, tag=offer.tag, firmware=firmware, settings=self._settings)

    async def _firmware(self, name: str, offer: Offer, board: str) -> Firmware:
        """What the artifact holds for a board, or what is built for it."""
        if offer.boards and (board in offer.boards or offer.fits(board)):
            return await asyncio.to_thread(offer.read, board)
        if self._builder is None:
            raise ArtifactNotFound(f"{offer.reference} has no firmware for board {board or 'of any kind'}", board=board)
        preview = asyncio.create_task(self._preview(self._builder, name, offer, board))

        def progress(share: float) -> None:
            self.current[name].progress = {"state": "building", "progress": round(share, 3)}

        try:
            return await self._builder.firmware(offer, board, progress)
        finally:
            preview.cancel()
            await asyncio.gather(preview, return_exceptions=True)
            for model in self.versions(name):
                model.progress = {}

    async def _preview(self, builder: Builder, name: str, offer: Offer, board: str) -> None:
        """While a model is built for the first time, an emulated board answers, if fallbacks were asked for."""
        current = self.current.get(name)
        if self.fallbacks.make is None or (current is not None and current.ready):
            return
        try:
            firmware = await builder.preview(offer, board)
            slot = self.fallbacks.take()
            if slot is None:
                return
            try:
                await self._pool.program(slot, firmware)
            except BaseException:
                self._pool.set_free(slot)
                raise
            model = Model(name=name, tag="", firmware=firmware, settings=self._settings)
            model.progress = dict(self.current[name].progress)
            await self._switch(model, slot, switch=True)
        except GatesmithError as error:  # it is built all the same
            _log.warning("model %s is not emulated meanwhile: %s", name, error, extra={"model": name})

    async def _switch(self, model: Model, slot: Slot, switch: bool) -> Model:
        """Requests go to the new version from here on; the old one ends its own."""
        old = self.current.get(model.name)
        self._versions.setdefault(model.name, {})[model.version] = model
        self._pool.serve(slot, model)
        model.counts.loads += 1
        if switch or old is None or not old.ready:
            self.current[model.name] = model
            if old is not None and old is not model and old.known:
                self._spawn(self._replace(old, model))
        self._prune(model.name)
        return model

    async def _replace(self, old: Model, new: Model) -> None:
        own = [slot for slot in self._pool.slots if slot.model in {old, new} and not slot.is_fallback]
        count = max(len(own), self.replicas.wanted.get(new.name, 1))
        await self._retire(old, f"version {new.version} took its place")
        if new.name not in self.bound and new.state is State.READY:
            await self.replicas.give(new, count)

    async def _swap(self, old: Model, offer: Offer) -> Model:
        """In place: the only device is taken from the old version; when the new one fails, the old one comes back."""
        name = old.name
        slot = next(slot for slot in self._pool.slots if slot.model is old and slot.state is SlotState.SERVING)
        self._swapping.add(name)
        try:
            model = await self._read(name, offer, slot)
            await old.leave(f"version {model.version} takes its place")
            await self._pool.take_over(slot)
            try:
                if slot.state is SlotState.FENCED:  # it failed at its last request, and is being brought back already
                    raise DeviceBusy(f"device {slot.id} failed meanwhile: {slot.reason}", device=slot.id)
                await self._pool.program(slot, model.firmware)
            except BaseException as error:
                slot.model = old
                old.expect_back(slot.id)
                self._pool.fence(slot, error)  # which brings it back, with the old version
                raise
            return await self._switch(model, slot, switch=True)
        finally:
            self._swapping.discard(name)

    async def _retire(self, model: Model, reason: str) -> None:
        await model.leave(reason)
        await self._pool.release_all(model)

    def _same(self, known: Model, offer: Offer, switch: bool) -> Model:
        known.add_name(offer.tag)
        if switch:
            self.current[known.name] = known
        return known

    def _has_room(self, name: str, offer: Offer, avoid: Collection[Slot]) -> bool:
        """Whether there is another device, free or one too many of a model."""
        return self._placement.at_once(partial(self._fits, name=name, offer=offer), avoid, gentle=True)

    def _fits(self, slot: Slot, name: str, offer: Offer) -> bool:
        if name in self.bound:
            return slot is self.bound[name]
        wanted = slot.board or self._board
        taken = slot.is_fallback or slot in self.bound.values()
        return not taken and (not wanted or offer.fits(wanted) or self._builder is not None)

    def _fits_firmware(self, slot: Slot, firmware: Firmware) -> bool:
        return slot not in self.bound.values() and slot.board in {"", firmware.board}

    def _board_for(self, slot: Slot, offer: Offer) -> str:
        return slot.board or self._board or (offer.boards[0] if offer.boards else "")

    def _prune(self, name: str) -> None:
        """Forget versions that are gone, but for the last few."""
        versions = self._versions[name]
        gone = [key for key, model in versions.items() if not model.devices and model is not self.current.get(name)]
        for key in gone[:-_KEPT_VERSIONS]:
            del versions[key]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def __iter__(self) -> Iterator[Model]:
        """All versions of all models that are known."""
        return (model for name in sorted({*self.current, *self._versions}) for model in self.versions(name))
