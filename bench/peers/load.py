"""Closed loops of clients against a server, for some seconds: throughput, latencies, and the server's CPU time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from peers.environments import Running

Figures = dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One kind of request at one concurrency.

    Parameters
    ----------
    door : str
        Which loader sends it: a key of ``LOADERS``.
    path, body, headers
        The request, where the loader needs them.
    skip : tuple of str
        Servers that do not know this kind of request.
    """

    name: str
    door: str
    clients: int
    path: str = ""
    body: bytes = b""
    headers: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()


def h2load(server: Running, case: Case, seconds: float) -> Figures:
    """REST over kept connections, one client thread of C++ (Debian: ``nghttp2-client``)."""
    program = shutil.which("h2load")
    if program is None:
        raise RuntimeError("h2load is not installed; apt-get install nghttp2-client")
    url = f"http://127.0.0.1:{server.http_port}{case.path}"
    with tempfile.TemporaryDirectory() as scratch:
        body, log = Path(scratch) / "body", Path(scratch) / "log"
        body.write_bytes(case.body)
        command = [
            program,
            "--h1",
            "-t",
            "1",
            "-c",
            str(case.clients),
            "-D",
            f"{seconds * 1000:.0f}ms",
            "--log-file",
            str(log),
        ]
        command += ["-d", str(body), *(part for header in case.headers for part in ("-H", header)), url]
        before = cpu_s(server.pid)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        cpu = cpu_s(server.pid) - before
        lines = [line.split("\t") for line in log.read_text().splitlines()]
    bad = [line[1] for line in lines if line[1] != "200"]
    if bad or not lines:
        raise RuntimeError(f"{server.name} {case.name}: {len(bad)} of {len(lines)} failed, {bad[:1]}\n{done.stdout}")
    rate = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", done.stdout)
    return figures([int(line[2]) * 1e-6 for line in lines], float(rate[1]) if rate else 0.0, cpu)


def figures(latencies_s: list[float], requests_per_s: float, cpu: float) -> Figures:
    """What every loader reports."""
    latencies, count = sorted(latencies_s), len(latencies_s)
    return {
        "requests_per_s": round(requests_per_s, 1),
        "p50_ms": round(latencies[count // 2] * 1e3, 3),
        "p99_ms": round(latencies[count * 99 // 100] * 1e3, 3),
        "cpu_us": round(cpu / count * 1e6, 1),
    }


def cpu_s(pid: int) -> float:
    """Processor time that a process and its children have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + sum(cpu_s(int(c)) for c in children)


LOADERS: dict[str, Callable[[Running, Case, float], Figures]] = {"rest": h2load}
"""Door to client; a further protocol is one entry here and its cases in ``serve_peers.py``."""
