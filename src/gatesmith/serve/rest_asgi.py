"""The REST door as an ASGI application, for those who embed it in another server; our own needs no ASGI messages."""

# Ref: ASGI 3.0 HTTP: http.request messages with more_body, http.disconnect

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from gatesmith.errors import GatesmithError
from gatesmith.serve.rest import RestDoor, error_reply
from gatesmith.serve.rest_http import HttpError, Reply, Request

__all__ = ["RestApp"]

Message = MutableMapping[str, Any]


class _Gone(Exception):
    """The client went away before its request was complete; there is nobody to answer."""


class RestApp:
    """``http`` scopes only: the devices' life is somebody else's."""

    def __init__(self, door: RestDoor) -> None:
        self._door, self._settings = door, door.settings

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        try:
            reply = await self._reply(scope, receive)
        except _Gone:
            return
        except (HttpError, GatesmithError) as error:
            reply = error_reply(error)
        headers = [(b"content-type", reply.kind), (b"content-length", b"%d" % len(reply.body)), *reply.headers]
        body = b"" if scope["method"] == "HEAD" else reply.body
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _reply(self, scope: Message, receive: Callable[[], Awaitable[Message]]) -> Reply:
        headers = dict(scope["headers"])
        path = scope.get("raw_path") or scope["path"].encode()
        match = self._door.find(scope["method"].encode(), path.partition(b"?")[0], headers)
        body = await self._read(receive)
        return await self._door.answer(match, Request(scope["method"], match.names, headers, body))

    async def _read(self, receive: Callable[[], Awaitable[Message]]) -> bytes:
        limit, parts, size = self._settings.body_limit_bytes, [], 0
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    part = message.get("body", b"")
                    size += len(part)
                    if size > limit:
                        raise HttpError(413, f"the body is larger than {limit} bytes; send smaller batches")
                    parts.append(part)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise HttpError(408, f"the body did not arrive in {self._settings.body_timeout_s:g} s") from None
