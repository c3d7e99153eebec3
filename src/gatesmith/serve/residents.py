"""Which firmware each device of a node runs: small files in a folder that servers write and the plugin reads.

A server that programmed a device says so there; the file stays when the server ends, because the firmware does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gatesmith.artifact.durable import becoming, store_errors

__all__ = ["Residents"]

_KEYS = ("model", "digest", "build_id")


class Residents:
    """The folder; what cannot be read in it is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> dict[str, dict[str, str]]:
        """``model``, ``digest`` and ``build_id`` by device id."""
        found = {}
        for path in sorted(self._folder.glob("*.json")) if self._folder.is_dir() else ():
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                data = json.loads(path.read_bytes()[:4096])
                found[str(data["device"])] = {key: str(data.get(key, "")) for key in _KEYS}
        return found

    def write(self, device: str, facts: Mapping[str, str]) -> None:
        """A device runs a firmware now.

        Raises
        ------
        StoreWriteFailed
        """
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", device)
        content = json.dumps({"device": device, **{key: facts.get(key, "") for key in _KEYS}})
        with store_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with becoming(self._folder / f"{name}.json", self._folder) as file:
                file.write(content.encode())
