"""Small ONNX files, right and wrong, made from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["save_mlp"]


def save_mlp(
    path: Path,
    *,
    inputs: int = 2,
    hidden: int = 2,
    outputs: int = 1,
    activation: str = "Relu",
    not_a_number: bool = False,
) -> Path:
    """A network ``x -> Gemm "first" -> activation "act" -> Gemm "second" -> y`` with random weights."""
    generator = np.random.default_rng(0)
    weights = {
        "W1": generator.normal(size=(inputs, hidden)),
        "b1": generator.normal(size=hidden),
        "W2": generator.normal(size=(hidden, outputs)),
        "b2": generator.normal(size=outputs),
    }
    if not_a_number:
        weights["W1"][1, 0] = np.nan
    nodes = [
        helper.make_node("Gemm", ["x", "W1", "b1"], ["h"], name="first"),
        helper.make_node(activation, ["h"], ["a"], name="act"),
        helper.make_node("Gemm", ["a", "W2", "b2"], ["y"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", outputs])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
