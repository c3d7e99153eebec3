"""Processes that are killed at any point of a push, pull, save or removal leave stores and registries that are whole.

Where to kill is chosen at random with a fixed seed, in time from the start of the work to its usual end, so that early
and late moments are both met.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from firmwares import tiny_firmware
from registries import RealRegistry, real_registry

from gatesmith.artifact.connection import Access
from gatesmith.artifact.patience import Limits
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.remote import pull_artifact, push_artifact
from gatesmith.artifact.store import Store
from gatesmith.errors import ArtifactNotFound

POINTS = 50
ACCESS = Access(plain_http=True, limits=Limits(settle_s=0.0))
BOARDS = ["icebreaker", "ulx3s"]

# One process forks a child for every kill, so that Python starts once.
WORKER = """
import os, sys, time
from pathlib import Path
tests, store_path, remote = sys.argv[1:]
sys.path.insert(0, tests)
from firmwares import tiny_firmware
from gatesmith.artifact.connection import Access
from gatesmith.artifact.patience import Limits
from gatesmith.artifact.reference import Reference
from gatesmith.artifact import images, network  # what is loaded at use is loaded once, before the forks
from gatesmith.artifact.remote import pull_artifact, push_artifact
from gatesmith.artifact.store import Store
store = Store(Path(store_path))
access = Access(plain_http=True, limits=Limits(settle_s=0.0))

def work(verb, number):
    mine = Reference.parse(f"mine:v{number}")
    if verb == "pull":
        pull_artifact(store.layout, Reference.parse(f"{remote}:v0"), access)
    elif verb == "push":
        push_artifact(store.layout, Reference.parse("mine:v0"), Reference.parse(f"{remote}/n{number}:v0"), access)
    elif verb == "save":
        firmwares = [tiny_firmware(seed=number, board=board, bitstream=bytes([number]) * 300_000)
                     for board in ("icebreaker", "ulx3s")]
        store.save(str(mine), firmwares)
    else:
        store.remove(str(mine))

for line in sys.stdin:
    verb, number, seconds = line.split()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        work(verb, int(number))
        os._exit(0)
    if float(seconds):
        time.sleep(float(seconds))
        os.kill(child, 9)
    _, status = os.waitpid(child, 0)
    print(status, time.monotonic() - start, flush=True)
"""


class Victim:
    """Does work in processes that are killed."""

    def __init__(self, store: Store, remote: str) -> None:
        command = [sys.executable, "-c", WORKER, str(Path(__file__).parents[1]), str(store.layout.path), remote]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, verb: str, number: int, *, kill_after_s: float = 0.0) -> tuple[int, float]:
        """Exit status, as ``waitpid`` tells it, and seconds."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{verb} {number} {kill_after_s}\n")
        self.process.stdin.flush()
        status, seconds = self.process.stdout.readline().split()
        return int(status), float(seconds)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with real_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def victim(store: Store, registry: RealRegistry, tmp_path: Path) -> Iterator[Victim]:
    victim = Victim(store, f"{registry.address}/crash/{tmp_path.name.replace('_', '-').lower()}")
    yield victim
    victim.process.kill()
    victim.process.wait(30)
    for pipe in (victim.process.stdin, victim.process.stdout):
        assert pipe
        pipe.close()


def check(store: Store) -> None:
    """Everything that has a name is there and right; what a killed process left goes away."""
    for entry in store.list():
        assert entry.problem == ""
        for board in BOARDS:
            store.load(entry.reference, board=board)
    store.layout.collect()
    assert not list((store.layout.path / "partial").iterdir())


def moments(usual_s: float) -> Iterator[float]:
    for part in np.random.default_rng(7).uniform(0, 1.1, POINTS):
        yield max(0.0005, float(part) * usual_s)


def usual(victim: Victim, verb: str) -> float:
    """Seconds that the work takes when nobody is killed: the longer of two."""
    times = []
    for number in (250, 251):
        status, seconds = victim.run(verb, number)
        assert status == 0
        times.append(seconds)
    return max(times)


def test_killed_while_saving(store: Store, victim: Victim) -> None:
    killed = 0
    for number, moment in enumerate(moments(usual(victim, "save"))):
        status, _ = victim.run("save", number, kill_after_s=moment)
        killed += status == signal.SIGKILL
        assert {entry.reference for entry in store.list()} >= {"mine:v250", "mine:v251"}
        check(store)
    assert killed >= POINTS // 10


def test_killed_while_removing(store: Store, victim: Victim) -> None:
    for number in (*range(POINTS), 250, 251):
        store.save(f"mine:v{number}", [tiny_firmware(seed=number, board=board) for board in BOARDS])
    killed = 0
    usual_s = usual(victim, "remove")
    for number, part in enumerate(moments(1.0)):
        status, seconds = victim.run("remove", number, kill_after_s=max(0.0005, part * usual_s))
        killed += status == signal.SIGKILL
        # removing gets quicker as the store gets smaller
        usual_s = usual_s if status else min(usual_s, seconds)
        assert {entry.reference for entry in store.list()} >= {f"mine:v{n}" for n in range(number + 1, POINTS)}
        check(store)
    assert killed >= POINTS // 10


def test_killed_while_pulling(store: Store, victim: Victim, registry: RealRegistry, tmp_path: Path) -> None:
    origin = Store(tmp_path / "origin")
    firmwares = [tiny_firmware(board=board, bitstream=bytes(3_000_000)) for board in BOARDS]
    digest = origin.save("mine:v0", firmwares)
    name = Reference.parse(f"{_remote(victim)}:v0")
    push_artifact(origin.layout, Reference.parse("mine:v0"), name, ACCESS)
    store.save("mine:v7", [tiny_firmware(board=board) for board in BOARDS])
    usual_s = usual(victim, "pull")
    killed = 0
    for moment in moments(usual_s):
        for entry in store.list():
            if entry.reference == str(name):
                store.remove(str(name))
        status, _ = victim.run("pull", 0, kill_after_s=moment)
        killed += status == signal.SIGKILL
        assert "mine:v7" in {entry.reference for entry in store.list()}
        check(store)
    assert killed >= POINTS // 10
    assert pull_artifact(store.layout, name, ACCESS).digest == digest


def test_killed_while_pushing(store: Store, victim: Victim, tmp_path: Path) -> None:
    bits = bytes(range(256)) * 4000
    digest = store.save("mine:v0", [tiny_firmware(board=board, bitstream=bits) for board in BOARDS])
    remote, killed = _remote(victim), 0
    for number, moment in enumerate(moments(usual(victim, "push"))):
        status, _ = victim.run("push", number, kill_after_s=moment)
        killed += status == signal.SIGKILL
    assert killed >= POINTS // 10
    check(store)
    fresh, whole = Store(tmp_path / "fresh"), 0
    for number in range(POINTS):  # a tag is whole or not there
        try:
            whole += pull_artifact(fresh.layout, Reference.parse(f"{remote}/n{number}:v0"), ACCESS).digest == digest
        except ArtifactNotFound:
            continue
    assert POINTS - killed <= whole < POINTS
    check(fresh)
    for number in range(0, POINTS, 10):  # and the next push ends what was begun
        name = Reference.parse(f"{remote}/n{number}:v0")
        push_artifact(store.layout, Reference.parse("mine:v0"), name, ACCESS)
        assert pull_artifact(fresh.layout, name, ACCESS).digest == digest


def _remote(victim: Victim) -> str:
    return str(victim.process.args[-1])
