"""From model file to proved firmware, caches of builds cold and tools warm: seconds by stage, size, clock, accuracy.

Iris 4-8-3 for the iCEBreaker, and digits 64-16-10 (8 bits, unrolled) for the ULX3S-85F; then the same iris build once
more, unchanged.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from gatesmith.devices import open_device
from gatesmith.devices.verilated import compile_runtime
from gatesmith.flow import build_firmware
from gatesmith.toolchain import warm_up
from gatesmith.tools import cache_path

CASES: dict[str, dict[str, Any]] = {
    "iris 4-8-3": {
        "data": load_iris,
        "board": "icebreaker",
        "model": lambda: MLPClassifier((8,), solver="lbfgs", alpha=0.1, max_iter=2000, random_state=0),
    },
    "digits 64-16-10": {
        "data": load_digits,
        "board": "ulx3s-85f",
        "model": lambda: MLPClassifier((16,), max_iter=500, random_state=0),
    },
}


def case(name: str, folder: Path) -> dict[str, Any]:
    """Build one, run its test split on the emulated board."""
    facts = CASES[name]
    x, y = facts["data"](return_X_y=True)
    train, test, labels, wanted = train_test_split(x, y, test_size=0.3, stratify=y, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = facts["model"]().fit(train, labels)
    path, calibration = folder / f"{facts['board']}.skops", folder / f"{facts['board']}.npy"
    skops.io.dump(model, path)
    np.save(calibration, train)
    start = time.perf_counter()
    build = build_firmware(path, facts["board"], calibration=calibration)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    again = build_firmware(path, facts["board"], calibration=calibration)
    unchanged = time.perf_counter() - start
    with open_device("emulator:bench") as device:
        device.program(build.firmware)
        contract = build.firmware.contract
        answers = contract.decode(device.infer(contract.encode({"input": test})))["probabilities"]
    return {
        "model": name,
        "seconds_total": round(seconds, 2),
        "seconds_unchanged": round(unchanged, 3),
        "unchanged_is_cached": again.cached,
        "float_accuracy": float(np.mean(model.predict(test) == wanted)),
        "board_accuracy": float(np.mean(answers.argmax(axis=1) == wanted)),
        **build.to_json(),
    }


def main() -> None:
    """All cases, each in a home of its own."""
    compiled = cache_path("yowasp")
    warm_up()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "cache").mkdir()
        (home / "cache" / "yowasp").symlink_to(compiled)
        os.environ["GATESMITH_HOME"] = folder
        compile_runtime()
        chosen = [name for name in CASES if len(sys.argv) < 2 or name.startswith(sys.argv[1])]
        print(json.dumps({"cases": [case(name, home) for name in chosen]}))


if __name__ == "__main__":
    main()
