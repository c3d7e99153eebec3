"""Builds on a real Dask scheduler with real workers, one of which is killed in the middle of a build."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from building import Site, a_site
from command import environment, failed, gatesmith
from ports import free_port
from requirements import require_build

from gatesmith.errors import BuildCancelled

RESOURCE = "build=1"


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_build("icebreaker")
    pytest.importorskip("distributed")


@contextmanager
def _process(module: str, *arguments: str, home: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        command = [sys.executable, "-m", module, *arguments]
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment(home), cwd=home)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)


class Cluster:
    """A scheduler, and workers that come and go."""

    def __init__(self, folder: Path, home: Path, stack: ExitStack) -> None:
        self.folder, self.home, self.stack = folder, home, stack
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self._start(
            "scheduler", "distributed.cli.dask_scheduler", "--host", self.address, "--no-dashboard", "--no-show"
        )

    def worker(self, name: str) -> subprocess.Popen[bytes]:
        """Start one that may build one thing at a time."""
        arguments = [self.address, "--name", name, "--nworkers", "1", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        arguments += ["--resources", RESOURCE, "--local-directory", str(self.folder / name)]
        return self._start(name, "distributed.cli.dask_worker", *arguments, "--host", "127.0.0.1")

    def _start(self, name: str, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = self.folder / f"{name}.log"
        return self.stack.enter_context(_process(module, *arguments, home=self.home, log=log))


@contextmanager
def _cluster(folder: Path) -> Iterator[tuple[Cluster, Site]]:
    """A cluster, and a site that builds on it and has no tools of its own in use."""
    worker_home = folder / "worker-home"
    Site(folder / "workers", fresh=True).home.rename(worker_home)
    with ExitStack() as stack:
        cluster = Cluster(folder, worker_home, stack)
        options = ("--dask", cluster.address, "--resource", RESOURCE)
        yield cluster, stack.enter_context(a_site(folder / "site", *options, fresh=True))


def _worker_of(events: Iterator[dict[str, Any]], stage: str) -> None:
    next(event for event in events if event["kind"] == "progress" and event["stage"] == stage)


def _builds(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has children: a worker that builds."""
    children = Path(f"/proc/{process.pid}/task").glob("*/children")
    return any(child.read_text().strip() for child in children)


def test_a_killed_worker_is_replaced_and_nothing_is_built_twice(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    (tmp_path / "site").mkdir()
    with _cluster(tmp_path) as (cluster, site), site.client() as client:
        first, second = cluster.worker("one"), cluster.worker("two")
        id = site.submit(client, site.order())["id"]
        events = client.watch(id)
        _worker_of(events, "synthesis")
        (busy,) = [worker for worker in (first, second) if _builds(worker)]
        os.kill(busy.pid, signal.SIGKILL)
        states = [event["state"] for event in events if event["kind"] == "state"]
        assert states[-1] == "done"
        result = client.result(id)
        assert result["verified"] == ["reference", "rtl", "bitstream"]
        client.fetch(id, tmp_path / "fetched")
        proof = gatesmith("verify", tmp_path / "fetched", "--samples", "100", "--json")
        assert json.loads(proof.stdout)["mismatches"] == 0
        assert not any("nextpnr" in line for line in site.processes())


def test_a_build_waits_for_a_worker_with_its_resource_and_can_be_cancelled(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    (tmp_path / "site").mkdir()
    with _cluster(tmp_path) as (cluster, site), site.client() as client:
        id = site.submit(client, site.order())["id"]
        events = client.watch(id)
        next(event for event in events if event.get("state") == "running")
        worker = cluster.worker("late")
        _worker_of(events, "synthesis")
        client.cancel(id)
        with pytest.raises(BuildCancelled):
            client.result(id)
        end = time.monotonic() + 30
        while _builds(worker):
            assert time.monotonic() < end, "the worker goes on"
            select.select([], [], [], 0.05)


def test_a_scheduler_that_is_not_there(tmp_path: Path) -> None:
    done = gatesmith("builds", "serve", "--dask", f"tcp://127.0.0.1:{free_port()}", "--port", "0", home=tmp_path)
    assert "does not answer" in failed(done)
