"""``gatesmith demo``: the main job on real data, from a trained model to answers over the protocol."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatesmith.cli.build import cycles, stage_seconds
from gatesmith.cli.output import JsonFlag, emit, table, verb
from gatesmith.cli.progress import progress_bar
from gatesmith.cli.targets import check_writable

if TYPE_CHECKING:
    from gatesmith.flow import Build

__all__ = ["demo"]

BOARDS = ("icebreaker", "ulx3s-85f")
REFERENCE = "iris:demo"
START_TIMEOUT_S = 120.0


@verb
def demo(as_json: JsonFlag = False) -> None:
    """Train a small network, build it for two boards, serve it from an emulated one and check the answers."""
    import numpy as np

    from gatesmith.artifact.store import Store
    from gatesmith.flow import build_firmware
    from gatesmith.tools import home_path

    check_writable(home_path())
    start = time.perf_counter()
    model, train, test, labels = _trained()
    seconds = {"train": time.perf_counter() - start}
    with tempfile.TemporaryDirectory(prefix="gatesmith-demo-") as folder:
        path, calibration = _saved(model, train, Path(folder))
        builds = []
        for board in BOARDS:
            with progress_bar(as_json=as_json) as progress:
                builds.append(build_firmware(path, board, calibration=calibration, name="iris", progress=progress))
    digest = Store().save(REFERENCE, [build.firmware for build in builds])
    start = time.perf_counter()
    with _server(BOARDS[0]) as url:
        seconds["start server"] = time.perf_counter() - start
        start = time.perf_counter()
        answers = _ask(url, test)
        seconds["infer"] = time.perf_counter() - start
    wanted = model.predict_proba(test)
    given = np.argmax(answers, axis=1)
    data = {
        "reference": REFERENCE,
        "digest": digest,
        "samples": len(test),
        "float_accuracy": float(np.mean(np.argmax(wanted, axis=1) == labels)),
        "board_accuracy": float(np.mean(given == labels)),
        "agreement": float(np.mean(given == np.argmax(wanted, axis=1))),
        "builds": [build.to_json() for build in builds],
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
    }
    emit(data, lambda: _show(data, builds), as_json=as_json)


def _trained() -> tuple[Any, Any, Any, Any]:
    from sklearn.datasets import load_iris
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    samples, labels = load_iris(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        samples, labels, test_size=0.3, stratify=labels, random_state=0
    )
    model = MLPClassifier((8,), solver="lbfgs", alpha=0.1, max_iter=2000, random_state=0)
    return model.fit(train, train_labels), train, test, test_labels


def _saved(model: Any, train: Any, folder: Path) -> tuple[Path, Path]:
    import numpy as np
    import skops.io

    path, calibration = folder / "iris.skops", folder / "iris.npy"
    skops.io.dump(model, path)
    np.save(calibration, train)
    return path, calibration


@contextmanager
def _server(board: str) -> Iterator[str]:
    """A server in a process of its own, on a free port; yields the URL of the model once it is ready."""
    from gatesmith.errors import ServerNotStarted

    command = [sys.executable, "-m", "gatesmith", "serve", REFERENCE, "--board", board, "--http-port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        told = json.loads(line) if line else {}
        if "url" not in told:
            why = told.get("error", {}).get("message", f"it ended with exit status {process.wait()}")
            raise ServerNotStarted(f"the demo's server did not start: {why}")
        url = f"{told['url']}/v2/models/iris"
        _wait_until_ready(f"{url}/ready", process)
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(url: str, server: subprocess.Popen[str]) -> None:
    from gatesmith.errors import ModelNotReady, ServerNotStarted

    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=START_TIMEOUT_S) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
        if server.poll() is not None:
            raise ServerNotStarted(f"the demo's server ended with exit status {server.returncode}; see what it printed")
    raise ModelNotReady(f"{url} was not ready within {START_TIMEOUT_S:g} s")


def _ask(url: str, samples: Any) -> Any:
    import numpy as np

    tensor = {"name": "input", "datatype": "FP32", "shape": list(samples.shape), "data": samples.tolist()}
    request = urllib.request.Request(f"{url}/infer", data=json.dumps({"inputs": [tensor]}).encode())
    with urllib.request.urlopen(request, timeout=START_TIMEOUT_S) as answer:
        output = json.load(answer)["outputs"][0]
    return np.array(output["data"]).reshape(output["shape"])


def _show(data: dict[str, Any], builds: list[Build]) -> None:
    rows = [
        ["float accuracy", f"{100 * data['float_accuracy']:.1f} %"],
        ["accuracy from the board", f"{100 * data['board_accuracy']:.1f} %"],
        ["agreement", f"{100 * data['agreement']:.1f} % of {data['samples']} test samples"],
    ]
    table(f"{data['reference']}, served from an emulated {BOARDS[0]}", ["", ""], rows)
    columns = [_column(build) for build in builds]
    names = list(columns[0])
    table("firmware", ["", *BOARDS], [[name, *(column[name] for column in columns)] for name in names])
    print(f"other seconds: {stage_seconds(data['seconds'])}")


def _column(build: Build) -> dict[str, str]:
    firmware = build.firmware
    used = [f"{k} {u.used}/{u.available}" for k, u in firmware.report.utilization.items() if u.used]
    stages = "cached" if build.cached else stage_seconds(build.seconds).replace(", ", "\n")
    return {
        "part": firmware.part,
        "utilization": "\n".join(used),
        "clock": f"{firmware.clock_hz / 1e6:g} MHz",
        "fmax": f"{firmware.report.fmax_hz / 1e6:.1f} MHz",
        "latency": f"{cycles(firmware.latency_cycles)}, {1e9 * firmware.latency_cycles / firmware.clock_hz:.0f} ns",
        "initiation interval": cycles(firmware.initiation_interval_cycles),
        "bitstream": f"{len(firmware.bitstream):,} bytes",
        "proved exact": ", ".join(firmware.verified),
        "seconds": stages,
    }
