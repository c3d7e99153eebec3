"""Servers that are measured: how each is installed, started, and known to be ready.

Peers get virtual environments of their own in the cache folder, because their pins and ours exclude each other.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gatesmith.tools import cache_path

HERE = Path(__file__).parent
REQUIREMENTS = {"kserve": "kserve==0.21.0", "mlserver": "mlserver==1.7.1"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A server that answers."""

    name: str
    pid: int
    http_port: int
    grpc_port: int


def python_of(name: str) -> str:
    """The interpreter of a peer's environment, which is made when it is not there; our own for everything else."""
    if name not in REQUIREMENTS:
        return sys.executable
    folder = cache_path("bench") / name
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", REQUIREMENTS[name]], check=True, stdout=sys.stderr)
        (folder / "complete").touch()
    return str(python)


@contextlib.contextmanager
def running(name: str) -> Iterator[Running]:
    """Start a server, wait until it answers, and end it."""
    http_port, grpc_port, metrics_port = _free_ports(3)
    with tempfile.TemporaryDirectory() as scratch, (Path(scratch) / "log").open("wb") as log:
        command = _command(name, Path(scratch), http_port, grpc_port, metrics_port)
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=scratch)
        try:
            _wait(f"http://127.0.0.1:{http_port}/v2/health/live", child, Path(scratch) / "log")
            yield Running(name=name, pid=child.pid, http_port=http_port, grpc_port=grpc_port)
        finally:
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _command(name: str, scratch: Path, http_port: int, grpc_port: int, metrics_port: int) -> list[str]:
    kind, _, thread = name.partition("-")
    python, script = python_of(name), HERE / f"noop_{kind}.py"
    if name != "mlserver":
        return [python, str(script), str(http_port), str(grpc_port), *filter(None, [thread])]
    settings = {"http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port, "parallel_workers": 0}
    model = {"name": "m", "implementation": "noop_mlserver.Noop"}
    (scratch / "settings.json").write_text(json.dumps({**settings, "host": "127.0.0.1", "debug": False}))
    (scratch / "model-settings.json").write_text(json.dumps(model))
    (scratch / script.name).write_text(script.read_text())
    return [python, "-m", "mlserver.cli.main", "start", str(scratch)]


def _wait(url: str, child: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        if child.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{url} does not answer:\n{log.read_text()[-3000:]}")
        time.sleep(0.05)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(socket.socket()) for _ in range(count)]
        for line in lines:
            line.bind(("127.0.0.1", 0))
        return [line.getsockname()[1] for line in lines]
