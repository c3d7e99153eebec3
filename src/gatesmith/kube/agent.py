"""What the node's agent does: a plugin for each kind of board, labels, and the list for container runtimes."""

# Ref: CDI specification 0.6.0: cdiVersion, kind, devices with containerEdits.deviceNodes; files in /var/run/cdi
# Ref: Kubernetes volumes, hostPath: folders that the kubelet makes (DirectoryOrCreate) belong to root, mode 0755
# Ref: Node Feature Discovery, "local" source: a file of name=value lines in features.d becomes labels

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

from gatesmith.artifact.durable import becoming, store_errors
from gatesmith.errors import DeviceNotFound, GatesmithError
from gatesmith.kube.cluster import Cluster, labels_of, wanted_by
from gatesmith.kube.inventory import Inventory, NodeDevice
from gatesmith.kube.plugin import CDI_CLASS, Plugin
from gatesmith.serve.residents import Residents

__all__ = ["Agent", "cdi_spec"]

RESIDENTS_PLACE = "/var/run/gatesmith"
CDI_VERSION = "0.6.0"
CDI_FILE = "gatesmith.dev-device.json"
LABEL_INTERVAL_S = 30.0
SHARED_MODE = 0o1777
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Agent:
    """The agent of one node.

    Parameters
    ----------
    plugins : Path
        The kubelet's folder for plugins.
    residents : Path
        Folder in which servers note what their devices run; containers get it at ``/var/run/gatesmith``.
    cdi : Path, optional
        Folder for the list of devices; containers then get devices by name instead of by node.
    features : Path, optional
        File for Node Feature Discovery's local source.
    cluster : Cluster, optional
        For labels of the node and what waiting pods want.
    """

    inventory: Inventory
    plugins: Path
    residents: Path
    cdi: Path | None = None
    features: Path | None = None
    cluster: Cluster | None = None

    def run(self, stop: threading.Event | None = None) -> None:
        """Serve until stopped; SIGTERM and SIGINT do that where this is the main thread.

        Raises
        ------
        DeviceNotFound
            When there is nothing to offer.
        """
        stop = stop or threading.Event()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, _setting(stop))
        devices = self.inventory.look()
        if not devices:
            raise DeviceNotFound("this node offers no device; name one with --board PORT=BOARD or give --emulated N")
        self._share_residents()
        failures: list[BaseException] = []
        threads = [
            threading.Thread(target=_guarded, args=(plugin, stop, failures), name=plugin.resource, daemon=True)
            for plugin in self._plugins(sorted({device.resource for device in devices}))
        ]
        for thread in threads:
            thread.start()
        while not stop.is_set():
            self._tell(self.inventory.look())
            stop.wait(LABEL_INTERVAL_S)
        for thread in threads:
            thread.join(10)
        if failures:
            raise failures[0]

    def _share_residents(self) -> None:
        """Servers in containers are not root and write there, each its own files."""
        try:
            self.residents.mkdir(parents=True, exist_ok=True)
            self.residents.chmod(SHARED_MODE)
        except OSError as error:
            _log.warning("servers cannot note in %s what their devices run: %s", self.residents, error.strerror)

    def _plugins(self, resources: list[str]) -> list[Plugin]:
        residents = Residents(self.residents)
        return [
            Plugin(
                resource,
                look=partial(self._look, resource),
                folder=self.plugins,
                residents=residents.read,
                wanted=wanted_by(self.cluster, resource) if self.cluster else tuple,
                mounts={RESIDENTS_PLACE: str(self.residents)},
                cdi=self.cdi is not None,
            )
            for resource in resources
        ]

    def _look(self, resource: str) -> list[NodeDevice]:
        return [device for device in self.inventory.look() if device.resource == resource]

    def _tell(self, devices: list[NodeDevice]) -> None:
        labels = labels_of(devices)
        try:
            self._write_cdi(devices)
            if self.features is not None:
                lines = "".join(f"{name}={value}\n" for name, value in sorted(labels.items()))
                _write(self.features, lines)
            if self.cluster is not None:
                self.cluster.label(labels)
        except GatesmithError as error:
            _log.warning("what this node has could not be told: %s", error)

    def _write_cdi(self, devices: list[NodeDevice]) -> None:
        if self.cdi is not None:
            _write(self.cdi / CDI_FILE, json.dumps(cdi_spec(devices), indent=1) + "\n")


def cdi_spec(devices: list[NodeDevice]) -> Mapping[str, object]:
    """The devices in the form that container runtimes read."""
    return {
        "cdiVersion": CDI_VERSION,
        "kind": CDI_CLASS,
        "devices": [
            {
                "name": device.name,
                "containerEdits": {"deviceNodes": [{"path": node, "permissions": "rw"} for node in device.nodes]},
            }
            for device in devices
            if device.nodes
        ],
    }


def _write(path: Path, text: str) -> None:
    with store_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with becoming(path, path.parent) as file:
            file.write(text.encode())


def _guarded(plugin: Plugin, stop: threading.Event, failures: list[BaseException]) -> None:
    try:
        plugin.run(stop)
    except BaseException as error:
        failures.append(error)
        stop.set()


def _setting(stop: threading.Event) -> Callable[[int, FrameType | None], None]:
    def handler(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    return handler
