"""Every operator, at every opset, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx_models import OPSETS, compare, model, node, run, value

from gatesmith.frontends import read_model
from gatesmith.model import reference

W = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
X, FREE = value("x", "batch", 4), value("y", None, 4)
Y3 = value("y", None, 3)
IMAGE = value("x", None, 2, 3)
ROW, SCALAR = np.array([1.5, -2.0, 0.25, 3.0], np.float32), np.array(1.5, np.float32)
ML = "ai.onnx.ml"


def of(*sizes: int) -> Any:
    """An int64 constant."""
    return np.array(sizes, np.int64)


def attribute_constant(name: str, values: Any) -> Any:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(values, np.float32)))


CASES: dict[str, tuple[list[Any], list[Any], list[Any], dict[str, Any]]] = {
    "Gemm": ([node("Gemm", "x w c")], [X], [Y3], {"w": W, "c": [1, -2, 3]}),
    "Gemm-transB": ([node("Gemm", "x w c", transB=1)], [X], [Y3], {"w": W.T, "c": [1, -2, 3]}),
    "Gemm-alpha-beta": ([node("Gemm", "x w c", alpha=0.5, beta=-2.0)], [X], [Y3], {"w": W, "c": [1, -2, 3]}),
    "Gemm-C-row": ([node("Gemm", "x w c")], [X], [Y3], {"w": W, "c": [[1, -2, 3]]}),
    "Gemm-C-one": ([node("Gemm", "x w c")], [X], [Y3], {"w": W, "c": [2]}),
    "Gemm-C-scalar": ([node("Gemm", "x w c")], [X], [Y3], {"w": W, "c": SCALAR}),
    "MatMul": ([node("MatMul", "x w")], [X], [Y3], {"w": W}),
    "Add": ([node("Add", "x c")], [X], [FREE], {"c": ROW}),
    "Add-left": ([node("Add", "c x")], [X], [FREE], {"c": ROW}),
    "Add-scalar": ([node("Add", "x c")], [X], [FREE], {"c": SCALAR}),
    "Add-row": ([node("Add", "x c")], [X], [FREE], {"c": ROW[None]}),
    "Add-image-column": ([node("Add", "x c")], [IMAGE], [value("y", None, 2, 3)], {"c": [[1.0], [2.0]]}),
    "Add-edges": ([node("Relu", "x", "r"), node("Add", "x r")], [X], [FREE], {}),
    "Add-itself": ([node("Add", "x x")], [X], [FREE], {}),
    "Add-constants": ([node("Add", "c c", "d"), node("Add", "x d")], [X], [FREE], {"c": ROW}),
    "Sub": ([node("Sub", "x c")], [X], [FREE], {"c": ROW}),
    "Sub-left": ([node("Sub", "c x")], [X], [FREE], {"c": ROW}),
    "Sub-edges": ([node("Relu", "x", "r"), node("Sub", "r x")], [X], [FREE], {}),
    "Sub-constants": ([node("Sub", "c d", "e"), node("Sub", "x e")], [X], [FREE], {"c": ROW, "d": SCALAR}),
    "Mul": ([node("Mul", "x c")], [X], [FREE], {"c": ROW}),
    "Mul-left": ([node("Mul", "c x")], [X], [FREE], {"c": ROW}),
    "Mul-constants": ([node("Mul", "c d", "e"), node("Mul", "x e")], [X], [FREE], {"c": ROW, "d": SCALAR}),
    "Div": ([node("Div", "x c")], [X], [FREE], {"c": ROW}),
    "Div-constants": ([node("Div", "c d", "e"), node("Add", "x e")], [X], [FREE], {"c": ROW, "d": SCALAR}),
    "Div-whole-constants": (
        [node("Div", "c d", "e"), node("Cast", "e", "f", to=1), node("Add", "x f")],
        [X],
        [FREE],
        {"c": of(-7, 7, -8, 9), "d": of(2, -2, 3, 4)},
    ),
    "Neg": ([node("Neg", "x")], [X], [FREE], {}),
    "Relu": ([node("Relu", "x")], [X], [FREE], {}),
    "Sigmoid": ([node("Sigmoid", "x")], [X], [FREE], {}),
    "Tanh": ([node("Tanh", "x")], [X], [FREE], {}),
    "Softmax": ([node("Softmax", "x", axis=-1)], [X], [FREE], {}),
    "Softmax-1": ([node("Softmax", "x", axis=1)], [X], [FREE], {}),
    "Softmax-default": ([node("Softmax", "x")], [X], [FREE], {}),
    "Softmax-Identity": ([node("Softmax", "x", "s"), node("Identity", "s")], [X], [FREE], {}),
    "Softmax-Flatten": ([node("Softmax", "x", "s"), node("Flatten", "s")], [X], [FREE], {}),
    "Softmax-ArgMax": (
        [node("Softmax", "x", "s"), node("ArgMax", "s", axis=1)],
        [X],
        [value("y", None, 1, dtype=np.int64)],
        {},
    ),
    "ArgMax": ([node("ArgMax", "x", axis=1)], [X], [value("y", None, 1, dtype=np.int64)], {}),
    "ArgMax-flat": ([node("ArgMax", "x", axis=-1, keepdims=0)], [X], [value("y", None, dtype=np.int64)], {}),
    "ArgMax-Cast": (
        [node("ArgMax", "x", "a", axis=1), node("Cast", "a", to=6)],
        [X],
        [value("y", None, 1, dtype=np.int32)],
        {},
    ),
    "Concat": ([node("Relu", "x", "r"), node("Concat", "x r x", axis=1)], [X], [value("y", None, 12)], {}),
    "Concat-one": ([node("Concat", "x", axis=-1)], [X], [FREE], {}),
    "Flatten": ([node("Flatten", "x")], [IMAGE], [value("y", None, 6)], {}),
    "Flatten-flat": ([node("Flatten", "x", axis=1)], [X], [FREE], {}),
    "Flatten-negative": ([node("Flatten", "x", axis=-2)], [IMAGE], [value("y", None, 6)], {}),
    "Reshape": ([node("Reshape", "x s")], [IMAGE], [value("y", None, 6)], {"s": of(-1, 6)}),
    "Reshape-zero": ([node("Reshape", "x s")], [IMAGE], [value("y", None, 6)], {"s": of(0, -1)}),
    "Reshape-zeros": ([node("Reshape", "x s")], [IMAGE], [value("y", None, 2, 3, 1)], {"s": of(0, 0, 3, 1)}),
    "Reshape-to-image": ([node("Reshape", "x s")], [X], [value("y", None, 2, 2)], {"s": of(-1, 2, 2)}),
    "Reshape-label": (
        [node("ArgMax", "x", "a", axis=1), node("Reshape", "a s")],
        [X],
        [value("y", None, dtype=np.int64)],
        {"s": of(-1)},
    ),
    "Reshape-fixed-batch": ([node("Reshape", "x s")], [value("x", 3, 2, 2)], [value("y", 3, 4)], {"s": of(3, 4)}),
    "Reshape-constant": (
        [node("Reshape", "c s", "d"), node("Add", "x d")],
        [X],
        [FREE],
        {"c": ROW.reshape(2, 2), "s": of(4)},
    ),
    "Identity": ([node("Identity", "x")], [X], [FREE], {}),
    "Identity-constant": ([node("Identity", "c", "d"), node("Add", "x d")], [X], [FREE], {"c": ROW}),
    "Cast": ([node("Cast", "x", to=11)], [X], [value("y", None, 4, dtype=np.float64)], {}),
    "Cast-whole-input": (
        [node("Cast", "x", "f", to=1), node("Relu", "f")],
        [value("x", None, 4, dtype=np.int8)],
        [FREE],
        {},
    ),
    "Cast-constant": ([node("Cast", "c", "d", to=1), node("Add", "x d")], [X], [FREE], {"c": of(1, 2, 3, 4)}),
    "Constant": ([attribute_constant("c", ROW), node("Add", "x c")], [X], [FREE], {}),
}  # fmt: skip

SINCE = {
    "Clip-inputs": (11, [node("Clip", "x a b")], {"a": np.float32(-0.5), "b": np.float32(1.25)}),
    "Clip-low-input": (11, [node("Clip", "x a")], {"a": np.float32(-0.5)}),
    "Clip-high-input": (11, [node("Clip", "x _ b")], {"b": np.float32(0.5)}),
    "Clip-infinite": (11, [node("Clip", "x a b")], {"a": np.float32(-np.inf), "b": np.float32(0.5)}),
    "Clip-no-ends": (11, [node("Clip", "x")], {}),
    "Constant-float": (13, [helper.make_node("Constant", [], ["c"], value_float=0.5), node("Add", "x c")], {}),
    "Constant-floats": (
        13,
        [helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2.0, 3.0, 4.0]), node("Add", "x c")],
        {},
    ),
    "Constant-ints": (
        13,
        [helper.make_node("Constant", [], ["s"], value_ints=[-1, 4]), node("Reshape", "x s")],
        {},
    ),
    "Gemm-no-C": (11, [node("Gemm", "x w")], {"w": np.eye(4, dtype=np.float32) * 3}),
    "Dropout": (13, [node("Dropout", "x")], {}),
    "BatchNormalization": (
        9,
        [node("BatchNormalization", "x s b m v", epsilon=1e-3)],
        {"s": ROW, "b": ROW + 1, "m": ROW * 2, "v": ROW**2},
    ),
}


NEGATIVE_AXES = {"ArgMax-flat", "Flatten-negative"}  # came with opset 11


@pytest.mark.parametrize(
    ("name", "opset"), [(n, opset) for n in CASES for opset in OPSETS if opset >= 11 or n not in NEGATIVE_AXES]
)
def test_operator(name: str, opset: int) -> None:
    nodes, inputs, outputs, constants = CASES[name]
    compare(model(nodes, inputs, outputs, opset=opset, **constants))


@pytest.mark.parametrize(("name", "opset"), [(n, opset) for n in SINCE for opset in OPSETS if opset >= SINCE[n][0]])
def test_operator_since(name: str, opset: int) -> None:
    _, nodes, constants = SINCE[name]
    compare(model(nodes, [X], [FREE], opset=opset, **constants))


@pytest.mark.parametrize("ends", [{"min": -0.5, "max": 1.25}, {"min": -0.5}, {"max": 0.5}, {}])
def test_clip_had_attributes(ends: dict[str, float]) -> None:
    compare(model([node("Clip", "x", **ends)], [X], [FREE], opset=9))


ML_CASES: dict[str, tuple[list[Any], Any, dict[str, Any]]] = {
    "Scaler": ([node("Scaler", "x", domain=ML, scale=ROW.tolist(), offset=[1.0, 2.0, 3.0, 4.0])], FREE, {}),
    "Scaler-one": ([node("Scaler", "x", domain=ML, scale=[2.0], offset=[1.0])], FREE, {}),
    "LinearRegressor": (
        [node("LinearRegressor", "x", domain=ML, coefficients=W.T.ravel(), intercepts=[1.0, 2.0, 3.0], targets=3)],
        Y3,
        {},
    ),
    "LinearRegressor-bare": (
        [node("LinearRegressor", "x", domain=ML, coefficients=ROW.tolist())],
        value("y", None, 1),
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ML_CASES)
def test_classical_operator(name: str) -> None:
    nodes, output, constants = ML_CASES[name]
    compare(model(nodes, [X], [output], **constants))


def test_of_equal_elements_the_first_wins() -> None:
    made = model([node("ArgMax", "x", axis=1)], [X], [value("y", None, 1, dtype=np.int64)])
    x = np.array([[1, 2, 2, 0], [3, 3, 3, 3], [0, 0, 1, 1]], np.float32)
    given = reference.infer_real(read_model(made, name="m"), {"x": x})
    assert (given["y"] == run(made, {"x": x})["y"]).all()


def test_a_changed_constant_is_seen() -> None:
    made = model([node("Gemm", "x w")], [X], [Y3], w=W)
    other = model([node("Gemm", "x w")], [X], [Y3], w=W * 1.001)
    x = np.ones((1, 4), np.float32)
    given = reference.infer_real(read_model(other, name="m"), {"x": x})["y"]
    assert not np.allclose(given, run(made, {"x": x})["y"], rtol=1e-4, atol=1e-5)
