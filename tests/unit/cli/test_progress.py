"""Progress: a bar on a terminal, lines for longer stages in a log, nothing with JSON."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from typing import ClassVar

import pytest

from gatesmith.cli import progress
from gatesmith.cli.progress import progress_bar


class Timer:
    """A timer whose time comes when a test says so."""

    made: ClassVar[list[Timer]] = []

    def __init__(self, seconds: float, function: object, arguments: list[str]) -> None:
        self.function, self.arguments, self.running = function, arguments, False
        Timer.made.append(self)

    def start(self) -> None:
        self.running = True

    def cancel(self) -> None:
        self.running = False

    def ring(self) -> None:
        if self.running and callable(self.function):
            self.function(*self.arguments)


@pytest.fixture(autouse=True)
def _timer(monkeypatch: pytest.MonkeyPatch) -> None:
    Timer.made = []
    monkeypatch.setattr(threading, "Timer", Timer)


def test_a_log_gets_a_line_for_a_stage_that_takes_long(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(as_json=False) as tell:
        tell("read", 0.0)
        tell("routing", 0.2)
        for timer in Timer.made:
            timer.ring()
        tell("routing", 0.5)
        tell("packing", 0.9)
    for timer in Timer.made:
        timer.ring()
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "routing ...\n")


def test_a_stage_that_comes_again_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(as_json=False) as tell:
        for _ in range(2):
            for stage in ("gateware", "routing"):
                tell(stage, 0.0)
                Timer.made[-1].ring()
    assert capsys.readouterr().err == "gateware ...\nrouting ...\n"


def test_nothing_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(as_json=True) as tell:
        tell("routing", 0.5)
    said = capsys.readouterr()
    assert (said.out, said.err, Timer.made) == ("", "", [])


CODE = """
from gatesmith.cli.progress import progress_bar
with progress_bar(as_json=False) as tell:
    tell("synthesis", 0.1)
    tell("routing", 0.6)
print("done")
"""


def test_a_bar_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(
        [sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 4096):
                seen += chunk
        except OSError:  # the other end is closed
            pass
        assert process.stdout
        assert process.stdout.read() == "done\n"
    os.close(ours)
    assert b"routing" in seen
    assert "━".encode() in seen
    assert progress.LONG_S > 0
