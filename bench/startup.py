"""Seconds until the command line and the server can be used, and what the server holds in memory.

``gatesmith --help``, the run side's import and the server's start, as whole processes: from their start to the first
200 on ``/v2/health/ready``, with a firmware that was emulated here before. Medians; prints one JSON object.
"""

from __future__ import annotations

import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from peers.questions import Version, make_store

from gatesmith.devices.verilated import compile_board

COMMANDS = {
    "help": [sys.executable, "-m", "gatesmith", "--help"],
    "import_server": [
        sys.executable,
        "-c",
        "import gatesmith.serve.server, gatesmith.devices, gatesmith.artifact.store",
    ],
    "python_alone": [sys.executable, "-c", "pass"],
}
ROUNDS, REQUESTS = 7, 10_000


def seconds(command: list[str]) -> float:
    """One run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def resident_mib(pid: int, field: str = "VmRSS") -> float:
    """Memory that a process holds, or held at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def is_ready(url: str) -> bool:
    """Whether it can answer."""
    try:
        with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False


def ask(url: str, count: int) -> None:
    """So many requests with one sample, one after the other."""
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}
    body = json.dumps({"inputs": [tensor]}).encode()
    session = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    for _ in range(count):
        session.request("POST", "/v2/models/iris/infer", body, {"content-type": "application/json"})
        answer = session.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {content[:300]!r}")
    session.close()


def served(store: Path, requests: int) -> dict[str, float]:
    """One start of the server."""
    command = [sys.executable, "-m", "gatesmith", "serve", "iris:v1", "--repository", str(store)]
    command += ["--device", "emulator:0", "--http-port", "0", "--json"]
    with tempfile.TemporaryFile("w+") as log:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert child.stdout
            line = child.stdout.readline()
            if not line:
                log.seek(0)
                raise RuntimeError(log.read()[-2000:])
            url = json.loads(line)["url"]
            while not is_ready(url):
                time.sleep(0.005)
            found = {"server_ready_seconds": time.perf_counter() - start, "ready_mib": resident_mib(child.pid)}
            ask(url, requests)
            return {**found, "served_mib": resident_mib(child.pid), "highest_mib": resident_mib(child.pid, "VmHWM")}
        finally:
            child.terminate()
            child.wait(30)


def main() -> None:
    """Measure, interleaved."""
    runs: dict[str, list[float]] = {}
    version = Version(name="iris", tag="v1")
    compile_board(version.firmware.hdl["top.v"])
    with tempfile.TemporaryDirectory() as name:
        store = make_store(Path(name), [version])
        served(store.layout.path, 1)
        for turn in range(ROUNDS):
            for command_name, command in COMMANDS.items():
                runs.setdefault(f"{command_name}_seconds", []).append(seconds(command))
            found = served(store.layout.path, REQUESTS if turn == ROUNDS - 1 else 1)
            for key in ("server_ready_seconds", "ready_mib"):
                runs.setdefault(key, []).append(found[key])
    result: dict[str, Any] = {key: round(statistics.median(values), 3) for key, values in runs.items()}
    result |= {"requests": REQUESTS, **{key: round(found[key], 1) for key in ("served_mib", "highest_mib")}}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
