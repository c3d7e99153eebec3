"""One version of one model: its contract, its state, and what the protocol tells of it.

A version is the start of its firmware's digest, so two servers with the same answers have the same version; the tag it
was loaded by, if any, is a second name of that version.
"""

# Ref: Triton "model_configuration" extension and model_config.proto: field names, TYPE_* and KIND_* names

from __future__ import annotations

from enum import StrEnum
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

    def __init__(self, *, name: str, tag: str, firmware: Firmware, settings: Settings) -> None:
        self.name, self.firmware = name, firmware
        self.digest = firmware_digest(firmware)
        self.version = self.digest.removeprefix("sha256:")[:_VERSION_DIGITS]
        self.versions = [self.version, tag] if tag else [self.version]
        self.inputs = {port.spec.name: port.spec for port in firmware.contract.inputs}
        self.outputs = {port.spec.name: port.spec for port in firmware.contract.outputs}
        self.state, self.reason = State.UNAVAILABLE, "it was not loaded yet"
        self.ready = False
        self.devices: list[str] = []
        self.progress: dict[str, Any] = {}
        self.deployment: Deployment | None = None
        self.counts = Counts()
        self.failure: BaseException | None = None
        self._settings = settings

    def check_ready(self) -> Deployment:
        """The queue of a model that can answer.

        Raises
        ------
        ModelNotReady
        """
        if self.deployment is not None and self.ready:
            return self.deployment
        if self.failure:
            raise ModelNotReady(f"model {self.name} failed to load: {self.failure}", model=self.name)
        if self.state is State.LOADING:
            raise ModelNotReady(f"model {self.name} is being loaded; try again later", model=self.name, retry_after_s=1)
        raise not_ready(self.name, f"is not loaded: {self.reason}", 1)

    def is_version(self, version: str) -> bool:
        """Whether a name is one of this version: its digits, its whole digest, or its tag."""
        return version in self.versions or version == self.digest

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
                "device": ", ".join(self.devices),
                "clock_hz": firmware.clock_hz,
                "latency_cycles": firmware.latency_cycles,
                "state": self.state.value,
                **self.progress,
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
