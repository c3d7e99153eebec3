"""Samples per second of the reference, and seconds to quantise, for a 16-64-32-32-5 perceptron at 8 bits on one core.

Prints one JSON object. The numbers come from a process of its own whose matrix products use one thread.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
SIZES = (16, 64, 32, 32, 5)
SAMPLES, CALIBRATION, ROUNDS = 100_000, 2_000, 5
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def median_s(run: Callable[[], object]) -> float:
    """Median of some rounds, after one that warms up."""
    seconds = []
    for _ in range(ROUNDS + 1):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[1:])


def measure() -> None:
    """The measurement itself."""
    sys.path.insert(0, str(TESTS))
    import numpy as np
    from networks import mlp

    from gatesmith.model import reference
    from gatesmith.model.vectors import random_vectors
    from gatesmith.quantize import quantize

    graph = mlp(*SIZES)
    data = np.random.default_rng(1).normal(size=(CALIBRATION, SIZES[0]))
    integer, report = quantize(graph, data)
    vectors = random_vectors(integer, SAMPLES)
    result = {
        "name": "reference_speed",
        "samples_per_second": round(SAMPLES / median_s(lambda: reference.infer(integer, vectors))),
        "one_sample_us": round(median_s(lambda: [reference.infer(integer, vectors[:1]) for _ in range(100)]) * 1e4, 1),
        "quantize_s": round(median_s(lambda: quantize(graph, data)), 4),
        "calibration_samples": CALIBRATION,
        "precision_bits": report.precision_bits,
        "sizes": SIZES,
        "machine": f"{platform.machine()}, one core, Python {platform.python_version()}, numpy {np.__version__}",
    }
    print(json.dumps(result))


def main() -> None:
    """Start the process that measures."""
    subprocess.run([sys.executable, __file__, "measure"], env=os.environ | ONE_THREAD, check=True)


if __name__ == "__main__":
    measure() if sys.argv[1:] == ["measure"] else main()
