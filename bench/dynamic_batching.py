"""Requests per second of the iris firmware on an emulated board, with as many clients as are named, beside a server
whose device answers at once. One sample a request; what waits while the board is busy becomes its next batch.

Rounds are interleaved, medians are kept; prints one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from built import rtl_firmware
from models import integer_graph, trained
from peers.environments import Running
from peers.load import Case, Figures, h2load

from gatesmith.devices import open_device

KINDS = ("noop", "emulated")
CLIENTS = (1, 8, 32, 64, 128)
CALLS = 300


@contextlib.contextmanager
def served(kind: str) -> Iterator[Running]:
    """One of the servers, ready."""
    command = [sys.executable, str(Path(__file__).parent / "peers" / "iris_server.py"), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout
            url = child.stdout.readline().strip()
            while not is_ready(url):
                time.sleep(0.05)
            yield Running(name=kind, pid=child.pid, http_port=int(url.rpartition(":")[2]), grpc_port=-1)
        finally:
            child.terminate()


def is_ready(url: str) -> bool:
    """Whether it can answer."""
    try:
        with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False


def batches(server: Running) -> tuple[float, float, float]:
    """Samples, device calls and seconds in them so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}/metrics", timeout=30) as answer:
        text = answer.read().decode()

    def value(pattern: str) -> float:
        return sum(map(float, re.findall(rf"^gatesmith_{pattern} (\S+)$", text, re.MULTILINE)))

    return (
        value(r"samples_total{[^}]*}"),
        value(r"batches_total{[^}]*}"),
        value(r'compute_seconds_total{[^}]*stage="device"[^}]*}'),
    )


def one(server: Running, case: Case, seconds: float) -> Figures:
    """One server, one concurrency, once."""
    before = batches(server)
    found = h2load(server, case, seconds)
    samples, calls, device_s = (now - past for now, past in zip(batches(server), before, strict=True))
    return {**found, "samples_per_batch": samples / calls, "device_us_per_sample": device_s / samples * 1e6}


def device_limited() -> float:
    """Calls per second of the emulated board alone, one sample each."""
    firmware = rtl_firmware(integer_graph("iris"), "icebreaker")
    payload = firmware.contract.encode({"input": trained("iris").x[:1]})
    with open_device("emulator:alone") as device:
        device.program(firmware)
        rates = []
        for _ in range(5):
            begin = time.perf_counter()
            for _ in range(CALLS):
                device.infer(np.asarray(payload))
            rates.append(CALLS / (time.perf_counter() - begin))
    return statistics.median(rates)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--clients", type=int, nargs="*", default=CLIENTS)
    options = parser.parse_args()
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}
    body = json.dumps({"inputs": [tensor]}).encode()
    runs: dict[tuple[str, int], list[Figures]] = {}
    alone = device_limited()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(served(kind)) for kind in KINDS]
        for turn in range(-1, options.rounds):  # the first one warms up
            for clients in options.clients:
                case = Case(name=f"{clients}", door="rest", clients=clients, path="/v2/models/iris/infer", body=body,
                            headers=("content-type: application/json",))  # fmt: skip
                for server in servers:
                    found = one(server, case, options.seconds if turn >= 0 else 0.5)
                    if turn >= 0:
                        runs.setdefault((server.name, clients), []).append(found)
                        print(turn, server.name, clients, found, file=sys.stderr, flush=True)
    cases: dict[str, dict[str, Figures]] = {}
    for (name, clients), found_all in runs.items():
        median = {key: round(statistics.median(run[key] for run in found_all), 3) for key in found_all[0]}
        cases.setdefault(str(clients), {})[name] = median
    for figures in cases.values():
        ratio = figures["emulated"]["requests_per_s"] / figures["noop"]["requests_per_s"]
        figures["emulated"]["of_noop"] = round(ratio, 3)
    print(
        json.dumps(
            {
                "rounds": options.rounds,
                "seconds": options.seconds,
                "device_alone_calls_per_s": round(alone),
                "cases": cases,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
