"""One version of one model: its contract, its state, and what the protocol tells of it.

A version is the start of its firmware's digest, so two servers with the same answers have the same version; the tag it
was loaded by, if any, is a second name of that version.
"""

# Ref: Triton "model_configuration" extension and model_config.proto: field names, TYPE_* and KIND_* names

from __future__ import annotations

import asyncio
from enum import StrEnum
from time import perf_counter_ns
from typing import Any

from gatesmith.artifact.manifest import firmware_digest
from gatesmith.contract import Port
from gatesmith.errors import ModelNotReady
from gatesmith.firmware import Firmware
from gatesmith.serve.counts import Counts
from gatesmith.serve.deployment import DEFAULT_PRIORITY, PRIORITIES, Deployment, not_ready
from gatesmith.serve.settings import Settings
from gatesmith.tensor import Datatype

__all__ = ["Model", "State"]

_VERSION_DIGITS = 12


class State(StrEnum):
    """States of the protocol's repository extension."""

    READY = "READY"
    LOADING = "LOADING"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


class Model:
    """One version of one model that is, was or will be served.

    Attributes
    ----------
    versions : list of str
        Names of this version.
    inputs, outputs : dict of str to TensorSpec
    state, reason
        What the repository's index says.
    ready : bool
        Whether a healthy device runs it.
    devices : list of str
        Ids of these devices.
    progress : dict
        What a load that takes long tells, for metadata.
    """

    def __init__(self, *, name: str, tag: str, firmware: Firmware | None, settings: Settings) -> None:
        self.name, self._firmware = name, firmware
        self.digest = firmware_digest(firmware) if firmware else ""
        self.version = self.digest.removeprefix("sha256:")[:_VERSION_DIGITS]
        self.versions = [part for part in (self.version, tag) if part]
        self.inputs = {port.spec.name: port.spec for port in firmware.contract.inputs} if firmware else {}
        self.outputs = {port.spec.name: port.spec for port in firmware.contract.outputs} if firmware else {}
        self.state, self.reason = State.UNAVAILABLE, "it was not loaded yet"
        self.ready, self.ready_since, self._ready_ns = False, 0.0, 0
        self.devices: list[str] = []
        self.progress: dict[str, Any] = {}
        self.counts = Counts()
        self.failure: BaseException | None = None
        self.recovery: asyncio.Future[None] | None = None
        self.falls_back = self.is_evicted = False
        self._deployment: Deployment | None = None
        self._settings = settings

    @property
    def known(self) -> bool:
        """Whether its firmware was read."""
        return self._firmware is not None

    @property
    def firmware(self) -> Firmware:
        """What its devices run.

        Raises
        ------
        ModelNotReady
            When it was not read yet.
        """
        if self._firmware is None:
            self.check_ready()
            raise not_ready(self.name, "is not loaded", 1)
        return self._firmware

    def queue(self) -> Deployment:
        """The queue of its requests; it is made when the first device takes from it."""
        if self._deployment is None:
            self._deployment = Deployment(
                self.name,
                self.firmware.contract,
                max_batch=self._settings.max_batch,
                max_waiting=self._settings.max_waiting,
                delay_us=self._settings.max_queue_delay_us,
                counts=self.counts,
            )
        return self._deployment

    @property
    def waiting(self) -> int:
        """Samples that wait or are being computed."""
        return self._deployment.waiting if self._deployment else 0

    @property
    def last_used(self) -> int:
        """When a device answered a request of it or it was made ready, in nanoseconds on the performance counter."""
        return max(self.counts.last_ns, self._ready_ns)

    def check_ready(self) -> Deployment:
        """The queue of a model that can answer.

        Raises
        ------
        ModelNotReady
        """
        deployment = self._deployment
        if deployment is not None and self.ready:
            return deployment
        if self.failure:
            raise ModelNotReady(f"model {self.name} failed to load: {self.failure}", model=self.name)
        if self.state is State.LOADING:
            raise ModelNotReady(f"model {self.name} is being loaded; try again later", model=self.name, retry_after_s=1)
        raise not_ready(self.name, f"is not ready: {self.reason}", 1)

    def add_device(self, device: str) -> None:
        """A healthy device runs it."""
        self.devices.append(device)
        if self.state is State.UNLOADING:
            return
        if not self.ready:
            self.ready_since, self._ready_ns = asyncio.get_running_loop().time(), perf_counter_ns()
        self.ready, self.state, self.reason, self.failure, self.is_evicted = True, State.READY, "", None, False
        self._recovered()

    def remove_device(self, device: str) -> None:
        """A device does not run it any more; without another one it is not ready, and may be soon again."""
        if device in self.devices:
            self.devices.remove(device)
        if self.devices or self.state is not State.READY:
            return
        self.expect_back(device)

    def expect_back(self, device: str) -> None:
        """It will be ready again as soon as a device that failed is: requests may wait for that."""
        self.ready, self.state, self.reason = False, State.UNAVAILABLE, f"device {device} is being brought back"
        self.recovery = asyncio.get_running_loop().create_future()

    def lose(self, reason: str, retry_after_s: float) -> None:
        """No device of it came back at once: nobody waits for that any longer."""
        self.reason = f"it has no healthy device: {reason}"
        if self._deployment is not None:
            self._deployment.refuse_waiting(not_ready(self.name, f"has no healthy device: {reason}", retry_after_s))
        self._recovered()

    async def leave(self, reason: str) -> None:
        """Take no more requests, and come back when those that are there have their answers."""
        self.ready, self.state, self.reason = False, State.UNLOADING, reason
        self._recovered()
        if self._deployment is not None:
            await self._deployment.drained()
        self.state = State.UNAVAILABLE

    def _recovered(self) -> None:
        if self.recovery is not None and not self.recovery.done():
            self.recovery.set_result(None)
        self.recovery = None

    def give_up(self, error: ModelNotReady) -> None:
        """Refuse what still waits."""
        if self._deployment is not None:
            self._deployment.refuse_waiting(error)

    def is_firmware(self, firmware: Firmware) -> bool:
        """Whether this is the version of a firmware."""
        return bool(self.digest) and firmware_digest(firmware) == self.digest

    def add_name(self, tag: str) -> None:
        """One more name of this version."""
        if tag and tag not in self.versions:
            self.versions.append(tag)

    def is_version(self, version: str) -> bool:
        """Whether a name is one of this version: its digits, its whole digest, or its tag."""
        return version in self.versions or version == self.digest

    def metadata(self) -> dict[str, Any]:
        """The protocol's model metadata; ``parameters`` say what is not in its standard fields."""
        shown = {"state": self.state.value, **self.progress}
        firmware = self._firmware
        if firmware is None:
            tensors: list[Any] = []
            return {
                "name": self.name,
                "versions": [],
                "platform": "gatesmith",
                "inputs": tensors,
                "outputs": tensors,
                "parameters": shown,
            }
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
                "device": ", ".join(self.devices),
                "clock_hz": firmware.clock_hz,
                "latency_cycles": firmware.latency_cycles,
                **shown,
            },
        }

    def configuration(self) -> dict[str, Any]:
        """The model's configuration, as far as the protocol's extension has words for it."""
        settings, firmware = self._settings, self.firmware
        facts = {"digest": self.digest, "board": firmware.board, "part": firmware.part, "engine": firmware.engine}
        return {
            "name": self.name,
            "platform": f"gatesmith_{firmware.family}",
            "backend": "gatesmith",
            "version_policy": {"latest": {"num_versions": 1}},
            "max_batch_size": settings.max_batch,
            "input": [_configured(port) for port in firmware.contract.inputs],
            "output": [_configured(port) for port in firmware.contract.outputs],
            "instance_group": [{"name": device, "kind": "KIND_MODEL", "count": 1} for device in self.devices],
            "dynamic_batching": {
                "preferred_batch_size": [],
                "max_queue_delay_microseconds": settings.max_queue_delay_us,
                "preserve_ordering": False,
                "priority_levels": PRIORITIES,
                "default_priority_level": DEFAULT_PRIORITY,
                "default_queue_policy": {
                    "timeout_action": "REJECT",
                    "default_timeout_microseconds": 0,
                    "allow_timeout_override": True,
                    "max_queue_size": settings.max_waiting,
                },
            },
            "parameters": {name: {"string_value": value} for name, value in facts.items()},
        }


def _describe(port: Port) -> dict[str, Any]:
    host = [operation.kind.value for operation in port.host]
    parameters = {"format": str(port.format), "host_operations": ", ".join(host)}
    return {**port.spec.to_json(), "parameters": parameters}


def _configured(port: Port) -> dict[str, Any]:
    kind = "STRING" if port.spec.datatype is Datatype.BYTES else port.spec.datatype.value
    return {"name": port.spec.name, "data_type": f"TYPE_{kind}", "dims": list(port.spec.shape[1:])}
