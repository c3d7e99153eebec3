"""Builds on this machine: each in a process group of its own, watched for time and memory, killed as a whole."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gatesmith.builds.job import Job, Limits, Tell, error_of, write_job
from gatesmith.errors import BuildCancelled, BuildLost, ToolFailed
from gatesmith.toolchain.process import Output, run
from gatesmith.tools import home_path, tool_environment

__all__ = ["Cancel", "LocalBuilder", "build_locally"]

WATCH_INTERVAL_S = 0.5

Cancel = threading.Event
"""Set by whoever wants a build to end."""


def build_locally(job: Job, folder: Path, *, limits: Limits, tell: Tell, cancel: Cancel) -> dict[str, Any]:
    """Build a job in a new folder; its firmware is in ``folder/out`` afterwards. Blocks.

    Returns
    -------
    dict
        What ``gatesmith build --json`` tells of a build.

    Raises
    ------
    BuildCancelled
    BuildLost
        When the process was killed, or took more memory or time than it may.
    ModelError, BuildError
        What the build itself raised.
    """
    shutil.rmtree(folder, ignore_errors=True)
    write_job(folder, job)
    said: dict[str, Any] = {}
    watch = _Memory(folder, limits.memory_bytes)

    def on_line(line: str) -> None:
        if cancel.is_set():
            raise BuildCancelled("the build was cancelled")
        watch.check()
        try:
            data = json.loads(line)
        except ValueError:
            data = {"line": line}
        if isinstance(data, dict) and "alive" not in data:
            said.update(data)
            tell(data)

    try:
        done = _run(folder, limits, on_line)
    except ToolFailed as error:
        raise BuildLost(f"the build did not end: {error}", seconds=limits.seconds) from error
    if "result" in said and not done.status:
        return dict(said["result"])
    if "error" in said:
        raise error_of(said["error"])
    raise BuildLost(f"the building process ended without a result: {done.words()}", status=done.status)


def _run(folder: Path, limits: Limits, on_line: Any) -> Output:
    scratch = folder / "tmp"  # goes with the folder, also when the build is killed
    scratch.mkdir()
    places = {"GATESMITH_HOME": str(home_path()), "HOME": str(folder), "TMPDIR": str(scratch)}
    environment = {**tool_environment(), **places}
    return run(
        (sys.executable, "-I", str(Path(__file__).with_name("worker.py")), str(folder), json.dumps(asdict(limits))),
        folder=folder,
        environment=environment,
        timeout_s=limits.seconds,
        on_line=on_line,
    )


class _Memory:
    """Looks, at most every half a second, what all processes that work in a folder hold together."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._mark, self._limit_bytes, self._next = str(folder), limit_bytes, 0.0

    def check(self) -> None:
        """End a build that holds too much.

        Raises
        ------
        BuildLost
        """
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + WATCH_INTERVAL_S
        held = resident_bytes(self._mark)
        if held > self._limit_bytes:
            raise BuildLost(
                f"the build holds {held >> 20} MiB of memory, {self._limit_bytes >> 20} MiB are allowed; try a smaller "
                "model or a service that allows more",
                memory_bytes=held,
                limit_bytes=self._limit_bytes,
            )


def resident_bytes(mark: str) -> int:
    """Memory of the process whose command line holds a mark, and of all its descendants."""
    parents: dict[int, int] = {}
    held: dict[int, int] = {}
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    roots = set()
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                fields = (place / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                pages = int((place / "statm").read_text(encoding="utf-8").split()[1])
                if os.fsencode(mark) in (place / "cmdline").read_bytes():
                    roots.add(int(place.name))
            except (OSError, IndexError):
                continue  # it ended meanwhile
            parents[int(place.name)], held[int(place.name)] = int(fields[1]), pages * page_bytes
    return sum(size for pid, size in held.items() if _descends(pid, roots, parents))


def _descends(pid: int, roots: set[int], parents: dict[int, int]) -> bool:
    while pid and pid not in roots:
        pid = parents.get(pid, 0)
    return bool(pid)


class LocalBuilder:
    """Builds on this machine, a few at a time.

    Parameters
    ----------
    slots : int
        Builds at a time; each uses about one core and one to four GB of memory.
    """

    def __init__(self, slots: int = 1, limits: Limits | None = None) -> None:
        self.slots, self._limits = slots, limits or Limits()

    def build(self, job: Job, folder: Path, *, tell: Tell, cancel: Cancel) -> dict[str, Any]:
        """See :class:`gatesmith.builds.foreman.Builder`."""
        return build_locally(job, folder, limits=self._limits, tell=tell, cancel=cancel)

    def close(self) -> None:
        """Nothing is left when its builds have ended."""
