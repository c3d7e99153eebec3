"""A real server in a thread, for tests that are its clients."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx

from gatesmith.devices.device import Device
from gatesmith.firmware import Firmware
from gatesmith.serve.server import Server
from gatesmith.serve.settings import Settings

__all__ = ["running", "served", "until"]


@contextlib.contextmanager
def served(
    models: Mapping[str, tuple[Firmware, Device]], *, wait_ready: bool = True, **settings: Any
) -> Iterator[Server]:
    """A server on a free port; on leaving it has ended, gracefully."""
    made = Server(models, Settings(**{"http_port": 0, "grpc_port": 0, **settings}))
    with running(made, wait_ready=wait_ready) as server:
        yield server


@contextlib.contextmanager
def running(server: Server, *, wait_ready: bool = True) -> Iterator[Server]:
    """The same for a server that was made already."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            server.run()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert server.started.wait(30)
        if wait_ready:
            until(lambda: httpx.get(f"{server.url}/v2/health/ready", timeout=30).status_code == 200)
        yield server
    finally:
        server.stop()
        thread.join(60)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Ask again until it holds; fails after the time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
