"""Requests per second, latency and server CPU of the REST door, with a device that answers at once.

Prints one JSON object. The client is a closed loop over plain sockets in another process than the server, so what is
measured is the server: HTTP, JSON, checks, the crossing to the device's thread and back, encoding and decoding.
"""

from __future__ import annotations

import json
import os
import platform
import selectors
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1] / "tests"
INPUTS, OUTPUTS = 16, 5
SECONDS, ROUNDS = 2.0, 3
CASES = [("v2", 1, 1), ("v2", 8, 1), ("v2", 32, 1), ("v1", 32, 1), ("live", 32, 0), ("v2", 1, 1000)]


def serve() -> None:
    """The server's side, in a process of its own; prints its URL."""
    sys.path.insert(0, str(TESTS))
    import numpy as np
    from firmwares import ArithmeticDevice, port, tiny_firmware
    from numpy.typing import NDArray

    from gatesmith.contract import Contract
    from gatesmith.serve.server import serve_models
    from gatesmith.serve.settings import Settings

    contract = Contract(inputs=(port("x", INPUTS),), outputs=(port("y", OUTPUTS),))

    class Instant(ArithmeticDevice):
        def infer(self, payload: NDArray[np.uint8]) -> NDArray[np.uint8]:
            return np.zeros((len(payload), contract.output_bytes), np.uint8)

    models = {"m": (tiny_firmware(contract=contract), Instant())}
    serve_models(models, Settings(http_port=0), on_started=lambda url: print(url, flush=True))


def request(door: str, batch: int) -> bytes:
    """One whole HTTP request."""
    if door == "live":
        return b"GET /v2/health/live HTTP/1.1\r\nhost: here\r\n\r\n"
    rows = [[0.1 * (i + j) for j in range(INPUTS)] for i in range(batch)]
    tensor = {"name": "x", "datatype": "FP32", "shape": [batch, INPUTS], "data": [v for row in rows for v in row]}
    path, content = ("/v2/models/m/infer", {"inputs": [tensor]})
    if door == "v1":
        path, content = ("/v1/models/m:predict", {"instances": rows})
    body = json.dumps(content).encode()
    return f"POST {path} HTTP/1.1\r\nhost: here\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def is_whole(answer: bytes) -> bool:
    """Whether an answer has come to its end; it must be a good one."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200"[: len(answer)]), answer
    return bool(blank) and len(body) >= int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])


def cpu_s(pid: int) -> float:
    """Processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(port: int, pid: int, content: bytes, clients: int) -> dict[str, float]:
    """A closed loop of so many clients for some seconds."""
    selector, sent, part, latencies = selectors.DefaultSelector(), {}, {}, []
    lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(clients)]
    begin, cpu = time.perf_counter(), cpu_s(pid)
    for line in lines:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(line, selectors.EVENT_READ)
        part[line], sent[line] = b"", time.perf_counter()
        line.sendall(content)
    while time.perf_counter() < begin + SECONDS:
        for key, _ in selector.select(1):
            line = key.fileobj
            part[line] += line.recv(1 << 20)
            if is_whole(part[line]):
                now = time.perf_counter()
                latencies.append(now - sent[line])
                part[line], sent[line] = b"", now
                line.sendall(content)
    seconds, cpu, count = time.perf_counter() - begin, cpu_s(pid) - cpu, len(latencies)
    for line in lines:
        line.close()
    latencies.sort()
    return {
        "requests_per_s": round(count / seconds),
        "p50_ms": round(latencies[count // 2] * 1e3, 3),
        "p99_ms": round(latencies[count * 99 // 100] * 1e3, 3),
        "server_cpu_us": round(cpu / count * 1e6, 1),
    }


def main() -> None:
    """All cases in turn, several rounds, the round with the median throughput."""
    child = subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout
        port = int(child.stdout.readline().rpartition(":")[2])
        load(port, child.pid, request("live", 0), 1)
        rounds = [[load(port, child.pid, request(door, n), c) for door, c, n in CASES] for _ in range(ROUNDS)]
    finally:
        child.terminate()
        child.wait(30)
    results: list[dict[str, Any]] = []
    for (door, clients, batch), runs in zip(CASES, zip(*rounds, strict=True), strict=True):
        median = sorted(runs, key=lambda run: run["requests_per_s"])[len(runs) // 2]
        results.append({"door": door, "clients": clients, "batch": batch, **median})
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(json.dumps({"machine": machine, "elements": INPUTS, "results": results}, indent=1))


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
