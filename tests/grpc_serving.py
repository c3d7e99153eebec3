"""The gRPC door in a thread of its own, over models on devices that compute in numpy."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any

import uvloop

from gatesmith.devices.device import Device
from gatesmith.firmware import Firmware
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.grpc.door import GrpcDoor
from gatesmith.serve.settings import Settings
from gatesmith.serve.shm import Regions

__all__ = ["Door", "grpc_served"]


class Door:
    """A running door; ``call`` runs a coroutine in its loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, plane: DataPlane, door: GrpcDoor, port: int) -> None:
        self.loop, self.plane, self.door, self.port = loop, plane, door, port

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)


@contextlib.contextmanager
def grpc_served(models: Mapping[str, tuple[Firmware, Device]], *, load: bool = True, **settings: Any) -> Iterator[Door]:
    """A door on a free port until the block ends; it ends gracefully."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> Door:
        chosen = Settings(**{"grpc_port": 0, "grace_s": 5, **settings})
        plane = DataPlane(models, chosen)
        if load:
            await plane.load()
        door = GrpcDoor(plane, chosen, Regions(limit_bytes=chosen.body_limit_bytes))
        return Door(loop, plane, door, await door.start())

    async def stop(running: Door) -> None:
        await running.door.stop(5)
        await running.plane.close()

    try:
        running: Door = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
        try:
            yield running
        finally:
            asyncio.run_coroutine_threadsafe(stop(running), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
