"""The gRPC door: a listening socket, connections, and their end."""

# Ref: RFC 9113 section 3.2: "h2" is the name that TLS clients ask for; 9.2 needs TLS 1.2 or later
# Ref: RFC 9113 section 6.8: a graceful end is announced by GOAWAY

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

from gatesmith.serve.access import Access
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.grpc.calls import Calls
from gatesmith.serve.grpc.http2 import Connection, Limits
from gatesmith.serve.grpc.room import Room
from gatesmith.serve.grpc.service import methods
from gatesmith.serve.listening import checked_tls, listen
from gatesmith.serve.settings import Settings
from gatesmith.serve.shm import Regions

__all__ = ["GrpcDoor"]

_SWEEP_S = 0.5
_ROOM = 8  # largest messages that may be under way at once
_LOOK_S = 0.01
_PATIENCE_S = 1.0  # for a client without calls to let go


class GrpcDoor:
    """Answers gRPC from a dataplane; every method belongs to one event loop.

    Parameters
    ----------
    regions : Regions
        Shared memory of clients; the same that other doors have.
    """

    def __init__(self, plane: DataPlane, settings: Settings, regions: Regions) -> None:
        self._settings = settings
        self._methods = methods(plane, regions, Access(settings))
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._listening: socket.socket | None = None
        self._tls = _tls(settings)

    def listen(self) -> int:
        """Take the port, and tell it; connections wait until :meth:`start`.

        Raises
        ------
        ServerNotStarted
        """
        port: int = self._socket().getsockname()[1]
        return port

    def close(self) -> None:
        """Give the port back; for a door that was not started."""
        if self._listening is not None:
            self._listening.close()

    async def start(self) -> int:
        """Answer, and tell the port.

        Raises
        ------
        ServerNotStarted
        """
        settings, loop = self._settings, asyncio.get_running_loop()
        limits = Limits(headers_bytes=settings.header_limit_bytes, stall_s=settings.body_timeout_s)
        calls = Calls(
            methods=self._methods,
            message_limit_bytes=settings.body_limit_bytes,
            message_timeout_s=settings.body_timeout_s,
            window_bytes=limits.window_bytes,
            room=Room(_ROOM * settings.body_limit_bytes),
        )
        self._server = await loop.create_server(
            lambda: Connection(calls.begin, limits, self._connections), sock=self._socket(), ssl=self._tls
        )
        self._sweeper = loop.create_task(self._sweep())
        return self.listen()

    async def stop(self, grace_s: float) -> None:
        """Take no new connections, let calls in flight end within the time, and close."""
        loop = asyncio.get_running_loop()
        if self._server:
            self._server.close()
        begin = loop.time()
        for connection in list(self._connections):
            connection.leave()
        while self._connections and loop.time() < begin + grace_s:
            await asyncio.sleep(_LOOK_S)
            if loop.time() > begin + _PATIENCE_S:
                for connection in [one for one in self._connections if not one.streams]:
                    connection.abort()
        self.abort()
        if self._sweeper:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper

    def abort(self) -> None:
        """Drop all connections now."""
        for connection in list(self._connections):
            connection.abort()

    def _socket(self) -> socket.socket:
        if self._listening is None:
            self._listening = _listen(self._settings)
        return self._listening

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_SWEEP_S, self._settings.body_timeout_s / 2))
            for connection in list(self._connections):
                connection.sweep(loop.time())


def _listen(settings: Settings) -> socket.socket:
    choose = "--grpc-port or GATESMITH_GRPC_PORT; -1 means no gRPC"
    return listen(settings.host, settings.grpc_port, choose=choose)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.tls_certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with checked_tls(settings.tls_certificate, settings.tls_key):
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    context.set_alpn_protocols(["h2"])
    return context
