"""The process of a build service: a socket, an event loop, signals, and the foreman beside the door.

SIGTERM and SIGINT end it: nothing new is taken, builds that run are stopped and wait in the queue for the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from gatesmith.artifact.durable import locked
from gatesmith.builds.access import read_tokens
from gatesmith.builds.blobs import Blobs
from gatesmith.builds.depot import Depot
from gatesmith.builds.foreman import Builder, Foreman
from gatesmith.builds.queue import Queue
from gatesmith.builds.service import service_app
from gatesmith.errors import ServerNotStarted
from gatesmith.serve.listening import checked_tls, listen

__all__ = ["BuildServer", "Listening"]

LOOPBACK = {"127.0.0.1", "::1", "localhost"}
GRACE_S = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Listening:
    """How the service is reached.

    Raises
    ------
    ServerNotStarted
        When it would be reached from elsewhere without tokens, or a file is missing.
    """

    host: str = "127.0.0.1"
    port: int = 8090
    token_file: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and self.token_file is None:
            raise ServerNotStarted(
                f"the build service on {self.host} would be open to everybody; give --token-file, or use 127.0.0.1"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ServerNotStarted("TLS needs both --tls-certificate and --tls-key")
        for path in filter(None, (self.tls_certificate, self.tls_key)):
            if not path.is_file():
                raise ServerNotStarted(f"file {path} does not exist", path=str(path))


class BuildServer:
    """A build service that can be run in any thread and stopped from any other.

    Parameters
    ----------
    folder : Path
        Where queue, uploaded files and work in progress are; one service at a time.

    Raises
    ------
    ServerNotStarted, StoreWriteFailed
    """

    def __init__(self, folder: Path, builder: Builder, depot: Depot, listening: Listening) -> None:
        self._folder, self._builder, self._depot, self._listening = folder, builder, depot, listening
        self._access = read_tokens(listening.token_file)
        self._blobs = Blobs(folder / "files")
        self._queue = Queue(folder / "queue.sqlite")
        try:
            self._socket = listen(listening.host, listening.port, choose="--port")
        except ServerNotStarted:
            self._queue.close()
            raise
        self._uvicorn: uvicorn.Server | None = None
        self._stopping = threading.Event()

    @property
    def url(self) -> str:
        """Where clients reach it."""
        host, port = self._socket.getsockname()[:2]
        scheme = "https" if self._listening.tls_certificate else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def run(self, on_started: Callable[[str], None] | None = None) -> None:
        """Serve until stopped; blocks."""
        with self._socket, contextlib.closing(self._queue), self._alone():
            self._blobs.sweep()
            asyncio.run(self._serve(on_started))

    def stop(self) -> None:
        """Begin the end."""
        self._stopping.set()
        if self._uvicorn is not None:
            self._uvicorn.should_exit = True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            with locked(self._folder / "lock", exclusive=True, wait=False):
                yield
        except BlockingIOError:
            raise ServerNotStarted(
                f"another build service works in {self._folder}; stop it or give another --folder"
            ) from None

    async def _serve(self, on_started: Callable[[str], None] | None) -> None:
        foreman = Foreman(self._queue, self._blobs, self._depot, self._builder, self._folder / "work")
        app = service_app(foreman, self._blobs, self._access)
        app.router.lifespan_context = _lifespan(foreman, lambda: on_started and on_started(self.url))
        self._uvicorn = _Uvicorn(_config(app, self._listening))
        loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self.stop)
        self._uvicorn.should_exit = self._stopping.is_set()
        await self._uvicorn.serve(sockets=[self._socket])


def _config(app: Starlette, listening: Listening) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=listening.tls_certificate,
        ssl_keyfile=listening.tls_key,
    )
    with checked_tls(listening.tls_certificate, listening.tls_key):
        config.load()
    return config


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _lifespan(
    foreman: Foreman, on_started: Callable[[], object]
) -> Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        work = asyncio.create_task(foreman.run())
        asyncio.get_running_loop().call_soon(on_started)
        try:
            yield
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    return lifespan
