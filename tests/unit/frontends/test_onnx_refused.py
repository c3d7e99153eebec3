"""What cannot be translated exactly ends in one line that names the node and the numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx_models import model, node, value

from gatesmith.errors import GatesmithError, ModelError, ModelUnreadable, UnsupportedOperation
from gatesmith.frontends import read_model

X, Y = value("x", None, 4), value("y", None, 4)
IMAGE = value("x", None, 2, 2)
W = np.ones((4, 4), np.float32)
INDEX = value("y", None, 1, dtype=np.int64)
WHOLE = value("x", None, 4, dtype=np.int64)


def of(*sizes: int) -> Any:
    return np.array(sizes, np.int64)


REFUSED: dict[str, tuple[Any, str]] = {
    "unknown operator": (
        model([node("Relu", "x", "h"), helper.make_node("Erf", ["h"], ["y"], name="odd")], [X], [Y]),
        r"node 'odd' \(Erf\) is not supported; supported are Add, ArgMax, .*, Tanh",
    ),
    "unnamed node": (model([node("Erf", "x")], [X], [Y]), r"node 'y' \(Erf\) is not supported"),
    "other domain": (
        model([node("Relu", "x", domain="acme")], [X], [Y]),
        r"node 'y' \(Relu\) is not supported",
    ),
    "softmax inside": (
        model([node("Softmax", "x", "s"), helper.make_node("Relu", ["s"], ["y"], name="after")], [X], [Y]),
        r"node 'after' \(Relu\) reads the softmax 's', which the host computes after the gateware; it must be last",
    ),
    "softmax twice": (model([node("Softmax", "x", "s"), node("Softmax", "s")], [X], [Y]), "reads the softmax 's'"),
    "softmax of images": (
        model([node("Softmax", "x", axis=1)], [IMAGE], [value("y", None, 2, 2)]),
        r"works on axis 1 of \[-1, 2, 2\], the last axis is possible",
    ),
    "softmax over the batch": (model([node("Softmax", "x", axis=0)], [X], [Y]), r"works on axis 0 of \[-1, 4\]"),
    "argmax over the batch": (
        model([node("ArgMax", "x", axis=0)], [X], [value("y", 1, 4, dtype=np.int64)]),
        r"works on axis 0 of \[-1, 4\], the last of two is possible",
    ),
    "last of equals": (model([node("ArgMax", "x", axis=1, select_last_index=1)], [X], [INDEX]), "select_last_index"),
    "int cast": (
        model([node("Cast", "x", to=7)], [X], [value("y", None, 4, dtype=np.int64)]),
        r"node 'y' \(Cast\) casts float32 data to int64, which changes it; a float type is possible",
    ),
    "narrower int cast": (
        model([node("Cast", "x", to=3)], [WHOLE], [value("y", None, 4, dtype=np.int8)]),
        "casts int64 data to int8",
    ),
    "whole numbers": (
        model([node("Add", "x c")], [WHOLE], [value("y", None, 4, dtype=np.int64)], c=of(1)),
        r"node 'y' \(Add\) computes with int64 data; cast it to a float type before",
    ),
    "transposed data": (model([node("Gemm", "x w", transA=1)], [X], [Y], w=W), r"transposes its data \(transA\)"),
    "weight from data": (model([node("Gemm", "x x")], [X], [Y]), "has data for input 1, where a constant is needed"),
    "constant data": (model([node("Gemm", "w w")], [X], [Y], w=W), "has a constant for input 0, where the data is"),
    "vector weight": (
        model([node("MatMul", "x w")], [X], [value("y", None)], w=np.ones(4, np.float32)),
        r"has a weight of shape \[4\], a matrix is needed",
    ),
    "wrong width": (
        model([node("MatMul", "x w")], [X], [Y], w=np.ones((5, 4), np.float32)),
        r"node 'y' \(MatMul\) multiplies data of shape \[-1, 4\] with a matrix of \[5, 4\]",
    ),
    "product of images": (
        model([node("Gemm", "x w")], [IMAGE], [value("y", None, 2, 2)], w=np.ones((2, 2), np.float32)),
        r"has data of shape \[-1, 2, 2\], a flat sample is needed; flatten it before",
    ),
    "product of data": (
        model([node("Relu", "x", "r"), node("Mul", "x r")], [X], [Y]),
        "multiplies two values that both depend on the data",
    ),
    "sum of other shapes": (
        model([node("Gemm", "x w", "h"), node("Add", "x h")], [X], [Y], w=np.ones((4, 3), np.float32)),
        r"has data of shapes \[-1, 4\] and \[-1, 3\], which do not fit",
    ),
    "constant for each sample": (
        model([node("Add", "x c")], [value("x", 3, 4)], [value("y", 3, 4)], c=np.ones((3, 4), np.float32)),
        r"has a constant of shape \[3, 4\] that differs over the batch",
    ),
    "constant with more axes": (
        model([node("Add", "x c")], [X], [value("y", 1, None, 4)], c=np.ones((1, 1, 4), np.float32)),
        r"has a constant of shape \[1, 1, 4\] for data of \[-1, 4\]: more axes",
    ),
    "constant of another size": (
        model([node("Mul", "x c")], [value("x", None, 3)], [Y], c=np.ones(4, np.float32)),
        r"has constants of shape \[4\], \[\] for data of \[-1, 3\]",
    ),
    "constants that do not fit": (
        model([node("Add", "c d", "e"), node("Add", "x e")], [X], [Y], c=np.ones(3), d=np.ones(4)),
        r"node 'e' \(Add\) is not valid: ValueError",
    ),
    "constant bomb": (
        model([node("Add", "c d", "e"), node("Add", "x e")], [X], [Y], c=np.ones((9000, 1)), d=np.ones(9000)),
        "makes a constant of 81000000 numbers, 16777216 are possible",
    ),
    "widened data": (
        model([node("Mul", "x c")], [value("x", None, 1, 4)], [value("y", None, 1 << 23, 4)], c=np.ones((1 << 23, 1))),
        r"widens data of \[-1, 1, 4\] to \[-1, 8388608, 4\], 16777216 numbers are possible",
    ),
    "division by zero": (model([node("Div", "x c")], [X], [Y], c=[1, 0, 1, 1]), "divides by zero"),
    "division by data": (model([node("Div", "c x")], [X], [Y], c=[1]), "has data for input 1"),
    "crossed clip": (model([node("Clip", "x a b")], [X], [Y], a=1.0, b=0.0), r"clips to \[1.0, 0.0\]"),
    "clip by rows": (model([node("Clip", "x a")], [X], [Y], a=[1, 2]), "has 2 numbers for input 1, one is needed"),
    "flattened batch": (model([node("Flatten", "x", axis=0)], [X], [value("y", 1, None)]), "flattens from axis 0"),
    "reshaped batch": (
        model([node("Reshape", "x s")], [X], [value("y", None, 2)], s=of(-1, 2)),
        r"reshapes \[-1, 4\] to \[-1, 2\], which has other sizes",
    ),
    "reshape without a batch": (
        model([node("Reshape", "x s")], [X], [value("y", 4, None)], s=of(4, -1)),
        r"reshapes to \[4, -1\]; the batch has to stay first",
    ),
    "reshape by data": (model([node("Reshape", "x x")], [WHOLE], [Y]), "has data for input 1"),
    "concat of the batch": (model([node("Concat", "x x", axis=0)], [X], [Y]), r"works on axis 0 of \[-1, 4\]; the"),
    "training": (
        model([node("Dropout", "x r t")], [X], [Y], r=np.float32(0.5), t=np.array(True)),
        "is in training mode",
    ),
    "no input": (model([node("Constant", "", value_float=1.0)], [], [value("y")]), "'y' does not depend on the input"),
    "constant output": (
        model([node("Relu", "x", "h"), node("Identity", "c")], [X], [Y], c=np.ones((1, 4))),
        "output 'y' does not depend on the input",
    ),
    "string input": (
        model([node("Identity", "x")], [value("x", None, 4, dtype=object)], [value("y", None, 4, dtype=object)]),
        "tensor 'x' holds object, numbers are needed",
    ),
    "scalar input": (
        model([node("Identity", "x")], [value("x")], [value("y")]),
        r"input 'x' has the shape \[\] \(0 is free\); a batch first, then fixed sizes are needed",
    ),
    "no features": (model([node("Identity", "x")], [value("x", None)], [value("y", None)]), r"has the shape \[0\]"),
    "free features": (
        model([node("Identity", "x")], [value("x", None, None)], [value("y", None, None)]),
        r"has the shape \[0, 0\]",
    ),
    "different batches": (
        model([node("Add", "x z")], [value("x", 1, 4), value("z", 8, 4)], [value("y", 8, 4)]),
        r"inputs have different batches: \{'x': 1, 'z': 8\} \(0 is free\)",
    ),
    "wrong output type": (
        model([node("Relu", "x")], [X], [value("y", None, 4, dtype=np.int64)]),
        "output 'y' is declared as int64 and computed as float32",
    ),
    "old opset": (model([node("Relu", "x")], [X], [Y], opset=7), "model has opset 7, 8 or newer is read; convert it"),
    "feature picking": (
        model([node("ArrayFeatureExtractor", "x i", domain="ai.onnx.ml")], [X], [Y], i=of(4)),
        r"picks the elements \[4\] of 4",
    ),
    "labels": (
        model(
            [node("ArgMax", "x", "a", axis=1), node("ArrayFeatureExtractor", "l a", domain="ai.onnx.ml")],
            [X],
            [INDEX],
            l=of(3, 1, 2, 0),
        ),
        "the only output is the name of a class; give out the scores too",
    ),
    "post transform": (
        model(
            [node("LinearRegressor", "x", domain="ai.onnx.ml", coefficients=[1.0] * 4, post_transform="LOGISTIC")],
            [X],
            [value("y", None, 1)],
        ),
        "has the post_transform LOGISTIC, NONE is possible",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    made, words = REFUSED[name]
    with pytest.raises(GatesmithError, match=words) as caught:
        read_model(made, name="m")
    assert isinstance(caught.value, ModelError)
    assert "\n" not in str(caught.value)


def test_facts_for_programs() -> None:
    with pytest.raises(UnsupportedOperation) as caught:
        read_model(REFUSED["unknown operator"][0])
    assert caught.value.facts == {"node": "odd", "operation": "Erf"}


def test_not_finite_weights_are_named() -> None:
    weight = W.copy()
    weight[2, 1] = np.nan
    with pytest.raises(ModelError, match=r"node 'y' \(Dense\): weight\[2, 1\] is nan; 1 of 16 numbers are not finite"):
        read_model(model([node("MatMul", "x w")], [X], [Y], w=weight))


def test_sparse_weights() -> None:
    made = model([node("MatMul", "x w")], [X], [Y])
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(1, np.float32), "w"), numpy_helper.from_array(of(3)), [4, 4]
    )
    made.graph.sparse_initializer.append(sparse)
    with pytest.raises(UnsupportedOperation, match="reads 'w', which is neither an input, a dense initializer nor"):
        read_model(made)


def test_an_invalid_object_is_described_in_one_line() -> None:
    made = model([node("Relu", "nowhere")], [X], [Y])
    with pytest.raises(ModelUnreadable, match=r"^the ModelProto is not a valid ONNX model: ") as caught:
        read_model(made)
    assert len(str(caught.value)) < 400
