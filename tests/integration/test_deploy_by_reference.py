"""A trained model is all that anybody hands over: it is built once, and served wherever it is asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from deploying import deploy_twice
from onnx_files import save_mlp
from requirements import require_build


@pytest.mark.timeout(900)
def test_from_a_model_in_a_registry_to_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_build("icebreaker")
    model = save_mlp(tmp_path / "small.onnx", hidden=3)
    x = np.random.default_rng(1).normal(size=(50, 2)).astype(np.float32)
    np.save(tmp_path / "cal.npy", x)
    done = deploy_twice(tmp_path, model, tmp_path / "cal.npy", board="icebreaker")
    with capsys.disabled():
        lines = [f"  {seconds:7.2f} s  {stage}" for stage, seconds in done["seconds"].items()]
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
    (wanted,) = onnxruntime.InferenceSession(model).run(None, {"x": x})
    largest = np.abs(wanted).max()
    for outputs in done["outputs"]:
        assert np.abs(outputs - wanted).max() < 0.05 * largest, "8 bits"
    assert np.array_equal(*done["outputs"])
    (build,) = done["builds"]
    assert (build["state"], build["attempts"]) == ("done", 1)
    assert build["result"]["registry"].startswith("127.0.0.1:")
    shares = [parameters["progress"] for parameters in done["seen"] if "progress" in parameters]
    assert shares == sorted(shares)
    assert len(set(shares)) > 3, "the model's metadata told how far the build was"
    first, second = (
        done["seconds"][f"server {number} listens"] + done["seconds"][f"server {number} is ready"] for number in (1, 2)
    )
    assert second < first / 3, (
        "nothing was built for the second one; bench/deploy.py has the seconds of a quiet machine"
    )
