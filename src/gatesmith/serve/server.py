"""The process: a socket, an event loop, signals; uvicorn between them.

SIGTERM and SIGINT end it gracefully: no new connections, requests in flight get ``grace_s`` seconds, devices are
given back. When a model cannot be loaded the server stops, and the model's own error leaves :meth:`Server.run`.
"""

# Ref: uvicorn "Server Behavior", graceful process shutdown

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
from gatesmith.errors import ServerNotStarted
from gatesmith.firmware import Firmware
from gatesmith.serve.app import App
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.rest import RestDoor
from gatesmith.serve.rest_protocol import RestProtocol
from gatesmith.serve.settings import Settings
from gatesmith.serve.shm import Regions

__all__ = ["Server", "serve_models"]

_KEEP_ALIVE_S = 75  # longer than the 60 s of common proxies, which else send into a line that is just being closed


class Server:
    """A server that can be run in any thread and stopped from any other.

    Attributes
    ----------
    started : threading.Event
        Set once connections are accepted; models may still be loading.

    Raises
    ------
    ServerNotStarted
        When the address is in use or cannot be listened on.
    """

    def __init__(self, models: Mapping[str, tuple[Firmware, Device]], settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._plane = DataPlane(models, self._settings)
        self._plane.on_load_failure = self._fail
        self._failure: BaseException | None = None
        self._interrupted = False
        self.started = threading.Event()
        self._socket = _listen(self._settings)
        self._uvicorn = _Uvicorn(_config(self._plane, self._settings), self.started.set)

    @property
    def url(self) -> str:
        """Where clients reach it."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self) -> None:
        """Serve until stopped.

        Raises
        ------
        GatesmithError
            When a model could not be loaded.
        KeyboardInterrupt
            When it was stopped by SIGINT, after the graceful end.
        """
        with self._socket, asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self._serve())
        if self._failure:
            raise self._failure
        if self._interrupted:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """Begin the graceful end."""
        self._uvicorn.should_exit = True

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._on_signal, number)
        await self._uvicorn.serve(sockets=[self._socket])

    def _on_signal(self, number: int) -> None:
        # A second signal means now: requests in flight are dropped.
        self._uvicorn.force_exit = self._uvicorn.should_exit
        self._interrupted = self._interrupted or number == signal.SIGINT
        self.stop()

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self.stop()


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
        When the address is in use or cannot be listened on.
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


def _config(plane: DataPlane, settings: Settings) -> uvicorn.Config:
    door = RestDoor(plane, settings, Regions())
    protocol: Any = functools.partial(RestProtocol, door)  # uvicorn takes whatever makes one
    return uvicorn.Config(
        App(plane, door),
        http=protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=settings.grace_s,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.http_port), family=family, backlog=2048)
    except OSError as error:
        raise ServerNotStarted(
            f"cannot listen on {settings.host}:{settings.http_port}: {error.strerror or error}; "
            "choose another --http-port or GATESMITH_HTTP_PORT",
            host=settings.host,
            port=settings.http_port,
        ) from error


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # no wheel for every board's own processor; asyncio's loop does the same, slower
        return None
    return uvloop.new_event_loop
