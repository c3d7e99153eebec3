"""Schemathesis on both OpenAPI documents against a running server, with invented and with real model names.

Prints one JSON object: cases and failures of each run. ``--examples N`` sets how many cases an operation gets at most.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from conformance import check_document
from firmwares import ArithmeticDevice, tiny_firmware, two_port_firmware
from serving import served

DOCUMENTS = ("/openapi.json", "/openapi-oip.json")


def main() -> None:
    """Four runs, each against a server of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=60)
    examples = parser.parse_args().examples
    runs = []
    for document in DOCUMENTS:
        for model in ("", "iris"):
            models = {
                "iris:v1": (tiny_firmware(), ArithmeticDevice()),
                "two": (two_port_firmware(), ArithmeticDevice("a:1")),
            }
            with served(models) as server:
                outcome = check_document(server.url, document, examples=examples, model=model, version="v1")
            if outcome.failures:
                print(outcome.text, file=sys.stderr)
            run = {"document": document, "names": model or "invented"}
            runs.append({**run, "cases": outcome.cases, "failures": outcome.failures})
    totals = {key: sum(int(run[key]) for run in runs) for key in ("cases", "failures")}
    print(json.dumps({**totals, "runs": runs}, indent=1))


if __name__ == "__main__":
    main()
