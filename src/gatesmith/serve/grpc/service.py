"""The methods beside inference: health, metadata, repository, statistics, configuration, shared memory, reflection."""

# Ref: Open Inference Protocol v2, inference_grpc.md
# Ref: grpc/grpc doc/health-checking.md (Check of an unknown service is NOT_FOUND), doc/server-reflection.md
# Ref: Kubernetes "Configure Liveness, Readiness and Startup Probes": a gRPC probe names a service, to tell them apart

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.json_format import ParseDict

from gatesmith.errors import ModelNotFound
from gatesmith.oip.schema import Message, file_of, message, service_names
from gatesmith.serve.access import Access
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.grpc.calls import Call, Conversation, Method, Streaming, Unary
from gatesmith.serve.grpc.infer import Inference
from gatesmith.serve.grpc.messages import Code, RpcError, parsed
from gatesmith.serve.shm import Regions

__all__ = ["methods"]

_SERVICE = "inference.GRPCInferenceService"
_HEALTH, _REFLECTION = "grpc.health.v1", "grpc.reflection.v1"
_SERVING, _NOT_SERVING, _UNKNOWN = 1, 2, 3
_WATCH_S = 0.5
Answerer = Callable[[Message], Awaitable[dict[str, Any]]]


def methods(plane: DataPlane, regions: Regions, access: Access) -> dict[bytes, Method]:
    """Every method of the door, by its path."""
    inference, service = Inference(plane, regions), _Service(plane, regions)
    found = {
        f"{_SERVICE}/ModelInfer": Unary(inference.infer),
        f"{_SERVICE}/ModelStreamInfer": Streaming(inference.stream),
        **{f"{_SERVICE}/{name}": _plain(name, answer) for name, answer in service.open().items()},
        **{f"{_SERVICE}/{name}": _plain(name, answer, access) for name, answer in service.admin().items()},
        f"{_HEALTH}.Health/Check": Unary(_Health(plane).check),
        f"{_HEALTH}.Health/Watch": Streaming(_Health(plane).watch, takes_one=True),
        f"{_REFLECTION}.ServerReflection/ServerReflectionInfo": Streaming(_reflect),
        f"{_REFLECTION}alpha.ServerReflection/ServerReflectionInfo": Streaming(_reflect),
    }
    return {f"/{path}".encode(): method for path, method in found.items()}


def _plain(name: str, answer: Answerer, access: Access | None = None) -> Method:
    """A method whose answer is written as a dictionary; the administrative ones ask who is there."""
    request, response = message(f"{name}Request"), message(f"{name}Response")

    async def handler(data: bytes, call: Call) -> bytes:
        if access:
            access.check(call.head.get(b"authorization").decode(errors="replace"))
        content = await answer(parsed(request, data))
        written: bytes = ParseDict(content, response(), ignore_unknown_fields=True).SerializeToString()
        return written

    return Unary(handler)


class _Service:
    """The dataplane's answers; fields that only REST has are left out when they are written."""

    def __init__(self, plane: DataPlane, regions: Regions) -> None:
        self._plane, self._regions = plane, regions

    def open(self) -> dict[str, Answerer]:
        """Methods for everybody."""
        return {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._index,
            "SystemSharedMemoryStatus": self._regions_status,
        }

    def admin(self) -> dict[str, Answerer]:
        """Methods that change what is served."""
        return {
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
            "SystemSharedMemoryRegister": self._register,
            "SystemSharedMemoryUnregister": self._unregister,
        }

    async def _live(self, _request: Message) -> dict[str, Any]:
        return {"live": True}

    async def _ready(self, _request: Message) -> dict[str, Any]:
        return {"ready": self._plane.ready}

    async def _model_ready(self, request: Message) -> dict[str, Any]:
        return {"ready": self._plane.model(request.name, request.version or None).ready}

    async def _metadata(self, _request: Message) -> dict[str, Any]:
        return self._plane.metadata()

    async def _model_metadata(self, request: Message) -> dict[str, Any]:
        return self._plane.model(request.name, request.version or None).metadata()

    async def _model_config(self, request: Message) -> dict[str, Any]:
        return {"config": self._plane.model(request.name, request.version or None).configuration()}

    async def _statistics(self, request: Message) -> dict[str, Any]:
        return self._plane.statistics(request.name or None, request.version or None)

    async def _index(self, request: Message) -> dict[str, Any]:
        _check_repository(request)
        return {"models": self._plane.index(request.ready)}

    async def _load(self, request: Message) -> dict[str, Any]:
        _check_repository(request)
        await self._plane.load_model(request.model_name, _parameters(request))
        return {}

    async def _unload(self, request: Message) -> dict[str, Any]:
        _check_repository(request)
        dependents = _parameters(request).get("unload_dependents", False)
        await self._plane.unload_model(request.model_name, unload_dependents=dependents is True)
        return {}

    async def _regions_status(self, request: Message) -> dict[str, Any]:
        return {"regions": {str(region["name"]): region for region in self._regions.status(request.name or None)}}

    async def _register(self, request: Message) -> dict[str, Any]:
        self._regions.register(request.name, request.key, request.offset, request.byte_size)
        return {}

    async def _unregister(self, request: Message) -> dict[str, Any]:
        self._regions.unregister(request.name or None)
        return {}


def _check_repository(request: Message) -> None:
    if request.repository_name:
        raise ModelNotFound(f"there is one repository, without a name; {request.repository_name[:80]!r} is not known")


def _parameters(request: Message) -> dict[str, Any]:
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in request.parameters.items()}
    return {name: getattr(request.parameters[name], field) for name, field in chosen.items() if field}


class _Health:
    """The standard health service: ``liveness`` is the process, everything else is whether all models can answer."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._request = message("HealthCheckRequest", _HEALTH)
        self._response = message("HealthCheckResponse", _HEALTH)

    async def check(self, data: bytes, _call: Call) -> bytes:
        """The state now."""
        request = parsed(self._request, data)
        status = self._status(request.service)
        if status == _UNKNOWN:
            raise RpcError(Code.NOT_FOUND, f"no service {request.service[:80]!r} here")
        return self._written(status)

    async def watch(self, conversation: Conversation, _call: Call) -> None:
        """The state now and whenever it changes."""
        request = parsed(self._request, await anext(conversation.messages, b""))
        said = None
        while not self._plane.draining:
            status = self._status(request.service)
            if status != said:
                await conversation.send(self._written(status))
                said = status
            await asyncio.sleep(_WATCH_S)
        await conversation.send(self._written(_NOT_SERVING))
        raise RpcError(Code.UNAVAILABLE, "the server is stopping")

    def _status(self, service: str) -> int:
        if service == "liveness":
            return _SERVING
        if service in {"", "readiness", _SERVICE}:
            return _SERVING if self._plane.ready else _NOT_SERVING
        return _UNKNOWN

    def _written(self, status: int) -> bytes:
        written: bytes = self._response(status=status).SerializeToString()
        return written


async def _reflect(conversation: Conversation, _call: Call) -> None:
    kind, response = message("ServerReflectionRequest", _REFLECTION), message("ServerReflectionResponse", _REFLECTION)
    async for data in conversation.messages:
        request = parsed(kind, data)
        answer = response(valid_host=request.host, original_request=request)
        content = file_of(name=request.file_by_filename, symbol=request.file_containing_symbol)
        if request.WhichOneof("message_request") == "list_services":
            for name in service_names():
                answer.list_services_response.service.add(name=name)
        elif content is not None:
            answer.file_descriptor_response.file_descriptor_proto.append(content)
        else:
            answer.error_response.error_code, answer.error_response.error_message = Code.NOT_FOUND, "not known"
        await conversation.send(answer.SerializeToString())
