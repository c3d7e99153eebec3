"""A model is deployed by reference alone: registry, build service and servers as processes; each stage is timed."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from building import a_site
from command import PROGRAM, environment, gatesmith, result
from numpy.typing import NDArray
from registries import real_registry

from gatesmith.tools import cache_path

__all__ = ["a_server", "ask", "deploy_twice", "wait_ready"]

START_S = 60.0
DEPLOY_S = 300.0


@contextlib.contextmanager
def a_server(*arguments: object, home: Path, **variables: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A real ``gatesmith serve`` with a home of its own; its URL, and the process."""
    home.mkdir(parents=True, exist_ok=True)
    command = [*PROGRAM, "serve", *map(str, arguments), "--http-port", "0", "--grpc-port", "-1", "--json"]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment(home, **variables), stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert process.stdout
        assert select.select([process.stdout], [], [], START_S)[0], (home / "log").read_text()
        line = process.stdout.readline()
        assert line, (home / "log").read_text()
        yield json.loads(line)["url"], process
    finally:
        process.terminate()
        process.wait(60)
        assert process.stdout
        process.stdout.close()


def set_up(home: Path) -> None:
    """What ``make setup`` does on a machine, but for the place-and-route tools, which a serving one does not use."""
    (home / "cache").mkdir(parents=True)
    (home / "cache" / "yowasp").symlink_to(cache_path("yowasp").resolve())
    result(gatesmith("doctor", "--json", home=home))


def wait_ready(url: str, name: str, process: subprocess.Popen[str], seen: list[dict[str, Any]] | None = None) -> None:
    """Until the model answers; what its metadata said meanwhile is kept."""
    end = time.monotonic() + DEPLOY_S
    while httpx.get(f"{url}/v2/models/{name}/ready", timeout=30).status_code != 200:
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < end
        if seen is not None:
            seen.append(httpx.get(f"{url}/v2/models/{name}", timeout=30).json()["parameters"])
        time.sleep(0.05)


def ask(url: str, name: str, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """One request over REST; the answer's last output."""
    (spec,) = httpx.get(f"{url}/v2/models/{name}", timeout=30).json()["inputs"]
    tensor = {"name": spec["name"], "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}
    answer = httpx.post(f"{url}/v2/models/{name}/infer", json={"inputs": [tensor]}, timeout=30)
    assert answer.status_code == 200, answer.text
    output = answer.json()["outputs"][-1]
    return np.reshape(output["data"], output["shape"])


def deploy_twice(folder: Path, model: Path, calibration: Path, *, board: str) -> dict[str, Any]:
    """From nothing to the first answer, then once more elsewhere.

    Returns
    -------
    dict
        ``seconds`` of each stage, ``outputs`` of both deployments for the calibration data, ``builds`` that were made,
        ``seen``: what the model's metadata said while it was built.
    """
    x = np.load(calibration).astype(np.float32)
    seconds: dict[str, float] = {}
    began = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal began
        seconds[stage] = round(time.perf_counter() - began, 2)
        began = time.perf_counter()

    with real_registry(folder / "registry") as registry:
        lap("registry starts")
        options = ("--registry", f"{registry.address}/lab", "--plain-http")
        with a_site(folder / "builds", *options, fresh=True) as site:
            lap("build service starts")
            reference = f"{registry.address}/lab/{model.stem}:v1"
            laptop = folder / "laptop"
            pack = ("pack", model, "--calibration", calibration, "--tag", reference, "--json")
            result(gatesmith(*pack, home=laptop))
            result(gatesmith("push", reference, "--plain-http", "--json", home=laptop))
            lap("model is packed and pushed")
            serving = (f"{model.stem}={reference}", "--board", board, "--build-service", site.url)
            seen: list[dict[str, Any]] = []
            outputs = []
            for number, home in enumerate(("here", "elsewhere")):
                set_up(folder / home)
                lap(f"machine {number + 1} is set up")
                with a_server(*serving, home=folder / home, GATESMITH_REGISTRY_PLAIN_HTTP="1") as (url, process):
                    lap(f"server {number + 1} listens")
                    wait_ready(url, model.stem, process, seen if not number else None)
                    lap(f"server {number + 1} is ready")
                    outputs.append(ask(url, model.stem, x))
                    lap(f"server {number + 1} gives its first answer")
            with site.client() as client:
                builds = client.list()
    return {"seconds": seconds, "outputs": outputs, "builds": builds, "seen": seen, "x": x}
