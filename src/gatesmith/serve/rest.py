"""The REST door: Open Inference Protocol v2 with its extensions, and KServe's V1.

It turns a request into a reply and never raises; ``rest_protocol`` and ``rest_asgi`` bring requests to it. With an
admin port there are two doors over one dataplane: one refuses administration, the other knows no inference.
"""

# Ref: Open Inference Protocol v2, inference_rest.md; Triton's extensions of it; KServe V1 protocol
# Ref: RFC 9110 section 10.2.3, Retry-After

from __future__ import annotations

import logging

from gatesmith.errors import GatesmithError
from gatesmith.serve.access import Access
from gatesmith.serve.bodies import compressed
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.errors import http_status, retry_after_s
from gatesmith.serve.openapi import oip_document, own_document
from gatesmith.serve.rest_http import Headers, HttpError, Match, Reply, Request, Route, Router, json_reply
from gatesmith.serve.rest_infer import Infer, Predict
from gatesmith.serve.rest_models import Memory, Models, Repository
from gatesmith.serve.settings import Settings
from gatesmith.serve.shm import Regions

__all__ = ["EXTENSIONS", "RestDoor"]

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
    "system_shared_memory",
)
_MODEL = "/v2/models/{name}"
_VERSION = f"{_MODEL}/versions/{{version}}"
_MEMORY = "/v2/systemsharedmemory"
_log = logging.getLogger(__name__)


class RestDoor:
    """Requests in, replies out.

    Parameters
    ----------
    admin_side : bool
        Whether it is the door of the admin port.
    """

    def __init__(self, plane: DataPlane, settings: Settings, regions: Regions, *, admin_side: bool = False) -> None:
        self.settings = settings
        self._access, self._admin_side = Access(settings), admin_side
        models, repository, memory = Models(plane), Repository(plane, settings), Memory(regions, settings)
        infer = [] if admin_side else _inference(Infer(plane, settings, regions), Predict(plane, settings))
        self._router = Router([*infer, *_reading(models), *_repository(repository), *_memory(memory)])
        plane.announce(*EXTENSIONS)

    def find(self, method: bytes, url: bytes, headers: Headers) -> Match:
        """The endpoint for a request whose body may still be on its way; refuses what needs no look at the body.

        Raises
        ------
        HttpError, GatesmithError
        """
        match = self._router.find(method, url)
        if match.route.admin:
            authorization = headers.get(b"authorization", b"").decode("latin-1")
            self._access.check(authorization, admin_side=self._admin_side, web_page=b"origin" in headers)
        return match

    async def answer(self, match: Match, request: Request) -> Reply:
        """The reply to a whole request."""
        try:
            reply = await match.route.endpoint(request)
        except Exception as error:
            return error_reply(error)
        if b"accept-encoding" in request.headers:
            return await compressed(request, reply)
        return reply


def error_reply(error: Exception) -> Reply:
    """The reply to a request that failed, whichever way: always ``{"error": string}``."""
    if isinstance(error, HttpError):
        reply = json_reply({"error": str(error)}, error.status)
        return reply._replace(headers=error.headers) if error.status != 204 else Reply(b"", 204, headers=error.headers)
    if isinstance(error, GatesmithError):
        reply = json_reply({"error": str(error)}, http_status(error))
        if reply.status in {429, 503}:
            return reply._replace(headers=((b"retry-after", b"%d" % retry_after_s(error)),))
        return reply._replace(headers=((b"www-authenticate", b"Bearer"),)) if reply.status == 401 else reply
    _log.error("a request failed in an unexpected way", exc_info=error)
    return json_reply({"error": f"the server failed: {type(error).__name__}; see its log"}, 500)


def _inference(infer: Infer, predict: Predict) -> list[Route]:
    return [
        Route("POST", f"{_MODEL}/infer", infer, is_prompt=infer.is_prompt),
        Route("POST", f"{_VERSION}/infer", infer, is_prompt=infer.is_prompt),
        Route("POST", "/v1/models/{name}:predict", predict, is_prompt=predict.is_prompt),
    ]


def _reading(models: Models) -> list[Route]:
    return [
        Route("GET", "/v2/health/live", models.live),
        Route("GET", "/v2/health/ready", models.ready),
        Route("GET", "/v2", models.server),
        Route("GET", "/v2/", models.server),
        Route("GET", "/v2/models/stats", models.statistics),
        Route("GET", _MODEL, models.model),
        Route("GET", _VERSION, models.model),
        Route("GET", f"{_MODEL}/ready", models.model_ready),
        Route("GET", f"{_VERSION}/ready", models.model_ready),
        Route("GET", f"{_MODEL}/config", models.configuration),
        Route("GET", f"{_VERSION}/config", models.configuration),
        Route("GET", f"{_MODEL}/stats", models.statistics),
        Route("GET", f"{_VERSION}/stats", models.statistics),
        Route("GET", "/v1/models", models.names),
        Route("GET", "/v1/models/{name}", models.model_ready),
        Route("GET", "/metrics", models.metrics),
        Route("GET", "/openapi.json", _own_document),
        Route("GET", "/openapi-oip.json", _oip_document),
    ]


def _repository(repository: Repository) -> list[Route]:
    return [
        Route("POST", "/v2/repository/index", repository.index),
        Route("POST", "/v2/repository/models/{name}/load", repository.load, admin=True),
        Route("POST", "/v2/repository/models/{name}/unload", repository.unload, admin=True),
    ]


def _memory(memory: Memory) -> list[Route]:
    region = f"{_MEMORY}/region/{{region}}"
    return [
        Route("GET", f"{_MEMORY}/status", memory.status),
        Route("GET", f"{region}/status", memory.status),
        Route("POST", f"{region}/register", memory.register, admin=True),
        Route("POST", f"{region}/unregister", memory.unregister, admin=True),
        Route("POST", f"{_MEMORY}/unregister", memory.unregister, admin=True),
    ]


async def _own_document(_request: Request) -> Reply:
    return json_reply(own_document())


async def _oip_document(_request: Request) -> Reply:
    return json_reply(oip_document())
