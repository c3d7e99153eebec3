"""Seconds of ``gatesmith --help`` and of importing the run side, as whole processes; medians of seven."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "help": [sys.executable, "-m", "gatesmith", "--help"],
    "import_server": [
        sys.executable,
        "-c",
        "import gatesmith.serve.server, gatesmith.devices, gatesmith.artifact.store",
    ],
    "python_alone": [sys.executable, "-c", "pass"],
}


def seconds(command: list[str]) -> float:
    """One run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure, interleaved."""
    runs: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(7):
        for name, command in COMMANDS.items():
            runs[name].append(seconds(command))
    print(json.dumps({f"{name}_seconds": round(statistics.median(values), 3) for name, values in runs.items()}))


if __name__ == "__main__":
    main()
