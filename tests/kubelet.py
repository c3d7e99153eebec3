"""A strict kubelet: registration on its socket, then it calls the plugin back and checks every answer."""

# Ref: Kubernetes "Device Plugins"; k8s.io/kubernetes pkg/kubelet/cm/devicemanager: what a plugin may answer

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from gatesmith.kube.messages import message

__all__ = ["Kubelet"]

WAIT_S = 20.0
RESOURCE = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
CDI_NAME = re.compile(r"[a-z0-9.-]+/[A-Za-z0-9_-]+=[A-Za-z0-9][A-Za-z0-9_.:-]*")


class Kubelet:
    """One kubelet on ``kubelet.sock`` of a folder; ``devices`` is what each resource's plugin said last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.devices: dict[str, dict[str, str]] = {}
        self.options: dict[str, Any] = {}
        self.registrations: list[str] = []
        self.faults: list[str] = []
        self._changed = threading.Condition()
        self._channels: dict[str, grpc.Channel] = {}
        self.start()

    def start(self) -> None:
        """Begin, with a socket that is new and no plugin known; sockets of plugins are removed, as kubelets do."""
        for path in self.folder.glob("*.sock"):
            path.unlink()
        self.devices, self.options = {}, {}
        self._server = grpc.server(ThreadPoolExecutor(4))
        register = grpc.unary_unary_rpc_method_handler(
            self._register,
            request_deserializer=message("RegisterRequest").FromString,
            response_serializer=message("Empty").SerializeToString,
        )
        service = grpc.method_handlers_generic_handler("v1beta1.Registration", {"Register": register})
        self._server.add_generic_rpc_handlers((service,))
        self._server.add_insecure_port(f"unix:{self.folder}/kubelet.sock")
        self._server.start()

    def stop(self) -> None:
        """End; the socket goes with it."""
        for channel in self._channels.values():
            channel.close()
        self._channels = {}
        self._server.stop(0).wait(10)
        (self.folder / "kubelet.sock").unlink(missing_ok=True)

    def wait(self, condition: Any) -> None:
        """Until something holds of what plugins said."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self) or self.faults, WAIT_S), (self.devices, self.faults)
        assert not self.faults, self.faults

    def allocate(self, resource: str, *ids: str) -> Any:
        """What a container of one pod gets; ids have to be known and healthy, as the kubelet sees to."""
        assert all(self.devices[resource][id] == "Healthy" for id in ids)
        given = self.call(resource, "Allocate", {"container_requests": [{"devices_ids": ids}]})
        assert len(given.container_responses) == 1
        (one,) = given.container_responses
        for node in one.devices:
            assert node.host_path.startswith("/")
            assert node.container_path.startswith("/")
            assert set(node.permissions) <= set("mrw")
        for mount in one.mounts:
            assert mount.host_path.startswith("/")
            assert mount.container_path.startswith("/")
        assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in one.envs)
        assert all(CDI_NAME.fullmatch(device.name) for device in one.cdi_devices)
        if self.options[resource].pre_start_required:
            self.call(resource, "PreStartContainer", {"devices_ids": ids})
        return one

    def prefer(self, resource: str, available: list[str], size: int, must: tuple[str, ...] = ()) -> list[str]:
        """Which devices the plugin would give; they have to be as many as asked for, and among the available ones."""
        assert self.options[resource].get_preferred_allocation_available
        one = {"available_deviceIDs": available, "must_include_deviceIDs": must, "allocation_size": size}
        (answer,) = self.call(
            resource, "GetPreferredAllocation", {"container_requests": [one]}
        ).container_responses  # fmt: skip
        chosen = list(answer.deviceIDs)
        assert len(chosen) == len(set(chosen)) == size
        assert set(must) <= set(chosen) <= set(available)
        return chosen

    def call(self, resource: str, method: str, fields: dict[str, Any]) -> Any:
        """Call a plugin."""
        kinds = {
            "Allocate": ("AllocateRequest", "AllocateResponse"),
            "GetPreferredAllocation": ("PreferredAllocationRequest", "PreferredAllocationResponse"),
            "PreStartContainer": ("PreStartContainerRequest", "PreStartContainerResponse"),
            "GetDevicePluginOptions": ("Empty", "DevicePluginOptions"),
        }
        given, answer = kinds[method]
        function = self._channels[resource].unary_unary(
            f"/v1beta1.DevicePlugin/{method}",
            request_serializer=message(given).SerializeToString,
            response_deserializer=message(answer).FromString,
        )
        return function(message(given)(**fields), timeout=WAIT_S)

    def _register(self, request: Any, context: Any) -> Any:
        problem = self._wrong(request)
        if problem:
            self.faults.append(problem)
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
        name = request.resource_name
        self._channels[name] = grpc.insecure_channel(f"unix:{self.folder / request.endpoint}")
        with self._changed:
            self.registrations.append(name)
            self.options[name] = request.options
        threading.Thread(target=self._watch, args=(name, request.options), daemon=True).start()
        return message("Empty")()

    def _wrong(self, request: Any) -> str:
        if request.version != "v1beta1":
            return f"version {request.version} is not supported"
        if not RESOURCE.fullmatch(request.resource_name) or "kubernetes.io/" in request.resource_name:
            return f"resource name {request.resource_name} is not an extended resource"
        if "/" in request.endpoint or not (self.folder / request.endpoint).is_socket():
            return f"endpoint {request.endpoint} is no socket in {self.folder}"
        return ""

    def _watch(self, name: str, registered: Any) -> None:
        try:
            options = self.call(name, "GetDevicePluginOptions", {})
            if options != registered:
                self.faults.append("options differ from the registered ones")
            stream = self._channels[name].unary_stream(
                "/v1beta1.DevicePlugin/ListAndWatch",
                request_serializer=message("Empty").SerializeToString,
                response_deserializer=message("ListAndWatchResponse").FromString,
            )(message("Empty")())
            for answer in stream:
                found = {device.ID: device.health for device in answer.devices}
                if len(found) < len(answer.devices) or not set(found.values()) <= {"Healthy", "Unhealthy"}:
                    self.faults.append(f"devices are {answer.devices}")
                with self._changed:
                    self.devices[name] = found
                    self._changed.notify_all()
        except (grpc.RpcError, ValueError):  # the plugin went away, or this kubelet did
            with self._changed:
                self.devices.pop(name, None)
                self._changed.notify_all()
