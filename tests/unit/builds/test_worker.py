"""A build's process, whose interpreter a solver may hold for as long as it likes."""

from __future__ import annotations

import subprocess
import sys
import threading

# Ref: Python, ctypes.PyDLL: a call of its functions does not give the interpreter to other threads
STUCK = """
import ctypes, sys
from gatesmith.builds.worker import beating
with beating():
    ctypes.PyDLL(None).read(0, ctypes.create_string_buffer(1), 1)
    print("over", file=sys.stderr, flush=True)
"""
BEAT = '{"alive": true}\n'


def test_a_build_that_holds_its_interpreter_is_still_heard() -> None:
    command = [sys.executable, "-c", STUCK]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdin
        assert child.stderr
        late = threading.Timer(60, child.kill)
        late.start()
        try:
            assert [child.stderr.readline() for _ in range(2)] == [BEAT, BEAT]
            _, rest = child.communicate("x", timeout=60)
        finally:
            late.cancel()
            child.kill()
    assert set(rest.splitlines(keepends=True)) <= {"over\n", BEAT}
    assert "over\n" in rest
    assert child.returncode == 0
