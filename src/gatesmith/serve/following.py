"""Follows tags in registries: one that moved is a new version, which takes the old one's place without a lost request.

A registry that does not answer changes nothing; that is told once, and once more when it answers again.
"""

from __future__ import annotations

import asyncio
import logging

from gatesmith.errors import GatesmithError
from gatesmith.serve.loading import Loader

__all__ = ["follow"]

_log = logging.getLogger(__name__)


async def follow(loader: Loader, interval_s: float) -> None:
    """Look again at every model that is ready, until cancelled."""
    failing: set[str] = set()
    while True:
        await asyncio.sleep(interval_s)
        for name in sorted(loader.wanted):
            model = loader.current.get(name)
            if model is None or not model.ready:
                continue
            before = model.version
            try:
                found = await loader.load(name)
            except GatesmithError as error:
                if name not in failing:
                    _log.warning("model %s is not followed: %s", name, error, extra={"model": name})
                failing.add(name)
                continue
            if name in failing:
                _log.info("model %s is followed again", name, extra={"model": name})
                failing.discard(name)
            if found.version != before:
                _log.info("model %s: version %s took the place of %s", name, found.version, before,
                          extra={"model": name})  # fmt: skip
