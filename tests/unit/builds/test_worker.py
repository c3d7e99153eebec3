"""A build's process, whose interpreter a solver may hold for as long as it likes."""

from __future__ import annotations

import subprocess
import sys

# Ref: Python, ctypes.PyDLL: a call of its functions does not give the interpreter to other threads
STUCK = """
import ctypes, sys
from gatesmith.builds.worker import beating
with beating():
    ctypes.PyDLL(None).usleep(3_500_000)
    print("over", file=sys.stderr, flush=True)
"""


def test_a_build_that_holds_its_interpreter_is_still_heard() -> None:
    command = [sys.executable, "-c", STUCK]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    said = done.stderr.splitlines()
    assert said.index("over") >= 2, said
    assert set(said) == {"over", '{"alive": true}'}
