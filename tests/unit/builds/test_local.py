"""What a build may hold is counted by its own processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gatesmith.builds import local as module
from gatesmith.builds.job import Job, Limits
from gatesmith.builds.local import _Memory, build_locally
from gatesmith.builds.order import Order
from gatesmith.errors import BuildLost
from gatesmith.toolchain.process import Output


def test_a_build_is_not_ended_for_what_others_hold(tmp_path: Path) -> None:
    """Builds of two servers on a machine have folders of the same name, in different places."""
    mine, other = tmp_path / "a" / "job", tmp_path / "b" / "job"
    command = [sys.executable, "-S", "-c", "print(flush=True); input()", str(other)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        _Memory(mine, 1).check()
        with pytest.raises(BuildLost, match="the build holds "):
            _Memory(other, 1).check()
        child.communicate(b"\n")


def test_what_a_killed_build_leaves_goes_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that stands for the build makes a temporary folder and does not come to remove it."""
    leave = "import os, tempfile; print(tempfile.mkdtemp(), flush=True); os.kill(os.getpid(), 9)"
    made: list[Path] = []

    def killed(_command: tuple[str, ...], *, environment: dict[str, str], **_more: object) -> Output:
        done = subprocess.run(
            [sys.executable, "-c", leave], env=environment, capture_output=True, text=True, check=False
        )
        made.append(Path(done.stdout.strip()))
        return Output(status=done.returncode, lines=(), peak_memory_bytes=0)

    monkeypatch.setattr(module, "run", killed)
    order = Order(model="sha256:" + "0" * 64, model_file="m.onnx", name="m", board="icebreaker")
    with pytest.raises(BuildLost, match="killed by signal 9"):
        build_locally(
            Job(order=order, model=b"m"), tmp_path / "job", limits=Limits(), tell=print, cancel=threading.Event()
        )
    assert made[0].is_dir()
    assert made[0].is_relative_to(tmp_path / "job")
