"""Runs the benchmarks named on the command line, or all, and keeps what each prints under ``results/``.

A benchmark is a script that prints one JSON object; commit and machine are added here. ``--quick`` leaves the long ones
out: ``python bench/run.py [--quick] [NAME ...]``.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LONG = {"build_time", "chaos", "dynamic_batching", "estimate", "exactness", "field_models", "models"}
LONG |= {"models_on_demand", "precision", "serve_peers", "tree_decisions", "trees"}


def names() -> list[str]:
    """Every benchmark there is."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in {"data_sets", "readme", "run"})


def run(name: str) -> dict[str, Any]:
    """Run one benchmark; its own words go to stderr."""
    done = subprocess.run([sys.executable, HERE / f"{name}.py"], stdout=subprocess.PIPE, text=True, check=True)
    return {"benchmark": name, "commit": commit(), "machine": machine(), "result": json.loads(done.stdout)}


def commit() -> str:
    """The commit that is measured, marked when files differ from it."""
    head = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True, cwd=HERE
    )
    dirty = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "src"], check=False, cwd=HERE).returncode
    return head.stdout.strip() + ("-dirty" if dirty else "")


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def main() -> None:
    """Run and keep."""
    chosen = [name for name in sys.argv[1:] if not name.startswith("-")] or names()
    if "--quick" in sys.argv:
        chosen = [name for name in chosen if name not in LONG]
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    for name in chosen:
        print(f"{name} ...", file=sys.stderr, flush=True)
        result = run(name)
        (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(result, indent=1), flush=True)


if __name__ == "__main__":
    main()
