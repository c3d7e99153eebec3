"""What the worker runs ends as it should; what the guard starts never outlives the process that started it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gatesmith.toolchain import guard, worker
from gatesmith.toolchain.process import Output, run

WORKER = (sys.executable, "-P", str(worker.__file__))
GUARD = (sys.executable, "-I", "-S", str(guard.__file__))
SLEEP = "import time; time.sleep(600)"
STARTS_IT_AND_SLEEPS = """
import subprocess, sys, time
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)
print(child.pid, flush=True)
time.sleep(600)
"""


def _gone(pid: int) -> bool:
    deadline, tick = time.monotonic() + 10, threading.Event()
    path = Path(f"/proc/{pid}/cmdline")
    while time.monotonic() < deadline:
        try:
            if not path.read_bytes():
                return True
        except OSError:
            return True
        tick.wait(0.01)
    return False


def _worker(folder: Path, *arguments: str) -> Output:
    return run((*WORKER, *arguments), folder=folder, environment={"PYTHONPATH": str(folder)}, timeout_s=60)


def test_a_console_script_sees_its_arguments_and_gives_its_status(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import sys\ndef main():\n    print(sys.argv[1:], file=sys.stderr)\n    return 7\n"
    )
    output = _worker(tmp_path, "script:main", "--seed", "1")
    assert (output.status, output.lines) == (7, ("['--seed', '1']",))


@pytest.mark.parametrize("when", ["before it starts", "while it runs"])
def test_a_program_dies_with_the_one_that_started_it(tmp_path: Path, when: str) -> None:
    ready = tmp_path / "ready"
    child = f"open({str(ready)!r}, 'w').close(); {SLEEP}"
    command = [sys.executable, "-c", STARTS_IT_AND_SLEEPS, *GUARD, sys.executable, "-c", child]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        deadline, tick = time.monotonic() + 20, threading.Event()
        while when == "while it runs" and not ready.exists() and time.monotonic() < deadline:
            tick.wait(0.01)
        parent.send_signal(signal.SIGKILL)
    assert _gone(pid)


def test_a_list_of_passes_is_read_from_a_file(tmp_path: Path) -> None:
    pytest.importorskip("pyosys")
    (tmp_path / "passes.json").write_text(json.dumps(["read_verilog absent.v"]))
    output = _worker(tmp_path, "pyosys", "passes.json")
    assert output.status == 1
    assert output.words() == "File `absent.v' not found or is a directory"


def test_nothing_starts_for_a_build_that_is_gone(tmp_path: Path) -> None:
    command = [*GUARD, sys.executable, "-c", f"open({str(tmp_path / 'ran')!r}, 'w')"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    assert not (tmp_path / "ran").exists()
