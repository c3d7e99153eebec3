"""QONNX's operators, against their definitions in numpy and against onnxruntime."""

# Ref: fastmachinelearning/qonnx docs/qonnx-custom-ops: quant_op.md, bipolar_quant_op.md, trunc_op.md

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_models import model, node, value
from qonnx_oracle import answers

from gatesmith.errors import UnsupportedOperation
from gatesmith.frontends import read_model
from gatesmith.model import reference
from gatesmith.quantize import quantize

DOMAIN = "qonnx.custom_op.general"
X = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32) * 2


def one(kind: str, inputs: str, **rest: Any) -> Any:
    """A model of one operator; arrays are constants, the rest attributes."""
    constants = {key: given for key, given in rest.items() if isinstance(given, np.ndarray)}
    attributes = {key: given for key, given in rest.items() if key not in constants}
    nodes = [node(kind, inputs, domain=DOMAIN, **attributes)]
    return model(nodes, [value("x", None, 4)], [value("y", None, 4)], **constants)


def f(*numbers: float) -> Any:
    return np.array(numbers[0] if len(numbers) == 1 else numbers, np.float32)


QUANTS = {
    "power of two": {"s": f(0.25), "z": f(0), "b": f(4), "signed": 1, "narrow": 0},
    "narrow": {"s": f(0.25), "z": f(0), "b": f(4), "signed": 1, "narrow": 1},
    "unsigned": {"s": f(0.5), "z": f(0), "b": f(3), "signed": 0, "narrow": 0},
    "unsigned and narrow": {"s": f(0.5), "z": f(0), "b": f(3), "signed": 0, "narrow": 1},
    "any scale": {"s": f(0.3), "z": f(0), "b": f(5), "signed": 1, "narrow": 0},
    "a zero": {"s": f(0.3), "z": f(2), "b": f(5), "signed": 1, "narrow": 0},
    "scales of columns": {"s": f(0.3, 0.5, 0.25, 0.1), "z": f(0), "b": f(5), "signed": 1, "narrow": 0},
}


@pytest.mark.parametrize("name", QUANTS)
def test_quant(name: str) -> None:
    made = one("Quant", "x s z b", rounding_mode="ROUND", **QUANTS[name])
    (given,) = reference.infer_real(graph := read_model(made), {"x": X}).values()
    assert np.abs(given - answers(made, {"x": X})["y"]).max() < 1e-6
    (exact,) = reference.infer_real(quantize(graph, X)[0], {"x": X}).values()
    assert np.abs(exact - given).max() < 1e-12


@pytest.mark.parametrize("scale", [0.5, 0.3])
def test_bipolar_quant(scale: float) -> None:
    x = np.concatenate([X, np.zeros((1, 4), np.float32)])  # zero is positive
    made = one("BipolarQuant", "x s", s=f(scale))
    (given,) = reference.infer_real(graph := read_model(made), {"x": x}).values()
    assert np.allclose(given, answers(made, {"x": x})["y"])
    assert np.allclose(given, np.where(x >= 0, scale, -scale))
    (exact,) = reference.infer_real(quantize(graph, x)[0], {"x": x}).values()
    assert np.abs(exact - given).max() < 1e-12


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_trunc(scale: float) -> None:
    """Whole numbers lose their lowest bits, downwards; the scale of what is left stays."""
    whole = np.random.default_rng(1).integers(-128, 128, size=(200, 4))
    made = one("Trunc", "x s z a b", s=f(scale), z=f(0), a=f(8), b=f(5), rounding_mode="FLOOR")
    x = (whole * scale).astype(np.float32)
    (given,) = reference.infer_real(read_model(made), {"x": x}).values()
    assert np.allclose(given, np.floor(whole / 8) * scale)


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ({"s": f(0.5), "z": f(0), "b": f(2.5)}, "has 2.5 bits, a whole number from 1 to 32 is needed"),
        ({"s": f(-0.5), "z": f(0), "b": f(4)}, "positive numbers are needed"),
        ({"s": f(0.5), "z": f(0), "b": f(4), "rounding_mode": "CEIL"}, "rounds in the mode CEIL"),
    ],
)
def test_refused(rest: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedOperation, match=words):
        read_model(one("Quant", "x s z b", **rest))
