"""Builds that are stopped, or that the disk or the part is too small for: one line, nothing is left, the next works."""

from __future__ import annotations

import contextlib
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import PROGRAM, TIMEOUT_S, both, environment, failed, gatesmith, result
from onnx_files import save_mlp
from requirements import require_build

from gatesmith.tools import cache_path

BUILD = ("build", "small.onnx", "--board", "icebreaker", "--calibration", "cal.npy", "--precision", "3")


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_build("icebreaker")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a small model, and a home without results that has the tools' compiled code."""
    save_mlp(tmp_path / "small.onnx")
    np.save(tmp_path / "cal.npy", np.random.default_rng(1).normal(size=(50, 2)))
    (tmp_path / "home" / "cache").mkdir(parents=True)
    (tmp_path / "home" / "cache" / "yowasp").symlink_to(cache_path("yowasp").resolve())
    (tmp_path / "tmp").mkdir()
    return tmp_path


def running_for(folder: Path) -> list[str]:
    """Command lines of living processes whose environment names this folder: a build's, whoever started them."""
    wanted = bytes(folder)
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text())
    return [line for line in found if line]  # a zombie has no command line


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def start(work: Path, *extra: str) -> subprocess.Popen[str]:
    env = environment(work / "home", TMPDIR=str(work / "tmp"))
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*PROGRAM, *BUILD, *extra], cwd=work, env=env, **pipes)


@pytest.mark.parametrize(
    ("number", "program"), [(signal.SIGINT, "pyosys"), (signal.SIGTERM, "nextpnr"), (signal.SIGINT, "g++")]
)
def test_stopped_in_the_middle(number: signal.Signals, program: str, work: Path) -> None:
    process = start(work, "--tag", "small:v1", "--out", "out")
    until(lambda: any(program in line for line in running_for(work)), f"{program} did not start")
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert stdout == ""
    assert [line for line in stderr.splitlines() if not line.endswith(" ...")] == ["interrupted"]
    until(lambda: not running_for(work), "something still runs")
    assert list((work / "tmp").iterdir()) == []
    assert not (work / "out").exists()
    assert result(gatesmith("list", "--json", home=work / "home")) == []
    built = result(gatesmith(*BUILD, "--tag", "small:v1", "--json", cwd=work, home=work / "home"))
    assert built["verified"][:2] == ["reference", "rtl"]


def limited(bytes_: int) -> dict[str, Any]:
    """No file may become larger: what a full disk looks like to a program, without one."""
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))}


def test_full_disk(work: Path) -> None:
    home = work / "home"
    for bytes_ in (1_000, 60_000, 250_000):
        line = failed(gatesmith(*BUILD, "--tag", "small:v1", cwd=work, home=home, **limited(bytes_)))
        assert "File too large" in line or "failed" in line, line
        assert result(gatesmith("list", "--json", home=home)) == []
    result(gatesmith(*BUILD, "--json", cwd=work, home=home))
    for place in (("--tag", "small:v1"), ("--out", "out")):
        line = failed(gatesmith(*BUILD, *place, cwd=work, home=home, **limited(20_000)))
        assert "cannot be written: File too large; free space" in line
    assert not (work / "out").exists()
    assert result(gatesmith("list", "--json", home=home)) == []
    built = result(gatesmith(*BUILD, "--tag", "small:v1", "--out", "out", "--json", cwd=work, home=home))
    assert built["cached"]
    assert result(gatesmith("verify", "out", "--samples", "10", "--json", cwd=work, home=home))["mismatches"] == 0


def test_clock_that_is_not_reached(work: Path) -> None:
    line, error = both([*BUILD, "--clock-mhz", "129"], cwd=work, home=work / "home")
    assert error["type"] == "TimingNotMet"
    assert error["clock_hz"] == 129_000_000
    assert f"reaches {error['fmax_hz'] / 1e6:.1f} MHz on icebreaker, 129.0 MHz are needed" in line
    assert all(f"1/{seed}: " in line for seed in (1, 2, 3))
    assert "--clock-mhz" in line.partition(";")[2]


def test_design_that_does_not_fit(work: Path) -> None:
    save_mlp(work / "large.onnx", inputs=12, hidden=16, outputs=4)
    np.save(work / "cal.npy", np.random.default_rng(1).normal(size=(50, 12)))
    command = ["build", "large.onnx", "--board", "icebreaker", "--calibration", "cal.npy", "--precision", "8"]
    line, error = both(command, cwd=work, home=work / "home")
    assert error["type"] == "DesignDoesNotFit"
    assert (error["resource"], error["available"]) == ("ICESTORM_LC", 5280)
    assert error["used"] > 5280
    assert f"needs {error['used']} ICESTORM_LC, iCE40UP5K-SG48 has 5280" in line
    assert "--precision" in line.partition(";")[2]
