"""Models by name, and inference on them: everything about a request but its transport.

A door (REST, gRPC) hands over names and tensors and gets arrays back or a ``GatesmithError``; nothing here knows HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version as installed_version
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from gatesmith.devices.device import Device
from gatesmith.errors import FirmwareMismatch, GatesmithError, ManifestInvalid, ModelNotFound, TensorMismatch
from gatesmith.firmware import Firmware
from gatesmith.serve.deployment import Answer, Deployment, Tensors
from gatesmith.serve.engine import DeviceWorker, Failure
from gatesmith.serve.model import Model, State
from gatesmith.serve.settings import Settings
from gatesmith.serve.tensors import InputTensor, array_of, samples_of

__all__ = ["Answer", "DataPlane", "Model"]

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class DataPlane:
    """All models of a server.

    Parameters
    ----------
    models : mapping of str to (Firmware, Device)
        ``name``, ``name:tag`` or a full reference, whose last part is the model's name.

    Attributes
    ----------
    extensions : list of str
        Names of the protocol's extensions; each door adds those that it has with :meth:`announce`.

    Raises
    ------
    ManifestInvalid
        When two models have one name.
    FirmwareMismatch
        When two models are to share one device.
    """

    def __init__(self, models: Mapping[str, tuple[Firmware, Device]], settings: Settings) -> None:
        self._settings = settings
        self._models: dict[str, Model] = {}
        self._devices: dict[str, Device] = {}
        self._workers: dict[str, DeviceWorker] = {}
        self.extensions: list[str] = []
        self.on_load_failure: Callable[[BaseException], None] | None = None
        for key, (firmware, device) in models.items():
            name, _, tag = key.partition("@")[0].rpartition("/")[2].partition(":")
            if name in self._models:
                raise ManifestInvalid(f"two models are called {name}; start one of them under another name", model=name)
            self._check_free(device, name)
            self._devices[name] = device
            model = self._models[name] = Model(name=name, tag=tag, firmware=firmware, settings=settings)
            model.devices, model.state = [device.id], State.LOADING

    @property
    def names(self) -> list[str]:
        """Names of the models, sorted."""
        return sorted(self._models)

    @property
    def ready(self) -> bool:
        """Whether every model can answer."""
        return all(model.ready for model in self._models.values())

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
        model = self._models.get(name)
        if model is None:
            raise ModelNotFound(f"no model {name[:80]!r} is served here; the models are {self.names}", model=name)
        if version and not model.is_version(version):
            raise ModelNotFound(
                f"model {name} has no version {version[:80]!r}; the versions are {model.versions}", model=name
            )
        return model

    async def ready_model(self, name: str, version: str | None = None) -> Model:
        """A model that can answer; with loading on demand it is loaded, and waited for a bounded time.

        Raises
        ------
        ModelNotFound, ModelNotReady, Overloaded
            The latter two say in ``retry_after_s`` when to try again.
        """
        model = self.model(name, version)
        if not model.ready:
            model.check_ready()
        return model

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
        return await self._run(model, arrays, (), priority, timeout_us)

    def index(self, ready_only: bool = False) -> list[dict[str, str]]:
        """Every version that is known: name, version, state, and the reason for it."""
        return [
            {"name": model.name, "version": model.version, "state": model.state.value, "reason": model.reason}
            for _, model in sorted(self._models.items())
            if model.ready or not ready_only
        ]

    async def load_model(self, name: str, parameters: Mapping[str, Any] = _NOTHING) -> None:
        """Make a model ready, in its newest version or the one that ``parameters`` name.

        Raises
        ------
        ModelNotFound, ModelNotReady, ArtifactError, DeviceError
        """
        version = parameters.get("version")
        model = self.model(name, str(version) if version is not None else None)
        if not model.ready:
            await self._load(model)
        model.check_ready()

    async def unload_model(self, name: str, *, unload_dependents: bool = False) -> None:
        """Take a model off its devices once its requests are answered; ``unload_dependents`` changes nothing.

        Raises
        ------
        ModelNotFound
        """
        del unload_dependents  # no model has any
        model = self.model(name)
        model.ready = False
        if model.deployment is not None:
            model.state = State.UNLOADING
            await model.deployment.drained()
        worker = self._workers.pop(name, None)
        if worker is not None:
            await worker.close(self._settings.grace_s)
        model.deployment, model.failure = None, None
        model.state, model.reason = State.UNAVAILABLE, "it was unloaded"

    def statistics(self, name: str | None = None, version: str | None = None) -> dict[str, Any]:
        """Counters in the form of the protocol's statistics extension.

        Raises
        ------
        ModelNotFound
        """
        models = [self.model(name, version)] if name else [model for _, model in sorted(self._models.items())]
        return {
            "model_stats": [
                {"name": model.name, "version": model.version, **model.counts.statistics()} for model in models
            ]
        }

    async def load(self) -> None:
        """Program all devices, each in its own thread; a failure stays with its model."""
        await asyncio.gather(*(self._load(model) for model in self._models.values()))

    async def close(self) -> None:
        """Give all devices back."""
        for model in self._models.values():
            model.ready = False
        grace_s = self._settings.grace_s
        await asyncio.gather(*(w.close(grace_s) for w in self._workers.values()), return_exceptions=True)

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

    def _check_free(self, device: Device, name: str) -> None:
        for other, taken in self._devices.items():
            if taken is device:
                raise FirmwareMismatch(
                    f"device {device.id} is given to models {other} and {name}, it runs one firmware; "
                    "name a device for each",
                    device=device.id,
                )

    async def _load(self, model: Model) -> None:
        device, settings = self._devices[model.name], self._settings
        model.state, model.failure = State.LOADING, None
        deployment = model.deployment = Deployment(
            model.name,
            model.firmware.contract,
            max_batch=settings.max_batch,
            max_waiting=settings.max_waiting,
            delay_us=settings.max_queue_delay_us,
            counts=model.counts,
        )

        def failed(failure: Failure) -> None:
            error = failure.error
            if not isinstance(error, GatesmithError):
                error = GatesmithError(f"device {device.id} failed: {type(error).__name__}; see the server's log")
            deployment.refuse(failure.calls, error)
            worker.attach(deployment)

        worker = self._workers[model.name] = DeviceWorker(device, on_failure=failed)
        try:
            await worker.do(lambda: device.program(model.firmware))
        except Exception as error:  # a device's bug too: it is raised again where the server was started
            model.failure, model.state, model.reason = error, State.UNAVAILABLE, str(error)
            if self.on_load_failure:
                self.on_load_failure(error)
            return
        worker.attach(deployment)
        model.ready, model.state, model.reason = True, State.READY, ""


def _input(model: Model, name: object) -> Any:
    spec = model.inputs.get(name) if isinstance(name, str) else None
    if spec is None:
        raise TensorMismatch(f"model {model.name} has no input {str(name)[:80]!r}; the inputs are {list(model.inputs)}")
    return spec


def _nothing(model: Model) -> Answer:
    arrays = {name: np.zeros((0, *spec.shape[1:]), dtype=spec.datatype.dtype) for name, spec in model.outputs.items()}
    return Answer(arrays, {})
