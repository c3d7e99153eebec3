"""Models by name, and inference on them: everything about a request but its transport.

A door (REST, gRPC) hands over names and tensors and gets arrays back or a ``GatesmithError``; nothing here knows HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version as installed_version
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from gatesmith.devices import open_device
from gatesmith.devices.device import Device
from gatesmith.errors import DeviceNotFound, FirmwareMismatch, ManifestInvalid, ModelNotFound, TensorMismatch
from gatesmith.firmware import Firmware
from gatesmith.serve.deployment import Answer, Tensors
from gatesmith.serve.following import follow
from gatesmith.serve.loading import Loader
from gatesmith.serve.model import Model, State
from gatesmith.serve.observing import observer_of
from gatesmith.serve.placement import Placement
from gatesmith.serve.pool import Pool, Slot, SlotState
from gatesmith.serve.repository import FixedSource
from gatesmith.serve.settings import Settings
from gatesmith.serve.source import Builder, Source
from gatesmith.serve.tensors import InputTensor, array_of, samples_of

__all__ = ["Answer", "DataPlane", "Model"]

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class DataPlane:
    """All models of a server.

    Parameters
    ----------
    models : mapping of str to (Firmware, Device)
        ``name``, ``name:tag`` or a full reference, whose last part is the model's name; each has its device.
    sources : sequence of Source
        Where further models come from.
    devices : sequence of (str, str)
        Ids of the devices that these share, each with its board where that is known.
    preload : sequence of str
        Names that are loaded at the start.
    pinned : sequence of str
        Names of models that keep their devices.
    board : str
        Which firmware devices get that can run any; empty: the first.
    builder : Builder, optional
        Makes firmware where a source has none for any device.

    Attributes
    ----------
    extensions : list of str
        Names of the protocol's extensions; each door adds those that it has with :meth:`announce`.
    draining : bool
        Set when the server is about to stop: it is not ready any more, and still answers.

    Raises
    ------
    ManifestInvalid
        When two models have one name.
    FirmwareMismatch
        When two models are to share one device.
    """

    def __init__(
        self,
        models: Mapping[str, tuple[Firmware, Device]],
        settings: Settings,
        *,
        sources: Sequence[Source] = (),
        devices: Sequence[tuple[str, str]] = (),
        preload: Sequence[str] = (),
        pinned: Sequence[str] = (),
        board: str = "",
        builder: Builder | None = None,
    ) -> None:
        self.settings = settings
        self.extensions: list[str] = []
        self.on_load_failure: Callable[[BaseException], None] | None = None
        self.draining = False
        self._observer = observer_of(settings)
        self._pinned = set(pinned)
        self._preload = list(dict.fromkeys([*preload, *pinned]))
        self.pool = Pool(settings, on_free=self._on_free, on_lost=self._on_lost, on_served=self._on_served)
        self.placement = Placement(self.pool, pinned=self._pinned, minimum_residency_s=settings.minimum_residency_s)
        fixed = FixedSource()
        self.loader = Loader(
            settings,
            self.pool,
            self.placement,
            [fixed, *sources] if models else list(sources),
            board=board,
            builder=builder,
        )
        if not settings.load_on_demand:
            self.loader.replicas.load_again = self._load_again
        if settings.fallback:
            self.loader.fallbacks.make = self._fallback
        for key, (firmware, device) in models.items():
            self._bind(fixed, key, firmware, device)
        for id_, board_ in devices:
            self.pool.add(Slot(id_, partial(open_device, id_), board=board_))

    @property
    def names(self) -> list[str]:
        """Names of the models, sorted."""
        return self.loader.names

    @property
    def ready(self) -> bool:
        """Whether every model can answer that was given at the start or loaded by hand, or can be had by asking."""
        found = [self.loader.current.get(name) for name in self.loader.wanted]
        asking = self.settings.load_on_demand
        return not self.draining and all(model and (model.ready or (asking and model.is_evicted)) for model in found)

    def announce(self, *extensions: str) -> None:
        """Add extensions of the protocol that a door has."""
        self.extensions += [name for name in extensions if name not in self.extensions]

    def metadata(self) -> dict[str, Any]:
        """The protocol's server metadata."""
        return {"name": "gatesmith", "version": installed_version("gatesmith"), "extensions": self.extensions}

    def model(self, name: str, version: str | None = None) -> Model:
        """A model by name, and by version where one is asked for, ready or not.

        Raises
        ------
        ModelNotFound
        """
        model = self.loader.find(name, version)
        if model is not None:
            return model
        known = self.loader.versions(name)
        if not known and name not in self.names:
            raise self.loader.unknown(name)
        if version:
            versions = [text for each in known for text in each.versions]
            raise ModelNotFound(
                f"model {name} has no version {version[:80]!r}; the versions are {versions}", model=name
            )
        return Model(name=name, tag="", firmware=None, settings=self.settings)

    async def ready_model(self, name: str, version: str | None = None) -> Model:
        """A model that can answer; with loading on demand it is loaded, and waited for a bounded time.

        Raises
        ------
        ModelNotFound, ModelNotReady, Overloaded
            The latter two say in ``retry_after_s`` when to try again.
        """
        model = self.loader.find(name, version)
        if model is not None and model.ready:
            return model
        if model is None and not self.settings.load_on_demand:
            model = self.model(name, version)
        return await self.loader.ready(name, version)

    async def infer(
        self,
        model: Model,
        inputs: Sequence[InputTensor],
        wanted: Sequence[str] = (),
        *,
        priority: int = 0,
        timeout_us: int = 0,
    ) -> Answer:
        """Run one request.

        Parameters
        ----------
        wanted : sequence of str
            Names of outputs to give back, in this order; all of them when empty.
        priority : int
            1 is the highest; 0 means the default.
        timeout_us : int
            How long the request may wait for a device; 0: as long as it takes.

        Raises
        ------
        ModelNotReady, TensorMismatch, Overloaded, DeadlineExceeded, DeviceError
        """
        arrays = {tensor.name: array_of(_input(model, tensor.name), tensor) for tensor in inputs}
        if len(arrays) != len(inputs):
            raise TensorMismatch(f"an input is given twice: {sorted(tensor.name for tensor in inputs)}")
        if self._observer is not None:
            return await self._observer.run(self._run, model, arrays, wanted, priority, timeout_us)
        return await self._run(model, arrays, wanted, priority, timeout_us)

    async def infer_samples(
        self, model: Model, samples: dict[str, list[Any]], *, priority: int = 0, timeout_us: int = 0
    ) -> Answer:
        """Run one request that gives each input as a list of samples.

        Raises
        ------
        ModelNotReady, TensorMismatch, Overloaded, DeadlineExceeded, DeviceError
        """
        arrays = {name: samples_of(_input(model, name), values) for name, values in samples.items()}
        if self._observer is not None:
            return await self._observer.run(self._run, model, arrays, (), priority, timeout_us)
        return await self._run(model, arrays, (), priority, timeout_us)

    def index(self, ready_only: bool = False) -> list[dict[str, str]]:
        """Every version that is known: name, version, state, and the reason for it."""
        known = [m for m in self.loader if m.known or m.failure or m.state is not State.UNAVAILABLE]
        found = [(model.name, model.version, model.state.value, model.reason) for model in known]
        names = {model.name for model in known}
        found += [
            (name, "", State.UNAVAILABLE.value, "it was not loaded yet") for name in self.names if name not in names
        ]
        return [
            {"name": name, "version": version, "state": state, "reason": reason}
            for name, version, state, reason in sorted(found)
            if state == State.READY or not ready_only
        ]

    async def load_model(self, name: str, parameters: Mapping[str, Any] = _NOTHING) -> None:
        """Make a model ready, in its newest version or the one that ``parameters`` name.

        Raises
        ------
        ModelNotFound, ModelNotReady, ArtifactError, DeviceError
        """
        version, pin = parameters.get("version"), parameters.get("pin")
        if version is not None and not isinstance(version, str):
            raise TensorMismatch(f"parameter version is of kind {type(version).__name__}, a string is needed")
        if pin is not None:
            (self._pinned.add if pin in {True, "true", "1"} else self._pinned.discard)(name)
        await self.loader.load(name, version)
        self.loader.wanted.add(name)

    async def unload_model(self, name: str, *, unload_dependents: bool = False) -> None:
        """Take a model off its devices once its requests are answered; ``unload_dependents`` changes nothing.

        Raises
        ------
        ModelNotFound
        """
        del unload_dependents  # no model has any
        await self.loader.unload(name)

    def statistics(self, name: str | None = None, version: str | None = None) -> dict[str, Any]:
        """Counters in the form of the protocol's statistics extension.

        Raises
        ------
        ModelNotFound
        """
        models = [self.model(name, version)] if name else [model for model in self.loader if model.known]
        return {
            "model_stats": [
                {"name": model.name, "version": model.version, **model.counts.statistics()} for model in models
            ]
        }

    async def load(self) -> None:
        """Load what is wanted at the start; a failure stays with its model, and is told."""
        names = [*self.loader.bound, *(name for name in self._preload if name not in self.loader.bound)]
        room = len([slot for slot in self.pool.slots if slot not in self.loader.bound.values()])
        if len(names) - len(self.loader.bound) > room:
            if not self.settings.load_on_demand:
                error = DeviceNotFound(
                    f"{len(names)} models and {len(self.pool.slots)} devices were given, one device each is needed; "
                    "name more devices, or load on demand"
                )
                self._load_failed(error)
                return
            names = names[: len(self.loader.bound) + room]
        for name in names:
            self.loader.expect(name, self.loader.current.get(name))
        models = await asyncio.gather(*(self._first_load(name) for name in names))
        await self._share([model for model in models if model is not None])
        if self.settings.follow_s:
            await follow(self.loader, self.settings.follow_s)

    async def close(self) -> None:
        """Let requests end, then give all devices back; both within the grace time."""
        self.draining = True
        grace_s = self.settings.grace_s
        await self.loader.close(grace_s)
        self.placement.close()
        await self.pool.close(grace_s)
        if self._observer is not None:
            await asyncio.to_thread(self._observer.end)

    async def _run(
        self, model: Model, arrays: Tensors, wanted: Sequence[str], priority: int, timeout_us: int
    ) -> Answer:
        if len(arrays) != len(model.inputs):
            missing = [name for name in model.inputs if name not in arrays]
            raise TensorMismatch(
                f"input {missing[0]!r} is missing; the inputs are {list(model.inputs)}", tensor=missing[0]
            )
        for name in wanted:
            if name not in model.outputs:
                raise TensorMismatch(
                    f"model {model.name} has no output {str(name)[:80]!r}; the outputs are {list(model.outputs)}"
                )
        deployment = model.check_ready()
        batches = {len(array) for array in arrays.values()}
        if len(batches) > 1:
            raise TensorMismatch(f"inputs have different batches: {sorted(batches)}")
        samples = batches.pop()
        if not samples:
            answer = _nothing(model)
        elif samples <= deployment.max_batch:
            answer = await deployment.submit(arrays, samples, priority=priority, timeout_us=timeout_us)
        else:
            answer = await deployment.infer(arrays, samples, priority=priority, timeout_us=timeout_us)
        if wanted:
            return Answer({name: answer.outputs[name] for name in wanted}, answer.parameters)
        return answer

    def _bind(self, fixed: FixedSource, key: str, firmware: Firmware, device: Device) -> None:
        name, _, tag = key.partition("@")[0].rpartition("/")[2].partition(":")
        if name in self.loader.bound:
            raise ManifestInvalid(f"two models are called {name}; start one of them under another name", model=name)
        for other, slot in self.loader.bound.items():
            if slot.open() is device:
                raise FirmwareMismatch(
                    f"device {device.id} is given to models {other} and {name}, it runs one firmware; "
                    "name a device for each",
                    device=device.id,
                )
        fixed.add(name, tag, firmware)
        self.loader.bound[name] = self.pool.add(Slot(device.id, lambda: device))
        model = Model(name=name, tag=tag, firmware=firmware, settings=self.settings)
        self.loader.expect(name, model)

    async def _first_load(self, name: str) -> Model | None:
        try:
            return await self.loader.load(name, fresh=False)
        except Exception as error:  # a device's bug too: it is raised again where the server was started
            self._load_failed(error)
            return None

    def _load_failed(self, error: Exception) -> None:
        if self.on_load_failure:
            self.on_load_failure(error)

    async def _share(self, models: Sequence[Model]) -> None:
        """Devices that are left become replicas, so many as was asked for or as there are."""
        free = [model for model in models if model.name not in self.loader.bound]
        if not free or (self.settings.load_on_demand and not self.settings.replicas):
            return
        each, more = divmod(len(self.pool.slots) - len(self.loader.bound), len(free))
        for place, model in enumerate(free):
            self.loader.replicas.wanted[model.name] = self.settings.replicas or each + (place < more)
            await self.loader.replicas.give(model, self.loader.replicas.wanted[model.name])

    async def _load_again(self, model: Model) -> None:
        model.is_evicted = model.name in self.loader.wanted
        if model.is_evicted:
            await self.loader.load(model.name, model.versions[-1], fresh=False)

    def _on_free(self) -> None:
        self.placement.assign()
        if not self.placement.waiting:
            self.loader.fallbacks.improve()
        self._look()

    def _on_lost(self, model: Model) -> None:
        self.loader.fallbacks.lost(model)

    def _on_served(self) -> None:
        self.loader.fallbacks.give_up()
        self._look()

    def _look(self) -> None:
        if not self.placement.waiting:
            self.loader.replicas.look()

    def _fallback(self) -> Slot:
        spares = [slot for slot in self.pool.slots if slot.is_fallback]
        for slot in spares:
            if slot.state is SlotState.FREE:
                return slot
        id_ = f"{self.settings.fallback}:fallback-{len(spares)}"
        return self.pool.add(Slot(id_, partial(open_device, id_), is_fallback=True))


def _input(model: Model, name: object) -> Any:
    spec = model.inputs.get(name) if isinstance(name, str) else None
    if spec is None:
        raise TensorMismatch(f"model {model.name} has no input {str(name)[:80]!r}; the inputs are {list(model.inputs)}")
    return spec


def _nothing(model: Model) -> Answer:
    arrays = {name: np.zeros((0, *spec.shape[1:]), dtype=spec.datatype.dtype) for name, spec in model.outputs.items()}
    return Answer(arrays, {})
