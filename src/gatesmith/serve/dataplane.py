"""Models by name, and inference on them: everything about a request but its transport.

A door (REST, and others later) hands over names and tensors and gets arrays back or a ``GatesmithError``; nothing here
knows HTTP. A model's version is the start of its firmware's digest, so two servers with the same answers have the same
version; the tag it was started with, if any, is a second name of that version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version as installed_version
from typing import Any

import numpy as np

from gatesmith.artifact.manifest import firmware_digest
from gatesmith.contract import Port
from gatesmith.devices.device import Device
from gatesmith.errors import FirmwareMismatch, ManifestInvalid, ModelNotFound, ModelNotReady, TensorMismatch
from gatesmith.firmware import Firmware
from gatesmith.serve.engine import DeviceWorker, Tensors
from gatesmith.serve.settings import Settings
from gatesmith.serve.tensors import InputTensor, array_of, samples_of

__all__ = ["DataPlane", "Model"]

_VERSION_DIGITS = 12


class Model:
    """One served model: its firmware, and the device that runs it once it is loaded."""

    def __init__(self, *, name: str, tag: str, firmware: Firmware, device: Device) -> None:
        self.name, self.firmware, self.device = name, firmware, device
        self.digest = firmware_digest(firmware)
        self.version = self.digest.removeprefix("sha256:")[:_VERSION_DIGITS]
        self.versions = [self.version, tag] if tag else [self.version]
        self.inputs = {port.spec.name: port.spec for port in firmware.contract.inputs}
        self.outputs = {port.spec.name: port.spec for port in firmware.contract.outputs}
        self.worker: DeviceWorker | None = None
        self.ready = False
        self.failure: BaseException | None = None

    def check_ready(self) -> DeviceWorker:
        """The worker of a model that can answer.

        Raises
        ------
        ModelNotReady
        """
        if self.worker is not None and self.ready:
            return self.worker
        why = f"failed to load: {self.failure}" if self.failure else "is being loaded; try again later"
        raise ModelNotReady(f"model {self.name} {why}", model=self.name)

    def metadata(self) -> dict[str, Any]:
        """The protocol's model metadata; ``parameters`` say what is not in its standard fields."""
        firmware = self.firmware
        return {
            "name": self.name,
            "versions": self.versions,
            "platform": f"gatesmith_{firmware.family}",
            "inputs": [_describe(port) for port in firmware.contract.inputs],
            "outputs": [_describe(port) for port in firmware.contract.outputs],
            "parameters": {
                "digest": self.digest,
                "board": firmware.board,
                "part": firmware.part,
                "engine": firmware.engine,
                "device": self.device.id,
                "clock_hz": firmware.clock_hz,
                "latency_cycles": firmware.latency_cycles,
            },
        }


class DataPlane:
    """All models of a server.

    Parameters
    ----------
    models : mapping of str to (Firmware, Device)
        ``name``, ``name:tag`` or a full reference, whose last part is the model's name.

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
        self.on_load_failure: Callable[[BaseException], None] | None = None
        for key, (firmware, device) in models.items():
            name, _, tag = key.partition("@")[0].rpartition("/")[2].partition(":")
            if name in self._models:
                raise ManifestInvalid(f"two models are called {name}; start one of them under another name", model=name)
            self._check_free(device, name)
            self._models[name] = Model(name=name, tag=tag, firmware=firmware, device=device)

    @property
    def names(self) -> list[str]:
        """Names of the models, sorted."""
        return sorted(self._models)

    @property
    def ready(self) -> bool:
        """Whether every model can answer."""
        return all(model.ready for model in self._models.values())

    def model(self, name: str, version: str | None = None) -> Model:
        """A model by name, and by version where one is asked for.

        Raises
        ------
        ModelNotFound
        """
        model = self._models.get(name)
        if model is None:
            raise ModelNotFound(f"no model {name[:80]!r} is served here; the models are {self.names}", model=name)
        if version is not None and version not in model.versions:
            raise ModelNotFound(
                f"model {name} has no version {version[:80]!r}; the versions are {model.versions}", model=name
            )
        return model

    def metadata(self) -> dict[str, Any]:
        """The protocol's server metadata."""
        return {"name": "gatesmith", "version": installed_version("gatesmith"), "extensions": []}

    async def load(self) -> None:
        """Program all devices, each in its own thread; a failure stays with its model."""
        await asyncio.gather(*(self._load(model) for model in self._models.values()))

    async def close(self) -> None:
        """Give all devices back."""
        workers = [model.worker for model in self._models.values() if model.worker]
        for model in self._models.values():
            model.ready = False
        await asyncio.gather(*(worker.close(self._settings.grace_s) for worker in workers), return_exceptions=True)

    async def infer(self, model: Model, inputs: Sequence[InputTensor], wanted: Sequence[str] = ()) -> Tensors:
        """Run one request.

        Parameters
        ----------
        wanted : sequence of str
            Names of outputs to give back, in this order; all of them when empty.

        Returns
        -------
        mapping of str to ndarray, each of shape (batch, ...)

        Raises
        ------
        ModelNotReady, TensorMismatch, Overloaded, DeviceError
        """
        return await self._run(model, self._checked(model, inputs), wanted)

    async def infer_samples(self, model: Model, samples: dict[str, list[Any]]) -> Tensors:
        """Run one request that gives each input as a list of samples.

        Raises
        ------
        ModelNotReady, TensorMismatch, Overloaded, DeviceError
        """
        arrays = {name: samples_of(_input(model, name), values) for name, values in samples.items()}
        _check_complete(model, arrays)
        return await self._run(model, arrays, ())

    async def _run(self, model: Model, arrays: Tensors, wanted: Sequence[str]) -> Tensors:
        for name in wanted:
            if name not in model.outputs:
                raise TensorMismatch(
                    f"model {model.name} has no output {str(name)[:80]!r}; the outputs are {list(model.outputs)}"
                )
        worker = model.check_ready()
        batches = {len(array) for array in arrays.values()}
        if len(batches) > 1:
            raise TensorMismatch(f"inputs have different batches: {sorted(batches)}")
        samples = batches.pop()
        outputs = await worker.infer(arrays, samples) if samples else _nothing(model)
        return {name: outputs[name] for name in wanted} if wanted else outputs

    def _checked(self, model: Model, inputs: Sequence[InputTensor]) -> Tensors:
        arrays = {tensor.name: array_of(_input(model, tensor.name), tensor) for tensor in inputs}
        if len(arrays) != len(inputs):
            raise TensorMismatch(f"an input is given twice: {sorted(tensor.name for tensor in inputs)}")
        _check_complete(model, arrays)
        return arrays

    def _check_free(self, device: Device, name: str) -> None:
        for other in self._models.values():
            if other.device is device:
                raise FirmwareMismatch(
                    f"device {device.id} is given to models {other.name} and {name}, it runs one firmware; "
                    "name a device for each",
                    device=device.id,
                )

    async def _load(self, model: Model) -> None:
        model.worker = DeviceWorker(
            model.device,
            model.firmware,
            max_batch=self._settings.max_batch,
            max_waiting=self._settings.max_waiting,
        )
        try:
            await model.worker.program()
            model.ready = True
        except Exception as error:  # a device's bug too: it is raised again where the server was started
            model.failure = error
            if self.on_load_failure:
                self.on_load_failure(error)


def _input(model: Model, name: object) -> Any:
    spec = model.inputs.get(name) if isinstance(name, str) else None
    if spec is None:
        raise TensorMismatch(f"model {model.name} has no input {str(name)[:80]!r}; the inputs are {list(model.inputs)}")
    return spec


def _check_complete(model: Model, arrays: Tensors) -> None:
    missing = [name for name in model.inputs if name not in arrays]
    if missing:
        raise TensorMismatch(f"input {missing[0]!r} is missing; the inputs are {list(model.inputs)}", tensor=missing[0])


def _nothing(model: Model) -> Tensors:
    return {name: np.zeros((0, *spec.shape[1:]), dtype=spec.datatype.dtype) for name, spec in model.outputs.items()}


def _describe(port: Port) -> dict[str, Any]:
    host = [operation.kind.value for operation in port.host]
    parameters = {"format": str(port.format), "host_operations": ", ".join(host)}
    return {**port.spec.to_json(), "parameters": parameters}
