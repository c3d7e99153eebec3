"""The ASGI application: routes, error answers, and the devices' life from start to stop.

It answers as soon as it runs; a model answers once its device is programmed, and says "not ready" until then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from gatesmith.devices.device import Device
from gatesmith.errors import GatesmithError
from gatesmith.firmware import Firmware
from gatesmith.serve.bodies import error_answer
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.rest import routes
from gatesmith.serve.settings import Settings

__all__ = ["app_of", "create_app"]


def create_app(models: Mapping[str, tuple[Firmware, Device]], settings: Settings | None = None) -> Starlette:
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
    return app_of(DataPlane(models, settings), settings)


def app_of(plane: DataPlane, settings: Settings) -> Starlette:
    """The application over a dataplane that the caller keeps in hand."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        loading = asyncio.create_task(plane.load())
        try:
            yield
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await plane.close()

    handlers = dict.fromkeys((HTTPException, GatesmithError, Exception), error_answer)
    app = Starlette(routes=routes(plane, settings), exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False
    return app
