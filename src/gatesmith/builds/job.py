"""One build in a folder of its own: what lies there, and what the process that builds says while it does.

The folder holds ``order.json``, the model and, where there are some, calibration data and labels; the process writes
``out``, an OCI layout, and says one JSON object a line: ``stage`` with ``done``, ``line``, ``holds``, and at the end
``result`` or ``error``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatesmith import errors
from gatesmith.artifact.archive import pack_files, unpack_files
from gatesmith.artifact.durable import becoming
from gatesmith.builds.order import FILES, Order
from gatesmith.errors import BuildLost, GatesmithError

__all__ = ["BUILT", "Job", "Limits", "Tell", "error_json", "error_of", "error_to_raise"]
__all__ += ["pack_layout", "placed", "say", "unpack_layout", "write_job"]

BUILT = "built:firmware"
"""Reference of the firmware in a job's layout."""

Tell = Callable[[Mapping[str, Any]], None]
"""Called with each object that a build says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one build may take."""

    memory_bytes: int = 12 << 30
    seconds: int = 3600
    reader_memory_bytes: int = 4 << 30
    reader_seconds: int = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """An order with the content of its files."""

    order: Order
    model: bytes
    calibration: bytes = b""
    labels: bytes = b""


def write_job(folder: Path, job: Job) -> None:
    """Lay a job out in a folder, which is made."""
    folder.mkdir(parents=True, mode=0o700)
    (folder / "order.json").write_text(json.dumps(job.order.to_json()), encoding="utf-8")
    for name in FILES:
        place = placed(folder, job.order, name)
        if place is not None:
            place.parent.mkdir()
            place.write_bytes(getattr(job, name))


def placed(folder: Path, order: Order, name: str) -> Path | None:
    """Where a file of a job lies: ``model``, ``calibration`` or ``labels``; None for one that it has not."""
    file = getattr(order, f"{name}_file")
    return folder / name / file if file else None


def pack_layout(folder: Path) -> bytes:
    """An OCI layout as one tar."""
    names = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return pack_files({path.relative_to(folder).as_posix(): path.read_bytes() for path in names})


def unpack_layout(content: bytes, folder: Path) -> None:
    """Write an OCI layout that came as a tar; its names are checked, its blobs are when they are read."""
    for name, data in unpack_files(content).items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with becoming(place, folder) as file:
            file.write(data)


def error_json(error: GatesmithError) -> dict[str, Any]:
    """An error to say, write down and send."""
    facts = {name: value for name, value in error.facts.items() if isinstance(value, str | int | float | bool | list)}
    return {**facts, "type": type(error).__name__, "message": str(error), "retryable": error.retryable}


def error_of(data: Mapping[str, Any]) -> GatesmithError:
    """The error that :func:`error_json` told of; a kind that is not known here is the family of builds."""
    kind = getattr(errors, str(data.get("type")), errors.BuildError)
    if not (isinstance(kind, type) and issubclass(kind, GatesmithError)) or kind is errors.NotInstalled:
        kind = errors.BuildError
    facts = {str(name): value for name, value in data.items() if name not in {"type", "message", "retryable"}}
    return kind(str(data.get("message", "the build failed")), **facts)


def error_to_raise(last: Mapping[str, Any], words: str) -> GatesmithError:
    """Why a process that did not end well did not: what it said itself, or else its last words."""
    return error_of(last) if last else BuildLost(f"the building process ended without a result: {words}")


def say(data: Mapping[str, Any]) -> None:
    """Tell whoever started this process."""
    sys.stderr.write(json.dumps(dict(data)) + "\n")
    sys.stderr.flush()
