"""A real build service in a process of its own, small enough a model to be built in seconds, and its client."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from command import PROGRAM, TIMEOUT_S, environment
from onnx_files import save_mlp
from ports import free_port

from gatesmith.builds.client import BuildClient, order_of
from gatesmith.builds.order import Order
from gatesmith.tools import cache_path

__all__ = ["Site", "a_site"]


class Site:
    """A machine with a build service and a home folder of its own.

    It has the tools' compiled code, and, unless it is a fresh one, what was built on this machine before.
    """

    def __init__(self, folder: Path, *arguments: object, fresh: bool = False) -> None:
        self.folder, self.home, self.arguments = folder, folder / "home", arguments
        self.process: subprocess.Popen[str] | None = None
        self.url, self.port = "", free_port()
        (self.home / "cache").mkdir(parents=True)
        for name in ("yowasp",) if fresh else ("yowasp", "builds", "firmware", "emulator"):
            cache_path(name).mkdir(parents=True, exist_ok=True)
            (self.home / "cache" / name).symlink_to(cache_path(name).resolve())
        save_mlp(folder / "small.onnx")
        np.save(folder / "cal.npy", np.random.default_rng(1).normal(size=(50, 2)))

    def start(self) -> str:
        """Start the service, on the port that it had before."""
        command = [*PROGRAM, "builds", "serve", "--json", "--port", str(self.port), *map(str, self.arguments)]
        self.log = (self.folder / "log").open("a")
        self.process = subprocess.Popen(
            command, env=environment(self.home), stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], 60)[0], "the build service does not start"
        line = self.process.stdout.readline()
        assert line, (self.folder / "log").read_text()
        self.url = json.loads(line)["url"]
        return self.url

    def kill(self) -> None:
        """End the service as the system does when memory is short."""
        assert self.process
        self.process.kill()
        self._collect()

    def stop(self) -> int:
        """End it gracefully; its exit status."""
        assert self.process
        self.process.terminate()
        return self._collect()

    def _collect(self) -> int:
        assert self.process
        assert self.process.stdout
        status = self.process.wait(60)
        self.process.stdout.close()
        self.log.close()
        self.process = None
        return status

    def order(self, board: str = "icebreaker", **options: Any) -> Order:
        """The small model's order."""
        options = {"precision": 3, **options}
        return order_of(self.folder / "small.onnx", board, calibration=self.folder / "cal.npy", **options)

    def submit(self, client: BuildClient, order: Order) -> dict[str, Any]:
        """Submit it with its files."""
        files = {order.model: self.folder / "small.onnx", order.calibration: self.folder / "cal.npy"}
        return client.submit(order, files)

    @contextlib.contextmanager
    def client(self, token: str = "") -> Iterator[BuildClient]:
        """A client of the service."""
        with BuildClient(self.url, token=token) as client:
            yield client

    def processes(self) -> list[str]:
        """Command lines of living processes that work for this site."""
        return list(self._processes().values())

    def pids(self, words: str) -> list[int]:
        """Of those whose command line holds some words: no guard on its way to become one, no fork of one."""
        living = self._processes()
        named = {pid for pid, line in living.items() if words in line and "guard.py" not in line}
        return [pid for pid in named if living.get(parent := _parent(pid)) != living[pid] or parent not in named]

    def _processes(self) -> dict[int, str]:
        found = {}
        for place in Path("/proc").iterdir():
            if place.name.isdigit() and int(place.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if bytes(self.home) in (place / "environ").read_bytes():
                        found[int(place.name)] = (place / "cmdline").read_text().replace("\0", " ")
        return {pid: line for pid, line in found.items() if line}

    def wait_for_silence(self) -> None:
        """Until nothing works for this site any more."""
        end = time.monotonic() + TIMEOUT_S
        while left := self.processes():
            assert time.monotonic() < end, left
            time.sleep(0.02)


def _parent(pid: int) -> int:
    """The parent of a process; 0 when it has ended."""
    with contextlib.suppress(OSError):
        # Ref: proc_pid_stat(5): the name, in parentheses, may hold anything; state and parent follow it
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


@contextlib.contextmanager
def a_site(folder: Path, *arguments: object, fresh: bool = False) -> Iterator[Site]:
    """A site whose service runs until the block ends; nothing of it is left then."""
    folder.mkdir(parents=True, exist_ok=True)
    site = Site(folder, *arguments, fresh=fresh)
    site.start()
    try:
        yield site
    finally:
        if site.process is not None:
            site.stop()
        site.wait_for_silence()
