"""Processes that die, collide or run out of disk in the middle of a save leave a store that is whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from firmwares import tiny_firmware

from gatesmith.artifact.store import Store

TESTS = str(Path(__file__).parents[1])
PROLOGUE = """
import os, signal, sys, resource
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from firmwares import tiny_firmware
from gatesmith.artifact.store import Store
from gatesmith.errors import GatesmithError
store = Store(Path(sys.argv[2]))
ICE, ECP5 = tiny_firmware(), tiny_firmware(board="ulx3s", family="ecp5")
"""

DIE_AT_EVERY_CALL = """
def dying(real, left):
    def call(*arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call

for point in range(1, 200):
    child = os.fork()
    if child == 0:
        left = [point]
        for module, name in ((os, "fsync"), (os, "open"), (Path, "open"), (Path, "replace"), (Path, "mkdir")):
            setattr(module, name, dying(getattr(module, name), left))
        store.save("iris:v1", [ECP5, tiny_firmware(seed=point)])
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert [e.problem for e in store.list()] == [""] * len(store.list())
    assert store.load("keep:v1") == ICE
    if not os.WIFSIGNALED(status):
        break
assert os.WEXITSTATUS(status) == 0
print(point)
"""

WRITE_TEN = """
for number in range(10):
    store.save(f"{sys.argv[3]}:v{number}", [tiny_firmware(seed=number), ECP5])
    store.save("shared:v1", [tiny_firmware(board=f"{sys.argv[3]}{number}")])
"""

FILES_OF_3000_BYTES = """
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    store.save("iris:v1", [ECP5])
except GatesmithError as error:
    print(type(error).__name__, error)
"""


def start(script: str, store: Store, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROLOGUE + script, TESTS, str(store.layout.path), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output_of(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return out


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_killed_at_every_step_of_a_save(store: Store) -> None:
    store.save("keep:v1", [tiny_firmware()])
    points = int(output_of(start(DIE_AT_EVERY_CALL, store)))
    assert points > 30
    assert store.load("iris:v1", board="icebreaker") == tiny_firmware(seed=points)
    store.layout.collect()
    assert not list((store.layout.path / "partial").iterdir())


def test_two_writers_lose_nothing(store: Store) -> None:
    writers = [start(WRITE_TEN, store, name) for name in ("left", "right")]
    for writer in writers:
        output_of(writer)
    for name in ("left", "right"):
        for number in range(10):
            assert store.load(f"{name}:v{number}", board="icebreaker") == tiny_firmware(seed=number)
    shared = next(entry for entry in store.list() if entry.reference == "shared:v1")
    assert sorted(shared.boards) == sorted(f"{name}{n}" for name in ("left", "right") for n in range(10))


def test_a_refused_write_is_one_line_and_leaves_nothing(store: Store) -> None:
    store.save("keep:v1", [tiny_firmware()])
    before = sorted(p for p in store.layout.path.rglob("*"))
    out = output_of(start(FILES_OF_3000_BYTES, store))
    assert out.startswith("StoreWriteFailed store ")
    assert "File too large" in out
    assert out.count("\n") == 1
    assert sorted(p for p in store.layout.path.rglob("*")) == before


def test_a_full_file_system(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        small = Store(place / "store")
        small.save("iris:v1", [tiny_firmware()])
        script = "\ntry:\n    store.save('iris:v2', [tiny_firmware(bitstream=os.urandom(300_000))])\n"
        script += "except GatesmithError as error:\n    print(type(error).__name__, error)\n"
        out = output_of(start(script, small))
        assert "No space left on device" in out
        assert small.load("iris:v1") == tiny_firmware()
        assert [entry.reference for entry in small.list()] == ["iris:v1"]
        assert not list((small.layout.path / "partial").iterdir())
    finally:
        subprocess.run(["umount", str(place)], check=True)
