"""The real command line in a process of its own, and what every failure of it has to look like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["PROGRAM", "both", "environment", "failed", "failed_as_json", "gatesmith", "result"]

PROGRAM = (sys.executable, "-m", "gatesmith")
TIMEOUT_S = 240

Done = subprocess.CompletedProcess[str]


def environment(home: Path | None = None, **extra: str) -> dict[str, str]:
    """The environment of a command, with a home of its own if one is given."""
    return {**os.environ, **({"GATESMITH_HOME": str(home)} if home else {}), **extra}


def gatesmith(
    *arguments: object,
    home: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    **popen: Any,
) -> Done:
    """Run a command to its end."""
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=cwd,
        env={**environment(home), **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        **popen,
    )


def result(done: Done) -> Any:
    """The JSON of a command that succeeded."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def failed(done: Done, status: int = 1) -> str:
    """The one line that a failure says; progress lines, which end in dots, are allowed before it."""
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.endswith(" ...")]
    assert len(lines) == 1, done.stderr
    assert done.stdout == ""
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


def failed_as_json(done: Done, status: int = 1) -> dict[str, Any]:
    """The error of the one JSON object that a failure prints with ``--json``; stderr is silent."""
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    data = json.loads(done.stdout)
    assert list(data) == ["error"]
    error: dict[str, Any] = data["error"]
    assert isinstance(error["type"], str)
    assert "\n" not in error["message"]
    return error


def both(arguments: Sequence[object], *, status: int = 1, **options: Any) -> tuple[str, dict[str, Any]]:
    """The same failure as a line and as JSON; the two say the same."""
    line = failed(gatesmith(*arguments, **options), status)
    error = failed_as_json(gatesmith(*arguments, "--json", **options), status)
    assert error["message"] == line
    return line, error
