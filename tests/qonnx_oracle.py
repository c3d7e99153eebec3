"""QONNX models for onnxruntime: its operators written out in standard ones, from their definition alone."""

# Ref: fastmachinelearning/qonnx docs/qonnx-custom-ops/quant_op.md: round(x / scale + zero), clamped, and back

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx_models import run

__all__ = ["answers", "lowered"]

DOMAINS = {"qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas"}


def lowered(model: Any) -> Any:
    """The same model without Quant and BipolarQuant."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    nodes: list[Any] = []
    for node in made.graph.node:
        if node.domain in DOMAINS:
            nodes += _quant(node, constants, made.graph) if node.op_type == "Quant" else _bipolar(node, made.graph)
        else:
            nodes.append(node)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    inputs = [value for value in made.graph.input if value.name not in constants]
    del made.graph.input[:]
    made.graph.input.extend(inputs)
    del made.graph.value_info[:]
    made.opset_import[0].version = max(made.opset_import[0].version, 11)  # Round
    made.ir_version = 8
    return made


def _constant(graph: Any, name: str, value: Any) -> str:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    return name


def _quant(node: Any, constants: dict[str, Any], graph: Any) -> list[Any]:
    x, scale, zero, bits = node.input
    told = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    assert told.get("rounding_mode", b"ROUND") == b"ROUND"
    count, narrow = float(constants[bits]), int(told.get("narrow", 0))
    if told.get("signed", 1):
        low, high = -(2 ** (count - 1)) + narrow, 2 ** (count - 1) - 1
    else:
        low, high = 0.0, 2**count - 1 - narrow
    y = node.output[0]
    ends = [_constant(graph, f"{y}.low", low), _constant(graph, f"{y}.high", high)]
    scale, zero = _constant(graph, f"{y}.scale", constants[scale]), _constant(graph, f"{y}.zero", constants[zero])
    return [
        helper.make_node("Div", [x, scale], [f"{y}.div"]),
        helper.make_node("Add", [f"{y}.div", zero], [f"{y}.add"]),
        helper.make_node("Round", [f"{y}.add"], [f"{y}.round"]),
        helper.make_node("Clip", [f"{y}.round", *ends], [f"{y}.clip"]),
        helper.make_node("Sub", [f"{y}.clip", zero], [f"{y}.sub"]),
        helper.make_node("Mul", [f"{y}.sub", scale], [y]),
    ]


def _bipolar(node: Any, graph: Any) -> list[Any]:
    x, scale = node.input
    y = node.output[0]
    zero, one, less = (_constant(graph, f"{y}.{n}", v) for n, v in (("zero", 0.0), ("one", 1.0), ("less", -1.0)))
    return [
        helper.make_node("Less", [x, zero], [f"{y}.below"]),
        helper.make_node("Where", [f"{y}.below", less, one], [f"{y}.sign"]),
        helper.make_node("Mul", [f"{y}.sign", scale], [y]),
    ]


def answers(model: Any, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """What onnxruntime makes of the model; a fixed batch of one is run sample by sample."""
    made = lowered(model)
    fixed = made.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    if fixed != 1:
        return run(made, arrays)
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return run(made, arrays)
