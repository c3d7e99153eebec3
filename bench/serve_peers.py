"""Requests per second, latency and server CPU beside KServe's SDK, MLServer and a bare ASGI echo.

Every server answers the same requests with a model that computes nothing, so what is measured is the server. Peers run
it where the request came, and so do we; ``gatesmith-thread`` runs it in a thread of its own, as it does boards. Rounds
are interleaved over the servers and the median of each case is kept; prints one JSON object. ``--quick`` is for a look:
few short rounds. ``--only TEXT`` keeps the cases and ``--servers a,b`` the servers with these names.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import struct
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from peers.environments import REQUIREMENTS, Running, python_of, running
from peers.load import LOADERS, Case, Figures
from peers.load_grpc import grpc_body, grpc_load

SERVERS = ("gatesmith", "gatesmith-thread", "kserve", "mlserver", "echo")
INPUTS = 16
CLIENTS = (1, 8, 32)


def rest_cases() -> list[Case]:
    """REST with 16 floats: JSON, binary tensors in and out, and KServe's V1."""
    values = [0.1 * i for i in range(INPUTS)]
    tensor: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, INPUTS]}
    plain = json.dumps({"inputs": [{**tensor, "data": values}]}).encode()
    raw = struct.pack(f"<{INPUTS}f", *values)
    announced = {**tensor, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [announced], "parameters": {"binary_data_output": True}}).encode()
    v1 = json.dumps({"instances": [values]}).encode()
    kind = ("content-type: application/json",)
    binary = ("content-type: application/octet-stream", f"inference-header-content-length: {len(head)}")
    infer, predict = "/v2/models/m/infer", "/v1/models/m:predict"
    cases = []
    for n in CLIENTS:
        cases += [
            Case(name=f"json-{n}", door="rest", clients=n, path=infer, body=plain, headers=kind),
            Case(name=f"binary-{n}", door="rest", clients=n, path=infer, body=head + raw, headers=binary,
                 skip=("mlserver",)),
            Case(name=f"v1-{n}", door="rest", clients=n, path=predict, body=v1, headers=kind, skip=("mlserver",)),
        ]  # fmt: skip
    return cases


def grpc_cases() -> list[Case]:
    """gRPC with 16 floats: so many connections, and as many calls on one connection."""
    body, only = grpc_body(INPUTS), ("echo",)
    cases = [Case(name=f"grpc-{n}", door="grpc", clients=n, body=body, skip=only) for n in CLIENTS]
    return [*cases, Case(name="grpc-mux-32", door="grpc", clients=32, path="mux", body=body, skip=only)]


def measured(servers: list[str], cases: list[Case], rounds: int, seconds: float) -> dict[str, dict[str, Figures]]:
    """Case to server to the medians of its rounds."""
    runs: dict[tuple[str, str], list[Figures]] = {}
    with contextlib.ExitStack() as stack:
        live = [stack.enter_context(running(name)) for name in servers]
        for turn in range(-1, rounds):  # the first turn warms up
            for case in cases:
                for server in live:
                    one(server, case, runs, turn, seconds)
    result: dict[str, dict[str, Figures]] = {}
    for (case_name, server_name), figures in runs.items():
        median = {key: statistics.median(run[key] for run in figures) for key in figures[0]}
        result.setdefault(case_name, {})[server_name] = median
    return result


def one(server: Running, case: Case, runs: dict[tuple[str, str], list[Figures]], turn: int, seconds: float) -> None:
    """One server, one case, one turn."""
    if server.name in case.skip:
        return
    got = LOADERS[case.door](server, case, seconds if turn >= 0 else min(seconds, 0.5))
    if turn >= 0:
        runs.setdefault((case.name, server.name), []).append(got)
        print(f"{turn} {case.name} {server.name} {got}", file=sys.stderr, flush=True)


def ratios(cases: dict[str, dict[str, Figures]]) -> dict[str, dict[str, float]]:
    """Our requests per second over each other server's, and our p99 under theirs as a ratio below 1."""
    result = {}
    for name, servers in cases.items():
        ours = servers.get("gatesmith")
        if ours:
            result[name] = {
                f"{key}_vs_{other}": round(ours[key] / theirs[key], 2)
                for other, theirs in servers.items()
                if other != "gatesmith"
                for key in ("requests_per_s", "p99_ms")
            }
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--servers", default=",".join(SERVERS))
    options = parser.parse_args()
    servers = options.servers.split(",")
    for name in servers:
        python_of(name)
    LOADERS["grpc"] = grpc_load
    cases = [case for case in [*rest_cases(), *grpc_cases()] if options.only in case.name]
    rounds, seconds = (1, 1.0) if options.quick else (5, 1.2)
    result = measured(servers, cases, rounds, seconds)
    peers = {"peers": REQUIREMENTS, "rounds": rounds, "seconds": seconds, "elements": INPUTS}
    print(json.dumps({**peers, "cases": result, "ratios": ratios(result)}, indent=1))


if __name__ == "__main__":
    main()
