"""Everything about models and the server but inference: health, metadata, statistics, repository, shared memory."""

# Ref: Open Inference Protocol v2, inference_rest.md: health, server metadata, model metadata
# Ref: Triton extensions model_repository, statistics, model_configuration, system_shared_memory (paths and bodies)
# Ref: KServe V1 protocol: list of models, readiness

from __future__ import annotations

from typing import Any

from gatesmith.errors import GatesmithError, TensorMismatch
from gatesmith.serve.bodies import read_object
from gatesmith.serve.dataplane import DataPlane, Model
from gatesmith.serve.errors import http_status, retry_after_s
from gatesmith.serve.rest_http import HttpError, Reply, Request, json_reply
from gatesmith.serve.settings import Settings
from gatesmith.serve.shm import Regions

__all__ = ["Memory", "Models", "Repository"]


class Models:
    """What is asked with GET."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def live(self, _request: Request) -> Reply:
        """Whether the process answers at all."""
        return json_reply({"live": True})

    async def ready(self, _request: Request) -> Reply:
        """Whether every model that is to be served can answer."""
        if self._plane.ready:
            return json_reply({"ready": True})
        waiting = [entry["name"] for entry in self._plane.index() if entry["state"] != "READY"]
        return json_reply({"ready": False, "error": f"models {waiting} are not ready"}, 503)

    async def server(self, _request: Request) -> Reply:
        """Name, version and extensions."""
        return json_reply(self._plane.metadata())

    async def names(self, _request: Request) -> Reply:
        """V1's list of names."""
        return json_reply({"models": self._plane.names})

    async def model(self, request: Request) -> Reply:
        """Tensors and facts of a model."""
        return json_reply(self._find(request).metadata())

    async def model_ready(self, request: Request) -> Reply:
        """Whether one model can answer; V1 and V2 have the same form."""
        model = self._find(request)
        try:
            model.check_ready()
        except GatesmithError as error:
            reply = json_reply({"name": model.name, "ready": False, "error": str(error)}, http_status(error))
            return reply._replace(headers=((b"retry-after", b"%d" % retry_after_s(error)),))
        return json_reply({"name": model.name, "ready": True})

    async def configuration(self, request: Request) -> Reply:
        """The model_configuration extension."""
        return json_reply(self._find(request).configuration())

    async def statistics(self, request: Request) -> Reply:
        """The statistics extension, for all models or one."""
        return json_reply(self._plane.statistics(request.names.get("name"), request.names.get("version")))

    async def metrics(self, _request: Request) -> Reply:
        """Prometheus' text."""
        from gatesmith.serve.metrics import exposition

        return Reply(exposition(self._plane), kind=b"text/plain; version=0.0.4; charset=utf-8")

    def _find(self, request: Request) -> Model:
        return self._plane.model(request.names["name"], request.names.get("version"))


class Repository:
    """The model_repository extension."""

    def __init__(self, plane: DataPlane, settings: Settings) -> None:
        self._plane, self._limit_bytes = plane, settings.body_limit_bytes

    async def index(self, request: Request) -> Reply:
        """Every model that is known, and its state."""
        only = (await read_object(request, self._limit_bytes)).get("ready", False)
        if type(only) is not bool:
            raise HttpError(400, f"'ready' is of kind {type(only).__name__}, true or false is needed")
        return json_reply(self._plane.index(only))

    async def load(self, request: Request) -> Reply:
        """Make a model ready; answers when it is."""
        name = request.names["name"]
        await self._plane.load_model(name, await self._parameters(request))
        return json_reply({"name": name, "load": True})

    async def unload(self, request: Request) -> Reply:
        """Take a model off its devices."""
        name = request.names["name"]
        dependents = (await self._parameters(request)).get("unload_dependents", False)
        if type(dependents) is not bool:
            raise HttpError(400, f"unload_dependents is of kind {type(dependents).__name__}, true or false is needed")
        await self._plane.unload_model(name, unload_dependents=dependents)
        return json_reply({"name": name, "unload": True})

    async def _parameters(self, request: Request) -> dict[str, Any]:
        value = (await read_object(request, self._limit_bytes)).get("parameters")
        if value is not None and type(value) is not dict:
            raise HttpError(400, f"the request has parameters of kind {type(value).__name__}, an object is needed")
        return value or {}


class Memory:
    """The system_shared_memory extension."""

    def __init__(self, regions: Regions, settings: Settings) -> None:
        self._regions, self._limit_bytes = regions, settings.body_limit_bytes

    async def status(self, request: Request) -> Reply:
        """Registered regions, or one of them."""
        regions = self._regions.status()
        name = request.names.get("region")
        if name is None:
            return json_reply(regions)
        found = [region for region in regions if region["name"] == name]
        if not found:
            raise HttpError(404, f"no shared memory region {name[:80]!r} is registered")
        return json_reply(found)

    async def register(self, request: Request) -> Reply:
        """Make a region known under a name."""
        body = await read_object(request, self._limit_bytes)
        key, offset, size = body.get("key"), body.get("offset", 0), body.get("byte_size")
        if type(key) is not str or type(offset) is not int or type(size) is not int or offset < 0 or size < 0:
            raise TensorMismatch("registering a region needs 'key', a string, 'byte_size' and 'offset', whole numbers")
        self._regions.register(request.names["region"], key, offset, size)
        return json_reply({})

    async def unregister(self, request: Request) -> Reply:
        """Forget one region, or all."""
        self._regions.unregister(request.names.get("region"))
        return json_reply({})
