"""Request bodies in, JSON answers out: the small layer between ASGI and the endpoints.

A body is bounded in size and in the time it may take; every failure is answered with ``{"error": string}``.
"""

# Ref: ASGI 3.0 HTTP: http.request messages with more_body, http.disconnect
# Ref: RFC 9110 sections 15.5.9 (408), 15.5.14 (413), 15.5.16 (415)

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gatesmith.errors import GatesmithError
from gatesmith.serve.errors import http_status

__all__ = ["Disconnected", "JsonAnswer", "error_answer", "read_json", "send_json"]

_JSON = (b"content-type", b"application/json")


class Disconnected(Exception):
    """The client went away before its request was complete; there is nobody to answer."""


class JsonAnswer(Response):
    """A response whose content is written as JSON, numpy arrays included."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Content to bytes."""
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def error_answer(_request: Request, error: Exception) -> JsonAnswer:
    """The answer to a request that failed, whichever way."""
    if isinstance(error, HTTPException):
        return JsonAnswer({"error": str(error.detail)}, status_code=error.status_code, headers=error.headers)
    if isinstance(error, GatesmithError):
        return JsonAnswer({"error": str(error)}, status_code=http_status(error))
    return JsonAnswer({"error": f"the server failed: {type(error).__name__}; see its log"}, status_code=500)


async def read_json(scope: Scope, receive: Receive, *, limit_bytes: int, timeout_s: float) -> dict[str, Any]:
    """The JSON object that a request's body holds; the content type does not matter.

    Raises
    ------
    HTTPException
        400, 408, 413 or 415.
    Disconnected
    """
    body = await _read(scope, receive, limit_bytes, timeout_s)
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if _header(scope, b"content-encoding") not in {b"", b"identity"}:
            raise HTTPException(415, "compressed bodies are not read; send plain JSON") from None
        if _header(scope, b"inference-header-content-length"):
            raise HTTPException(400, "binary tensors are not read; send tensor data as JSON") from None
        raise HTTPException(400, f"the body is not JSON: {error}") from None
    if type(data) is not dict:
        raise HTTPException(400, f"the body is a JSON {type(data).__name__}, an object is needed")
    return data


async def send_json(send: Send, content: Any, *, status: int = 200) -> None:
    """Send a whole answer."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _read(scope: Scope, receive: Receive, limit_bytes: int, timeout_s: float) -> bytes:
    announced = _header(scope, b"content-length")
    if announced.isdigit() and int(announced) > limit_bytes:
        raise _too_large(limit_bytes)
    parts, size = [], 0
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                part = message.get("body", b"")
                size += len(part)
                if size > limit_bytes:
                    raise _too_large(limit_bytes)
                parts.append(part)
                if not message.get("more_body", False):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
    except TimeoutError:
        detail = f"the body did not arrive in {timeout_s:g} s"
        raise HTTPException(408, detail, headers={"connection": "close"}) from None


def _too_large(limit_bytes: int) -> HTTPException:
    detail = f"the body is larger than {limit_bytes} bytes; send smaller batches"
    return HTTPException(413, detail, headers={"connection": "close"})


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")
