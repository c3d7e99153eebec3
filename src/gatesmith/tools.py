"""External programs and the places on disk: the one module beside ``serve/settings.py`` that reads the environment.

``GATESMITH_HOME`` holds the local store and every cache.
"""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path

__all__ = ["cache_path", "home_path"]


def home_path() -> Path:
    """The folder of the local store and the caches: ``GATESMITH_HOME``, or the user's data folder."""
    given = os.environ.get("GATESMITH_HOME")
    return Path(given).expanduser() if given else user_data_path("gatesmith")


def cache_path(name: str) -> Path:
    """The folder of one cache (``builds``, ``emulator``, ...); it may not exist yet."""
    return home_path() / "cache" / name
