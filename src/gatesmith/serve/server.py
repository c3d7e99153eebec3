"""The process: sockets, an event loop, signals; uvicorn between HTTP and them, and the gRPC door beside it.

SIGTERM and SIGINT end it gracefully: it is not ready any more, then takes no new connections, requests in flight get
``grace_s`` seconds, devices are given back. When a model that has to be there cannot be loaded the server stops, and
the model's own error leaves :meth:`Server.run`.
"""

# Ref: uvicorn "Server Behavior", graceful process shutdown
# Ref: Kubernetes "Pod Lifecycle": SIGTERM comes while endpoints may still route requests here

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import uvicorn

from gatesmith.devices.device import Device
from gatesmith.firmware import Firmware
from gatesmith.serve.app import App
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.grpc.door import GrpcDoor
from gatesmith.serve.listening import checked_tls, listen
from gatesmith.serve.rest import RestDoor
from gatesmith.serve.rest_protocol import RestProtocol
from gatesmith.serve.settings import Settings
from gatesmith.serve.shm import Regions

__all__ = ["Server", "serve_models"]

_KEEP_ALIVE_S = 75  # longer than the 60 s of common proxies, which else send into a line that is just being closed


class Server:
    """A server that can be run in any thread and stopped from any other.

    Parameters
    ----------
    models : mapping of str to (Firmware, Device)
        See :class:`gatesmith.serve.dataplane.DataPlane`.
    plane : DataPlane, optional
        What to serve in place of these models.

    Attributes
    ----------
    started : threading.Event
        Set once connections are accepted; models may still be loading.
    grpc_port : int
        Where gRPC is listened for; -1 for nowhere.

    Raises
    ------
    ServerNotStarted
        When an address is in use or cannot be listened on.
    """

    def __init__(
        self,
        models: Mapping[str, tuple[Firmware, Device]] | None = None,
        settings: Settings | None = None,
        *,
        plane: DataPlane | None = None,
    ) -> None:
        self._settings = settings or (plane.settings if plane else Settings())
        self.plane = plane or DataPlane(models or {}, self._settings)
        self.plane.on_load_failure = self._fail
        self._failure: BaseException | None = None
        self._interrupted = False
        self.started = threading.Event()
        self.grpc_port = -1
        self._regions = Regions(limit_bytes=self._settings.body_limit_bytes)
        self._grpc: GrpcDoor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._exiting: asyncio.Event | None = None
        with contextlib.ExitStack() as opened:  # all ports or none
            self._socket = opened.enter_context(_listen(self._settings, self._settings.http_port, "http"))
            self._doors = [self._door(self._socket, admin_side=False)]
            if self._settings.admin_port:
                admin = opened.enter_context(_listen(self._settings, self._settings.admin_port, "admin"))
                self._doors.append(self._door(admin, admin_side=True))
            if self._settings.grpc_port >= 0:
                self._grpc = GrpcDoor(self.plane, self._settings, self._regions)
                self.grpc_port = self._grpc.listen()
            opened.pop_all()

    @property
    def url(self) -> str:
        """Where clients reach it."""
        host, port = self._socket.getsockname()[:2]
        scheme = "https" if self._settings.tls_certificate else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    @property
    def grpc_url(self) -> str:
        """Where gRPC clients reach it, for :class:`gatesmith.Client`; empty without gRPC."""
        if self.grpc_port < 0:
            return ""
        host = self._socket.getsockname()[0]
        scheme = "grpcs" if self._settings.tls_certificate else "grpc"
        return f"{scheme}://[{host}]:{self.grpc_port}" if ":" in host else f"{scheme}://{host}:{self.grpc_port}"

    def run(self) -> None:
        """Serve until stopped.

        Raises
        ------
        GatesmithError
            When a model could not be loaded.
        KeyboardInterrupt
            When it was stopped by SIGINT, after the graceful end.
        """
        with contextlib.ExitStack() as stack:
            for _, listening in self._doors:
                stack.enter_context(listening)
            if self._grpc is not None:
                stack.callback(self._grpc.close)
            runner = stack.enter_context(asyncio.Runner(loop_factory=_loop_factory()))
            runner.run(self._serve())
        if self._failure:
            raise self._failure
        if self._interrupted:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """Begin the graceful end: not ready from now on, closed to new requests after ``drain_s``."""
        self.plane.draining = True
        loop, drain_s = self._loop, self._settings.drain_s
        if loop is None or not drain_s:
            self._exit()
        else:
            with contextlib.suppress(RuntimeError):  # it has ended already
                loop.call_soon_threadsafe(loop.call_later, drain_s, self._exit)

    async def _serve(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._exiting = asyncio.Event()
        if self._doors[0][0].should_exit:  # stopped before it began
            self._exiting.set()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._on_signal, number)
        if self._grpc is not None:
            await self._grpc.start()
        loading = asyncio.create_task(self.plane.load())
        doors = [asyncio.create_task(door.serve(sockets=[listening])) for door, listening in self._doors]
        try:
            await self._exiting.wait()
            self.plane.draining = True
            stopping = [self._grpc.stop(self._settings.grace_s)] if self._grpc is not None else []
            await asyncio.gather(*doors, *stopping)
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await self.plane.close()
            self._regions.close()

    def _on_signal(self, number: int) -> None:
        # A second signal means now: requests in flight are dropped.
        for door, _ in self._doors:
            door.force_exit = self.plane.draining
        if self._grpc is not None and self.plane.draining:
            self._grpc.abort()
        self._interrupted = self._interrupted or number == signal.SIGINT
        if self.plane.draining or number == signal.SIGINT:
            self.plane.draining = True
            self._exit()
        else:
            self.stop()

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._exit()

    def _exit(self) -> None:
        for door, _ in self._doors:
            door.should_exit = True
        if self._loop is not None and self._exiting is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._exiting.set)

    def _is_up(self) -> None:
        if all(door.started for door, _ in self._doors):
            self.started.set()

    def _door(self, listening: socket.socket, *, admin_side: bool) -> tuple[_Uvicorn, socket.socket]:
        door = RestDoor(self.plane, self._settings, self._regions, admin_side=admin_side)
        return _Uvicorn(_config(self.plane, door, self._settings), self._is_up), listening


def serve_models(
    models: Mapping[str, tuple[Firmware, Device]],
    settings: Settings | None = None,
    *,
    on_started: Callable[[str], None] | None = None,
) -> None:
    """Serve models until SIGTERM or SIGINT; blocks.

    Parameters
    ----------
    models : mapping of str to (Firmware, Device)
        See :func:`gatesmith.serve.app.create_app`.
    on_started : callable, optional
        Called with the server's URL once connections are accepted.

    Raises
    ------
    ServerNotStarted
        When an address is in use or cannot be listened on.
    GatesmithError
        When a model could not be loaded.
    KeyboardInterrupt
        After a graceful end by SIGINT.
    """
    server = Server(models, settings)
    if on_started:
        on_started(server.url)
    server.run()


class _Uvicorn(uvicorn.Server):
    """Uvicorn that tells when it listens and leaves signals to us."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._on_started()


def _config(plane: DataPlane, door: RestDoor, settings: Settings) -> uvicorn.Config:
    protocol: Any = functools.partial(RestProtocol, door)  # uvicorn takes whatever makes one
    config = uvicorn.Config(
        App(plane, door),
        http=protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=settings.grace_s,
        timeout_keep_alive=_KEEP_ALIVE_S,
        ssl_certfile=settings.tls_certificate or None,
        ssl_keyfile=settings.tls_key or None,
    )
    with checked_tls(settings.tls_certificate, settings.tls_key):
        config.load()
    return config


def _listen(settings: Settings, port: int, kind: str) -> socket.socket:
    return listen(settings.host, port, choose=f"--{kind}-port or GATESMITH_{kind.upper()}_PORT")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # no wheel for every board's own processor; asyncio's loop does the same, slower
        return None
    return uvloop.new_event_loop
