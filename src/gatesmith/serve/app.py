"""The ASGI application: the REST door, and the devices' life from start to stop.

It answers as soon as it runs; a model answers once its device is programmed, and says "not ready" until then.
"""

# Ref: ASGI 3.0, Lifespan Protocol; HTTP & WebSocket, "Close - send event": before an accept it refuses with 403

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from gatesmith.devices.device import Device
from gatesmith.firmware import Firmware
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.rest import RestDoor
from gatesmith.serve.rest_asgi import RestApp
from gatesmith.serve.settings import Settings
from gatesmith.serve.shm import Regions

__all__ = ["App", "create_app"]


class App:
    """A dataplane's REST door for ASGI servers; its lifespan programs the devices and gives them back."""

    def __init__(self, plane: DataPlane, door: RestDoor) -> None:
        self._plane, self._rest = plane, RestApp(door)

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """One request, or the server's whole life."""
        if scope["type"] == "http":
            await self._rest(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:  # some servers let clients ask for it
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    async def _live(
        self,
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        await receive()
        loading = asyncio.create_task(self._plane.load())
        await send({"type": "lifespan.startup.complete"})
        try:
            await receive()
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await self._plane.close()
        await send({"type": "lifespan.shutdown.complete"})


def create_app(models: Mapping[str, tuple[Firmware, Device]], settings: Settings | None = None) -> App:
    """An ASGI application that serves models.

    Parameters
    ----------
    models : mapping of str to (Firmware, Device)
        ``name``, ``name:tag`` or a full reference, whose last part is the model's name. The application programs the
        devices when it starts and closes them when it stops.

    Raises
    ------
    ManifestInvalid, FirmwareMismatch
        When two models share a name or a device.
    """
    settings = settings or Settings()
    plane = DataPlane(models, settings)
    return App(plane, RestDoor(plane, settings, Regions()))
