"""Seconds of each stage from a trained model to answers, and of a second deployment elsewhere, which builds nothing.

Registry, build service and servers are processes on this machine, the board is an emulated iCEBreaker, the model is
scikit-learn's iris as an ONNX file. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from deploying import deploy_twice
from models import trained
from skl2onnx import to_onnx


def main() -> None:
    """Deploy twice."""
    iris = trained("iris")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        x = np.asarray(iris.x, np.float32)
        np.save(folder / "cal.npy", x)
        content = to_onnx(iris.estimator, x[:1], options={"zipmap": False}, final_types=None).SerializeToString()
        (folder / "iris.onnx").write_bytes(content)
        done = deploy_twice(folder, folder / "iris.onnx", folder / "cal.npy", board="icebreaker")
    (build,) = done["builds"]
    result = {"seconds": done["seconds"], "builds": 1, "build_seconds": build["result"]["seconds"]}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
