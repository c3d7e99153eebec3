"""The build service's REST door: submit, watch, list, cancel and fetch, with server-sent events for progress."""

# Ref: WHATWG HTML, "Server-sent events": id, event and data fields, Last-Event-ID
# Ref: Fetch standard, "Origin" header: browsers send it with every POST, and programs do not
# Ref: RFC 9110 sections 15.3.3 (202), 15.5.2 (401), 15.5.4 (403); RFC 6585 section 4 (429)

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gatesmith import errors
from gatesmith.builds.access import Access, Caller
from gatesmith.builds.blobs import Blobs
from gatesmith.builds.foreman import Foreman
from gatesmith.builds.job import error_json
from gatesmith.builds.order import DIGEST, Order
from gatesmith.builds.queue import Record, State
from gatesmith.errors import GatesmithError

__all__ = ["MAX_ORDER_BYTES", "service_app"]

MAX_ORDER_BYTES = 64 << 10
KEEP_ALIVE_S = 5.0
MOST_LISTED = 1000
SUBMIT_FIELDS = {"order", "again"}

STATUS: dict[type[GatesmithError], int] = {
    errors.AuthenticationFailed: 401,
    errors.QuotaExceeded: 429,
    errors.LimitExceeded: 413,
    errors.DigestMismatch: 400,
    errors.ArtifactNotFound: 404,
    errors.RegistryUnreachable: 503,
    errors.StoreWriteFailed: 507,
    errors.BuildError: 400,
}
"""An error has the status of its class, or else that of its family; 500 without one."""

Endpoint = Callable[[Request], Awaitable[Response]]


def service_app(foreman: Foreman, blobs: Blobs, access: Access) -> Starlette:
    """The ASGI application of a build service."""
    door = _Door(foreman, blobs, access)
    build = "/v1/builds/{id:str}"
    routes = [
        Route("/healthz", _healthy),
        Route("/openapi.json", _openapi),
        Route("/v1/files/{digest:str}", door.file, methods=["GET", "PUT"]),
        Route("/v1/builds", door.builds, methods=["GET", "POST"]),
        Route(build, door.get),
        Route(f"{build}/events", door.events),
        Route(f"{build}/firmware", door.firmware),
        Route(f"{build}/cancel", door.cancel, methods=["POST"]),
        Route("/metrics", door.metrics),
    ]
    app = Starlette(routes=routes, exception_handlers=dict.fromkeys((HTTPException, GatesmithError, Exception), _error))
    app.router.redirect_slashes = False
    return app


async def _healthy(_request: Request) -> Response:
    return JSONResponse({"live": True})


async def _openapi(_request: Request) -> Response:
    content = files("gatesmith.builds").joinpath("openapi.json").read_bytes()
    return Response(content, media_type="application/json")


async def _error(_request: Request, error: Exception) -> Response:
    headers: dict[str, str] = {}
    if isinstance(error, HTTPException):
        status, content = error.status_code, {"message": str(error.detail), "type": "RequestError", "retryable": False}
        headers = dict(error.headers or {})
    elif isinstance(error, GatesmithError):
        status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
        content = error_json(error)
    else:
        status = 500
        content = {"message": f"the service failed: {type(error).__name__}", "type": "Error", "retryable": False}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if status == 429:
        headers["retry-after"] = "10"
    return JSONResponse({"error": content}, status_code=status, headers=headers)


class _Door:
    """The endpoints."""

    def __init__(self, foreman: Foreman, blobs: Blobs, access: Access) -> None:
        self._foreman, self._blobs, self._access = foreman, blobs, access
        self._submitted = 0

    async def file(self, request: Request) -> Response:
        """One file: whether it is here, or its upload."""
        return await (self.put_file(request) if request.method == "PUT" else self.has_file(request))

    async def builds(self, request: Request) -> Response:
        """All builds: a list of them, or a new one."""
        return await (self.submit(request) if request.method == "POST" else self.list(request))

    async def has_file(self, request: Request) -> Response:
        """Whether a file needs no upload."""
        self._caller(request)
        digest = _digest(request)
        self._blobs.check(digest)
        return JSONResponse({"digest": digest})

    async def put_file(self, request: Request) -> Response:
        """Take a file."""
        self._caller(request)
        digest = _digest(request)
        if not self._blobs.holds(digest):
            try:
                await self._blobs.write(digest, request.stream())
            except ClientDisconnect:
                return Response(status_code=499)
        return JSONResponse({"digest": digest}, status_code=201)

    async def submit(self, request: Request) -> Response:
        """Ask for a build: the one that there is, or a new one."""
        caller = self._caller(request)
        data = await _json(request)
        if set(data) - SUBMIT_FIELDS or not isinstance(data.get("order"), dict):
            raise HTTPException(400, f"an object with order, and optionally again, is needed; it has {sorted(data)}")
        again = data.get("again", False)
        if not isinstance(again, bool):
            raise HTTPException(400, "again is true or false")
        order = Order.from_json(data["order"])
        record, is_new = await self._foreman.submit(order, caller.name, again=again, limit=caller.builds)
        self._submitted += is_new
        status = 200 if record.state.is_end else 202
        return JSONResponse({**record.to_json(), "new": is_new}, status_code=status)

    async def list(self, request: Request) -> Response:
        """Builds, the newest first."""
        self._caller(request)
        state, limit = request.query_params.get("state"), request.query_params.get("limit", "100")
        if state is not None and state not in set(State):
            raise HTTPException(400, f"state is {state[:40]!r}, one of {[s.value for s in State]} is needed")
        if not (limit.isascii() and limit.isdigit() and len(limit) < 10 and 1 <= int(limit) <= MOST_LISTED):
            raise HTTPException(400, f"limit is {limit[:40]!r}, 1 to {MOST_LISTED} are possible")
        chosen = None if state is None else State(state)
        records = await asyncio.to_thread(self._foreman.queue.newest, state=chosen, limit=int(limit))
        return JSONResponse({"builds": [record.to_json() for record in records]})

    async def get(self, request: Request) -> Response:
        """One build."""
        self._caller(request)
        return JSONResponse((await self._record(request)).to_json())

    async def events(self, request: Request) -> Response:
        """What happens to a build, from the first event or after the one named, until it has ended."""
        self._caller(request)
        record = await self._record(request)
        last = request.headers.get("last-event-id") or request.query_params.get("after", "0")
        if not (last.isascii() and last.isdigit() and len(last) < 10):
            raise HTTPException(400, f"last event is {last[:40]!r}, a number is needed")
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._stream(record.id, int(last)), media_type="text/event-stream", headers=headers)

    async def firmware(self, request: Request) -> Response:
        """The firmware of a build that is done: a tar of an OCI layout."""
        self._caller(request)
        record = await self._record(request)
        if record.state is not State.DONE:
            raise HTTPException(409, f"build {record.id[:12]} is {record.state.value}, it has no firmware")
        content = await asyncio.to_thread(self._foreman.depot.packed, record.order)
        return Response(content, media_type="application/x-tar")

    async def cancel(self, request: Request) -> Response:
        """End a build: one's own, that nobody else asked for, or any as the administrator."""
        caller = self._caller(request)
        record = await self._record(request)
        alone = await asyncio.to_thread(self._foreman.queue.may_cancel, record.id, caller.name)
        if not (caller.is_admin or alone):
            raise HTTPException(
                403, f"build {record.id[:12]} was asked for by others too; {caller.name} may not end it"
            )
        ended = await self._foreman.cancel(record.id, caller.name)
        return JSONResponse((ended or record).to_json())

    async def metrics(self, _request: Request) -> Response:
        """Counts for Prometheus."""
        queue = self._foreman.queue
        lines = ["# TYPE gatesmith_builds gauge"]
        counts = await asyncio.to_thread(queue.counts)
        lines += [f'gatesmith_builds{{state="{state}"}} {count}' for state, count in counts.items()]
        lines += ["# TYPE gatesmith_builds_submitted counter", f"gatesmith_builds_submitted_total {self._submitted}"]
        return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")

    async def _stream(self, id: str, after: int) -> AsyncIterator[str]:
        foreman = self._foreman
        while True:
            seen = foreman.changes
            events = await asyncio.to_thread(foreman.queue.events, id, after)
            for event in events:
                after = event.number
                data = json.dumps({"time": event.time, **event.data})
                yield f"id: {event.number}\nevent: {event.kind}\ndata: {data}\n\n"
            if events:
                continue
            record = await asyncio.to_thread(foreman.queue.get, id)
            if record is None or record.state.is_end:
                return
            await foreman.changed(seen, KEEP_ALIVE_S)
            yield ": waiting\n\n"

    def _caller(self, request: Request) -> Caller:
        if self._access.is_open and "origin" in request.headers:
            raise HTTPException(403, "without a token this is not for web pages; it refuses an Origin header")
        return self._access.caller(request.headers.get("authorization", ""))

    async def _record(self, request: Request) -> Record:
        id = request.path_params["id"]
        record = await asyncio.to_thread(self._foreman.queue.get, id)
        if record is None:
            raise HTTPException(404, f"there is no build {id[:80]!r}")
        return record


def _digest(request: Request) -> str:
    digest = str(request.path_params["digest"])
    if not DIGEST.fullmatch(digest):
        raise HTTPException(400, f"digest is {digest[:80]!r}, sha256: and 64 digits are needed")
    return digest


async def _json(request: Request) -> dict[str, Any]:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_ORDER_BYTES:
            raise HTTPException(413, f"the body has more than {MAX_ORDER_BYTES} bytes")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise HTTPException(400, f"the body is a JSON {type(data).__name__}, an object is needed")
    return data
