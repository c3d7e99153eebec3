"""Ten models on two emulated boards, loaded on demand, asked for as Zipf's law says (s = 1.1).

Clients ask in closed loops over REST and come again when a refusal tells them to. Every answer is compared with the
reference's. Prints one JSON object: how often a request found its model loaded, what a swap takes, how long anybody
waited, and the longest wait for each model: none may starve.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from peers.questions import Asker, Questions, Version, make_store, percentiles

from gatesmith.devices.verilated import compile_board

MODELS, BOARDS, CLIENTS, EXPONENT = 10, 2, 16, 1.1
RESIDENCY_S = 0.25
KINDS = [("iris", 8), ("iris", 7), ("iris-tanh", 8), ("iris", 6), ("iris-tanh", 7)]


def versions() -> list[Version]:
    """Ten models of five kinds."""
    return [
        Version(name=f"m{place}", tag="v1", trained=kind, precision=bits)
        for place, (kind, bits) in zip(range(MODELS), itertools.cycle(KINDS), strict=False)
    ]


def zipf(chances: random.Random) -> tuple[str, int]:
    """The first model is asked for most."""
    place = chances.choices(range(MODELS), [1 / (rank + 1) ** EXPONENT for rank in range(MODELS)])[0]
    return f"m{place}", chances.randint(1, 8)


class Served:
    """What the server tells of itself."""

    def __init__(self, url: str) -> None:
        self._url = url

    def total(self, name: str, **labels: str) -> float:
        """A counter over all its labels, or those with these ones."""
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        lines = [line for line in lines if re.match(rf"gatesmith_{name}(_total)?[{{ ]", line)]
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(text in line for text in wanted))


def measure(url: str, made: list[Version], seconds: float) -> dict[str, Any]:
    """All clients for some seconds, and what became of them."""
    questions, served = Questions(made), Served(url)
    askers = [
        Asker(questions, door, url=url, grpc_port=0, choose=zipf, seed=number, again=True)
        for number, door in zip(range(CLIENTS), itertools.cycle(("json", "binary")), strict=False)
    ]
    for asker in askers:
        asker.start()
    time.sleep(seconds)
    for asker in askers:
        asker.stopping.set()
    for asker in askers:
        asker.join(120)
    outcomes = [asker.outcome for asker in askers]
    answered = [latency for outcome in outcomes for latency in outcome.latencies_s]
    refused = sum(len(outcome.refused_s) for outcome in outcomes)
    lost = [text for outcome in outcomes for text in outcome.lost]
    lost += [f"{asker.name} never came back" for asker in askers if asker.is_alive()]
    asked: Counter[str] = sum((outcome.versions for outcome in outcomes), Counter())
    waits = {version.name: max(o.waits_s.get(version.name, 0.0) for o in outcomes) for version in made}
    return {
        "seconds": seconds,
        "requests": len(answered) + refused + len(lost),
        "requests_per_s": round(len(answered) / seconds, 1),
        "wrong": sum(len(outcome.wrong) for outcome in outcomes),
        "lost": len(lost),
        "refused_share": round(refused / max(1, len(answered) + refused), 5),
        "hit_rate": round(1 - served.total("model_misses") / max(1, len(answered)), 4),
        **percentiles(answered),
        "loads": served.total("model_loads"),
        "evictions": served.total("model_evictions"),
        "asked": {name.partition(" ")[0]: count for name, count in sorted(asked.items())},
        "longest_wait_s": {name: round(wait, 2) for name, wait in waits.items()},
        "longest_wait_of_all_s": round(max(waits.values()), 2),
        "models_served": len({name.partition(" ")[0] for name in asked}),
        "examples": lost[:5],
    }


def swaps(log: Path) -> dict[str, float]:
    """How long devices took to be programmed and checked, from the server's log."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    seconds = [line["seconds"] for line in lines if "runs model" in line["message"]]
    return {f"swap_{name}": value for name, value in percentiles(seconds).items()}


def main() -> None:
    """Serve, ask and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    made = versions()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = make_store(folder / "store", made)
        for version in made:
            compile_board(version.firmware.hdl["top.v"])  # the first time is the compiler's and not the server's
        command = [sys.executable, "-m", "gatesmith", "serve", "--repository", str(store.layout.path), "--json"]
        command += ["--load-on-demand", "--http-port", "0"]
        for number in range(BOARDS):
            command += ["--device", f"emulator:{number}"]
        env = {**os.environ, "GATESMITH_LOG_FORMAT": "json", "GATESMITH_MINIMUM_RESIDENCY_S": str(RESIDENCY_S)}
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
            try:
                assert server.stdout
                url = json.loads(server.stdout.readline())["url"]
                result = measure(url, made, options.seconds)
            finally:
                server.terminate()
                server.wait(60)
        boards = {"models": MODELS, "boards": BOARDS, "clients": CLIENTS, "minimum_residency_s": RESIDENCY_S}
        print(json.dumps({**boards, **result, **swaps(folder / "log")}, indent=1))


if __name__ == "__main__":
    main()
