"""gRPC as h2load sends it: the same canned call again and again over HTTP/2, by one client thread of C++.

A client in Python would be slower than the fastest server here, and would measure itself. What h2load cannot see is the
status in the trailers, so the size of what came back is checked: a call that fails has no message.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from gatesmith.oip.schema import message
from peers.environments import Running
from peers.load import Case, Figures, cpu_s, figures

METHOD = "/inference.GRPCInferenceService/ModelInfer"
SMALLEST_ANSWER = 5 + 20  # frame, and 5 floats


def grpc_body(inputs: int) -> bytes:
    """One framed request with so many floats."""
    request = message("ModelInferRequest")(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[1, inputs])
    request.raw_input_contents.append(struct.pack(f"<{inputs}f", *(0.1 * i for i in range(inputs))))
    content: bytes = request.SerializeToString()
    return b"\0" + len(content).to_bytes(4) + content


def grpc_load(server: Running, case: Case, seconds: float) -> Figures:
    """``clients`` connections with one call each at a time; ``case.path`` ``mux``: all on one connection."""
    program = shutil.which("h2load")
    if program is None:
        raise RuntimeError("h2load is not installed; apt-get install nghttp2-client")
    connections, streams = (1, case.clients) if case.path == "mux" else (case.clients, 1)
    with tempfile.TemporaryDirectory() as scratch:
        body, log = Path(scratch) / "body", Path(scratch) / "log"
        body.write_bytes(case.body)
        command = [program, "-t", "1", "-c", str(connections), "-m", str(streams), "-D", f"{seconds * 1000:.0f}ms"]
        command += [
            "--log-file",
            str(log),
            "-d",
            str(body),
            "-H",
            "content-type: application/grpc",
            "-H",
            "te: trailers",
        ]
        before = cpu_s(server.pid)
        command.append(f"http://127.0.0.1:{server.grpc_port}{METHOD}")
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        cpu = cpu_s(server.pid) - before
        lines = [line.split("\t") for line in log.read_text().splitlines()]
    size = re.search(r"\((\d+)\) data$", done.stdout, re.MULTILINE)
    rate = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", done.stdout)
    bad = [line[1] for line in lines if line[1] != "200"]
    if bad or not lines or not size or int(size[1]) < SMALLEST_ANSWER * len(lines):
        raise RuntimeError(f"{server.name} {case.name}: {len(bad)} of {len(lines)} failed\n{done.stdout}")
    return figures([int(line[2]) * 1e-6 for line in lines], float(rate[1]) if rate else 0.0, cpu)
