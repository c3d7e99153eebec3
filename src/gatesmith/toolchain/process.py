"""One external program: its own process group, its words, its time and its memory.

Whatever ends a run early (an exception, Ctrl-C, the timeout) kills the whole group, so nothing of a build goes on
after it. When this process is killed the program dies too (see ``guard.py``).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gatesmith.errors import ToolFailed

__all__ = ["Output", "run"]

_GUARD = str(Path(__file__).with_name("guard.py"))
_KEPT_LINES = 500
_WATCH_INTERVAL_S = 0.02
_ERROR = re.compile(r"^\s*(?:fatal )?error:?\s+", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """How one program ended: its exit status, the end of its log, the most memory that it held."""

    status: int
    lines: tuple[str, ...]
    peak_memory_bytes: int

    def words(self) -> str:
        """What the program says is wrong, in one line: its first error, else its last line."""
        if self.status < 0:
            hint = " (out of memory?)" if self.status == -signal.SIGKILL else ""
            return f"killed by signal {-self.status}{hint}"
        errors = [_ERROR.sub("", line) for line in self.lines if _ERROR.match(line)]
        last = [line for line in self.lines if line.strip()][-1:]
        return (errors or last or [f"exit status {self.status} and no message"])[0].strip()


def run(
    command: tuple[str, ...],
    *,
    folder: Path,
    environment: Mapping[str, str],
    timeout_s: float,
    on_line: Callable[[str], None] | None = None,
) -> Output:
    """Run a program to its end and give back how it ended.

    Parameters
    ----------
    on_line : callable
        Called with each line of standard error as it comes; nextpnr logs there.

    Raises
    ------
    ToolFailed
        When it cannot be started, or does not end within ``timeout_s``.
    """
    if shutil.which(command[0]) is None:
        raise ToolFailed(f"{command[0]} is not a program that can be started", tool=command[0])
    try:
        process = subprocess.Popen(
            (sys.executable, "-I", "-S", _GUARD, *command),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,  # never written; it ends when this process does
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,
        )
    except OSError as error:
        raise ToolFailed(f"no process can be started: {error.strerror}", tool=command[0]) from error
    watch = _Watch(process.pid, timeout_s)
    watch.start()
    try:
        lines = _read(process, on_line)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    finally:
        watch.stop()
        status = _end(process)
    if watch.expired:
        raise ToolFailed(f"{Path(command[0]).name} did not end within {timeout_s:g} s", seconds=timeout_s)
    return Output(status=status, lines=lines, peak_memory_bytes=watch.peak_memory_bytes)


def _read(process: subprocess.Popen[str], on_line: Callable[[str], None] | None) -> tuple[str, ...]:
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    for line in process.stderr or ():
        kept.append(line.rstrip())
        if on_line:
            on_line(kept[-1])
    return tuple(kept)


class _Watch(threading.Thread):
    """Kills the group when its time is over; until then looks how much memory its leader ever held.

    The rusage of a collected child is no answer: it starts from what the parent held.
    """

    def __init__(self, pid: int, timeout_s: float) -> None:
        super().__init__(daemon=True)
        self.expired = False
        self.peak_memory_bytes = 0
        self._pid = pid
        self._deadline = time.monotonic() + timeout_s
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(_WATCH_INTERVAL_S):
            self.peak_memory_bytes = max(self.peak_memory_bytes, _high_water_bytes(self._pid))
            if time.monotonic() > self._deadline:
                self.expired = True
                _kill(self._pid)
                return

    def stop(self) -> None:
        self._done.set()
        self.join()


def _high_water_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    match = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else 0


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _end(process: subprocess.Popen[str]) -> int:
    """Kill what is left of the group and collect its leader; give back its exit status.

    The leader is collected last: until then its process id cannot be given to another group.
    """
    _kill(process.pid)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    for pipe in (process.stdin, process.stderr):
        if pipe:
            pipe.close()
    return process.returncode
