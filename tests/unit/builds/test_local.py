"""What a build may hold is counted by its own processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gatesmith.builds.local import _Memory
from gatesmith.errors import BuildLost


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
