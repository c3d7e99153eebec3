"""The device plugin: offers one resource of a node to its kubelet over a unix socket, until stopped.

The kubelet forgets its plugins when it restarts and removes their sockets; both are seen by looking at its socket, and
the plugin starts anew. Health is looked at every second and told when it changed.
"""

# Ref: Kubernetes "Device Plugins": registration, Healthy and Unhealthy, re-registration when kubelet.sock is new
# Ref: CDI specification: fully qualified names vendor/class=name

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from gatesmith.errors import DeviceNotFound, NotInstalled, ServerNotStarted
from gatesmith.kube.inventory import DOMAIN, NodeDevice
from gatesmith.kube.messages import Message, message

__all__ = ["DEVICES_VARIABLE", "Plugin"]

VERSION = "v1beta1"
KUBELET_SOCKET = "kubelet.sock"
DEVICES_VARIABLE = "GATESMITH_DEVICES"
CDI_CLASS = f"{DOMAIN}/device"
LOOK_INTERVAL_S = 1.0
REGISTER_TIMEOUT_S = 10.0
WATCHERS = 8
_log = logging.getLogger(__name__)

Wanted = Callable[[], Sequence[str]]
"""What pods that wait for this node's devices want to run: digests and names of models, the oldest pod first."""


class Plugin:
    """One resource.

    Parameters
    ----------
    resource : str
        ``gatesmith.dev/ulx3s-85f``.
    look : callable
        Gives this resource's devices as they are now.
    folder : Path
        The kubelet's folder for plugins.
    residents : callable
        Which firmware each device runs, see :class:`gatesmith.serve.residents.Residents`.
    wanted : callable
        See ``Wanted``.
    mounts : mapping of str to str
        Folders of the node that every container gets, by their place in it.
    """

    def __init__(
        self,
        resource: str,
        *,
        look: Callable[[], list[NodeDevice]],
        folder: Path,
        residents: Callable[[], Mapping[str, Mapping[str, str]]] = dict,
        wanted: Wanted = tuple,
        mounts: Mapping[str, str] | None = None,
        cdi: bool = False,
    ) -> None:
        self.resource, self._look, self._folder = resource, look, folder
        self._residents, self._wanted, self._mounts, self._cdi = residents, wanted, dict(mounts or {}), cdi
        self.socket = folder / f"{resource.replace('/', '-')}.sock"
        self._changed = threading.Condition()
        self._devices: dict[str, NodeDevice] = {}
        self._stopping = False
        self._server: Any = None

    def run(self, stop: threading.Event) -> None:
        """Serve, register, and do both again whenever the kubelet's socket is another one; blocks until ``stop``.

        Raises
        ------
        NotInstalled
        """
        registered: tuple[int, int] | None = None
        try:
            while not stop.is_set():
                self._refresh()
                there = _identity(self._folder / KUBELET_SOCKET)
                if there is not None and (there != registered or not self.socket.exists()):
                    registered = there if self._begin() else None
                stop.wait(LOOK_INTERVAL_S)
        finally:
            self._end()

    def _begin(self) -> bool:
        """Serve anew and register; False when that has to be tried again."""
        self._end()
        try:
            self._serve()
            self._register()
        except ServerNotStarted as error:
            _log.warning("%s", error)
            self._end()
            return False
        _log.info("registered %s with %d devices", self.resource, len(self._devices))
        return True

    def _serve(self) -> None:
        grpc = _grpc()
        self.socket.unlink(missing_ok=True)
        self._stopping = False
        self._server = grpc.server(ThreadPoolExecutor(WATCHERS + 4), maximum_concurrent_rpcs=4 * WATCHERS)
        methods: dict[str, tuple[Callable[[Message], Message], str, str]] = {
            "GetDevicePluginOptions": (self.options, "Empty", "DevicePluginOptions"),
            "GetPreferredAllocation": (self.prefer, "PreferredAllocationRequest", "PreferredAllocationResponse"),
            "Allocate": (self.allocate, "AllocateRequest", "AllocateResponse"),
            "PreStartContainer": (self.pre_start, "PreStartContainerRequest", "PreStartContainerResponse"),
        }
        handlers: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(
                _refusing(function),
                request_deserializer=message(given).FromString,
                response_serializer=message(answer).SerializeToString,
            )
            for name, (function, given, answer) in methods.items()
        }
        handlers["ListAndWatch"] = grpc.unary_stream_rpc_method_handler(
            lambda _request, context: self.watch(context),
            request_deserializer=message("Empty").FromString,
            response_serializer=message("ListAndWatchResponse").SerializeToString,
        )
        service = grpc.method_handlers_generic_handler(f"{VERSION}.DevicePlugin", handlers)
        self._server.add_generic_rpc_handlers((service,))
        try:
            self._server.add_insecure_port(f"unix:{self.socket}")
        except RuntimeError as error:
            raise ServerNotStarted(f"cannot listen on {self.socket}: {error}", path=str(self.socket)) from error
        self.socket.chmod(0o600)
        self._server.start()

    def _register(self) -> None:
        grpc = _grpc()
        request = message("RegisterRequest")(
            version=VERSION, endpoint=self.socket.name, resource_name=self.resource, options=self.options()
        )
        with grpc.insecure_channel(f"unix:{self._folder / KUBELET_SOCKET}") as channel:
            register = channel.unary_unary(
                f"/{VERSION}.Registration/Register",
                request_serializer=message("RegisterRequest").SerializeToString,
                response_deserializer=message("Empty").FromString,
            )
            try:
                register(request, timeout=REGISTER_TIMEOUT_S)
            except grpc.RpcError as error:
                raise ServerNotStarted(
                    f"the kubelet did not take {self.resource}: {error.code().name} {error.details()}",
                    resource=self.resource,
                ) from error

    def _end(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._server is not None:
            self._server.stop(0).wait(5)
            self._server = None
        with suppress(OSError):
            self.socket.unlink()

    def _refresh(self) -> None:
        devices = {device.name: device for device in self._look()}
        with self._changed:
            if devices != self._devices:
                for name, device in devices.items():
                    before = self._devices.get(name)
                    if before is not None and before.problem != device.problem:
                        _log.warning("%s is %s", device.id, device.problem or "well again")
                self._devices = devices
                self._changed.notify_all()

    # What the kubelet asks.

    def options(self, _request: Message = None) -> Message:
        """What this plugin can do."""
        return message("DevicePluginOptions")(pre_start_required=True, get_preferred_allocation_available=True)

    def watch(self, context: Any) -> Iterator[Message]:
        """All devices, now and whenever something changed."""
        told: dict[str, NodeDevice] | None = None
        context.add_callback(self._wake)
        while context.is_active():
            with self._changed:
                while self._devices == told and not self._stopping and context.is_active():
                    self._changed.wait()
                if self._stopping:
                    return
                told = self._devices
            yield message("ListAndWatchResponse")(
                devices=[
                    {"ID": name, "health": "Unhealthy" if device.problem else "Healthy"}
                    for name, device in sorted(told.items())
                ]
            )

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def prefer(self, request: Message) -> Message:
        """Of the devices that are free, those that run already what a waiting pod wants; else those that run nothing.

        A device whose firmware nobody asks for now is taken last: its model may come back.
        """
        response = message("PreferredAllocationResponse")()
        residents, wanted = self._residents(), list(self._wanted())
        for one in request.container_requests:
            must = list(one.must_include_deviceIDs)
            rest = [name for name in one.available_deviceIDs if name not in must]
            order = sorted(rest, key=lambda name: (*self._rank(name, residents, wanted), name))
            chosen = [*must, *order][: one.allocation_size]
            response.container_responses.add(deviceIDs=chosen)
        return response

    def _rank(
        self, name: str, residents: Mapping[str, Mapping[str, str]], wanted: Sequence[str]
    ) -> tuple[bool, int, bool]:
        device = self._devices.get(name)
        resident = residents.get(device.id, {}) if device else {}
        names = {value for value in (resident.get("digest"), resident.get("model")) if value}
        place = next((number for number, want in enumerate(wanted) if want in names), len(wanted))
        return (bool(device and device.problem), place, bool(names) and place == len(wanted))

    def allocate(self, request: Message) -> Message:
        """Device nodes, environment, mounts and CDI names for each container.

        Raises
        ------
        DeviceNotFound
        """
        response = message("AllocateResponse")()
        for one in request.container_requests:
            devices = [self._usable(name) for name in one.devices_ids]
            given = response.container_responses.add(
                envs={DEVICES_VARIABLE: ",".join(device.id for device in devices)},
                mounts=[
                    {"host_path": host, "container_path": place, "read_only": False}
                    for place, host in sorted(self._mounts.items())
                ],
            )
            if self._cdi:
                for device in filter(lambda device: device.nodes, devices):
                    given.cdi_devices.add(name=f"{CDI_CLASS}={device.name}")
            else:
                for node in (node for device in devices for node in device.nodes):
                    given.devices.add(host_path=node, container_path=node, permissions="rw")
        return response

    def pre_start(self, request: Message) -> Message:
        """Look once more, just before the container starts: nothing starts on a device that is gone.

        Raises
        ------
        DeviceNotFound
        """
        self._refresh()
        for name in request.devices_ids:
            device = self._usable(name)
            missing = [node for node in device.nodes if not os.access(node, os.R_OK | os.W_OK)]
            if missing:
                raise DeviceNotFound(f"{device.id} cannot be opened: no access to {missing[0]}", device=device.id)
        return message("PreStartContainerResponse")()

    def _usable(self, name: str) -> NodeDevice:
        device = self._devices.get(name)
        if device is None:
            raise DeviceNotFound(f"no device {name[:80]!r} here; there are {sorted(self._devices)}", device=name)
        if device.problem:
            raise DeviceNotFound(f"{device.id} cannot be used: {device.problem}", device=device.id)
        return device


def _refusing(function: Callable[[Message], Message]) -> Callable[[Message, Any], Message]:
    """Errors of ours as a status that the kubelet shows with the pod."""

    def call(request: Message, context: Any) -> Message:
        try:
            return function(request)
        except DeviceNotFound as error:
            context.abort(_grpc().StatusCode.FAILED_PRECONDITION, str(error))
            raise AssertionError("abort raises") from error

    return call


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file this is; a new socket at the same place is another one."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns


def _grpc() -> Any:
    try:
        import grpc
    except ImportError as error:
        raise NotInstalled("gRPC", "pip install 'gatesmith[kube]'") from error
    return grpc
