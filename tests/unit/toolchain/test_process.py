"""A program's end, words, time and memory; and that nothing of it goes on afterwards."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from gatesmith.errors import ToolFailed
from gatesmith.toolchain.process import Output, run

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def _python(code: str, folder: Path, *, timeout_s: float = 60.0, **options: object) -> Output:
    command = (sys.executable, "-c", code)
    return run(command, folder=folder, environment=ENVIRONMENT, timeout_s=timeout_s, **options)  # type: ignore[arg-type]


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _gone(pid: int) -> bool:
    deadline, tick = time.monotonic() + 10, threading.Event()
    while _alive(pid) and time.monotonic() < deadline:
        tick.wait(0.01)
    return not _alive(pid)


def test_a_program_runs_in_its_folder_with_its_environment_alone(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd(), sorted(os.environ), file=sys.stderr)"
    output = run((sys.executable, "-c", code), folder=tmp_path, environment={"LC_ALL": "C.UTF-8"}, timeout_s=60)
    assert output.status == 0
    assert output.lines == (f"{tmp_path} ['LC_ALL']",)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Info: a\nERROR: no such port 'x'\nERROR: second\n0 warnings, 1 error", "no such port 'x'"),
        ("Traceback (most recent call last):\n  File\nKeyError: 'x'\n\n", "KeyError: 'x'"),
        ("", "exit status 3 and no message"),
    ],
)
def test_a_failure_is_told_in_the_programs_words(tmp_path: Path, said: str, words: str) -> None:
    output = _python(f"import sys; sys.stderr.write({said!r}); sys.exit(3)", tmp_path)
    assert (output.status, output.words()) == (3, words)


def test_a_killed_program_says_so(tmp_path: Path) -> None:
    output = _python("import os; os.kill(os.getpid(), 9)", tmp_path)
    assert output.words() == "killed by signal 9 (out of memory?)"


def test_a_program_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="/no/such/tool is not a program that can be started"):
        run(("/no/such/tool",), folder=tmp_path, environment={}, timeout_s=1)


def test_peak_memory_is_the_programs_own(tmp_path: Path) -> None:
    ballast = bytearray(300 << 20)  # the child must not be charged for what its parent holds
    small = _python("import time; time.sleep(0.2)", tmp_path).peak_memory_bytes
    large = _python("x = bytearray(200 << 20); import time; time.sleep(0.2)", tmp_path).peak_memory_bytes
    assert 0 < small < 100 << 20
    assert 200 << 20 < large < 300 << 20
    assert len(ballast) == 300 << 20


FAMILY = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, file=sys.stderr, flush=True)
child.wait()
"""


def test_the_timeout_ends_the_whole_family(tmp_path: Path) -> None:
    seen: list[int] = []
    with pytest.raises(ToolFailed, match="did not end within 1 s"):
        _python(FAMILY, tmp_path, timeout_s=1.0, on_line=lambda line: seen.append(int(line)))
    assert _gone(seen[0])


def test_an_interrupt_ends_the_whole_family(tmp_path: Path) -> None:
    seen: list[int] = []

    def interrupt(line: str) -> None:
        seen.append(int(line))
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        _python(FAMILY, tmp_path, on_line=interrupt)
    assert _gone(seen[0])


def test_what_a_program_leaves_behind_is_ended_too(tmp_path: Path) -> None:
    seen: list[int] = []
    leave = FAMILY.replace("child.wait()", "").replace('600)"]', '600)"], stderr=subprocess.DEVNULL')
    output = _python(leave, tmp_path, on_line=lambda line: seen.append(int(line)))
    assert output.status == 0
    assert _gone(seen[0])
