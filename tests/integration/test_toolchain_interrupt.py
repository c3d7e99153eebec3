"""A build that is stopped, politely or not, leaves no process behind and a cache that can be trusted."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from designs import shift_register
from requirements import require_family

from gatesmith.boards import Family, find_board
from gatesmith.toolchain import plan, synthesize
from gatesmith.toolchain.cache import load

BUILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from designs import shift_register
from gatesmith.boards import find_board
from gatesmith.toolchain import execute, plan
folder = Path(sys.argv[2])
execute(
    plan(shift_register(4000), find_board("icebreaker")),
    cache=folder / "cache",
    work=folder / "work",
    progress=lambda stage, part: print(stage, part, flush=True),
)
"""


def _inside(folder: Path) -> list[int]:
    """Processes that work in a folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                target = (process / "cwd").readlink()
            except OSError:
                continue
            if target.is_relative_to(folder):
                found.append(int(process.name))
    return found


def _empties(folder: Path) -> bool:
    deadline, tick = time.monotonic() + 20, threading.Event()
    while _inside(folder) and time.monotonic() < deadline:
        tick.wait(0.02)
    return not _inside(folder)


@pytest.mark.parametrize(
    ("number", "stage", "status"),
    [
        (signal.SIGINT, "synthesis", 1),
        (signal.SIGINT, "routing", 1),
        (signal.SIGKILL, "synthesis", -signal.SIGKILL),
        (signal.SIGKILL, "routing", -signal.SIGKILL),
    ],
)
def test_a_stopped_build_leaves_nothing_running(
    tmp_path: Path, number: signal.Signals, stage: str, status: int
) -> None:
    require_family(Family.ICE40)
    tests = str(Path(__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", BUILD, tests, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as build:
        assert build.stdout is not None
        for line in build.stdout:
            if line.startswith(stage):
                break
        deadline, tick = time.monotonic() + 20, threading.Event()
        while not _inside(tmp_path) and time.monotonic() < deadline:
            tick.wait(0.01)
        assert _inside(tmp_path), "the build ended before it could be stopped"
        build.send_signal(number)
        build.stdout.read()
    assert build.returncode in {status, -number}
    assert _empties(tmp_path)
    build_plan = plan(shift_register(4000), find_board("icebreaker"))
    assert load(tmp_path / "cache", build_plan.digest) is None
    assert not list((tmp_path / "cache").rglob("*.part"))
    if stage == "routing":  # the finished netlist is kept
        assert synthesize(build_plan, cache=tmp_path / "cache").cached
