"""The tiny trained models that all tests share, with the data they were trained on; each is trained once."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.fixed import FixedPoint, Overflow, Rounding
from gatesmith.frontends import read_model
from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.model.graph import Graph, Terminal
from gatesmith.model.nodes import (
    Add,
    ArgMax,
    Clip,
    Concat,
    Dense,
    Edge,
    Gather,
    LookupTable,
    Max,
    Node,
    ReLU,
    Requantize,
    Reshape,
    Scale,
)
from gatesmith.quantize import quantize

__all__ = ["NODE_GRAPHS", "TRAINED", "Trained", "float_graph", "integer_graph", "node_graph", "trained"]


@dataclass(frozen=True)
class Trained:
    """A fitted estimator with its inputs and labels or targets."""

    estimator: Any
    x: NDArray[np.float64]
    y: NDArray[Any]


def _iris() -> tuple[Any, Any, Any]:
    x, y = load_iris(return_X_y=True)
    return MLPClassifier((8,), solver="lbfgs", alpha=0.1, max_iter=2000, random_state=0), x, y


def _iris_tanh() -> tuple[Any, Any, Any]:
    x, y = load_iris(return_X_y=True)
    network = MLPClassifier((6,), activation="tanh", solver="lbfgs", alpha=0.1, max_iter=2000, random_state=0)
    return make_pipeline(StandardScaler(), network), x, y


def _cancer() -> tuple[Any, Any, Any]:
    x, y = load_breast_cancer(return_X_y=True)
    return make_pipeline(MinMaxScaler(clip=True), LogisticRegression()), x, y


def _diabetes() -> tuple[Any, Any, Any]:
    x, y = load_diabetes(return_X_y=True)
    return Ridge(alpha=0.1), x, y


def _regressor() -> tuple[Any, Any, Any]:
    x, y = load_diabetes(return_X_y=True)
    network = MLPRegressor(hidden_layer_sizes=(6, 4), solver="lbfgs", alpha=1.0, max_iter=1000, random_state=0)
    return make_pipeline(StandardScaler(), network), x, y / 100


def _digits() -> tuple[Any, Any, Any]:
    x, y = load_digits(return_X_y=True)
    return MLPClassifier((8,), max_iter=300, random_state=0), x, y


TRAINED = {
    "iris": _iris,
    "iris-tanh": _iris_tanh,
    "cancer": _cancer,
    "diabetes": _diabetes,
    "regressor": _regressor,
    "digits": _digits,
}


@cache
def trained(name: str) -> Trained:
    """A model of ``TRAINED``, fitted."""
    estimator, x, y = TRAINED[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return Trained(estimator.fit(x, y), x, y)


@cache
def float_graph(name: str) -> Graph:
    """The float graph of a trained model."""
    return read_model(trained(name).estimator, name=name)


@cache
def integer_graph(name: str, precision: int = 8) -> Graph:
    """The integer graph of a trained model."""
    return quantize(float_graph(name), trained(name).x, precision=precision)[0]


# One small integer graph for each node kind and mode. The edges' formats are written by hand.

INPUT = FixedPoint(True, 3, 4)


def _graph(name: str, nodes: list[Node], inputs: list[Edge], outputs: list[Edge]) -> Graph:
    return Graph(
        name=name,
        inputs=tuple(Terminal(edge=edge) for edge in inputs),
        nodes=tuple(nodes),
        outputs=tuple(Terminal(edge=edge) for edge in outputs),
    )


def _one(node: type[Node], output: FixedPoint, *, width: int = 3, shape: Any = None, **extra: Any) -> Graph:
    x = Edge(name="x", shape=(width,), format=INPUT)
    y = Edge(name="y", shape=(width,) if shape is None else shape, format=output)
    return _graph(node.kind.lower(), [node(name="node", inputs=("x",), output=y, **extra)], [x], [y])


def _dense() -> Graph:
    weight = np.array([[0.5, -1.25], [2.0, 0.0], [-0.125, 0.75]])
    return _one(Dense, FixedPoint(True, 6, 7), shape=(2,), weight=weight, bias=np.array([0.25, -3.0]))


def _in_rows(node: type[Node], shape: tuple[int, ...], output: FixedPoint, out: tuple[int, ...], **extra: Any) -> Graph:
    x, y = Edge(name="x", shape=shape, format=INPUT), Edge(name="y", shape=out, format=output)
    return _graph(node.kind.lower(), [node(name="node", inputs=("x",), output=y, **extra)], [x], [y])


def _rows() -> Graph:
    weight = np.array([[0.5, -1.25, 1.0], [2.0, 0.0, -3.0]])
    bias = np.array([0.25, -3.0, 0.0])
    return _in_rows(Dense, (2, 2, 2), FixedPoint(True, 6, 6), (2, 2, 3), weight=weight, bias=bias)


def _groups() -> Graph:
    weight = np.array([[[0.5, -1.25], [2.0, 0.0]], [[1.0, 0.0], [-0.75, 3.0]]])
    bias = np.array([[0.25, -3.0], [0.0, 1.5]])
    return _in_rows(Dense, (3, 2, 2), FixedPoint(True, 6, 6), (3, 2, 2), weight=weight, bias=bias)


def _gather() -> Graph:
    index = np.array([[3, -1, 0], [3, 2, -1]])
    return _in_rows(Gather, (2, 3), INPUT, (2, 3), index=index, fill=-1.5)


def _scale() -> Graph:
    factors = {"weight": np.array([[0.75, -1.5, 0.0]]), "bias": np.array([[0.25], [-1.0]])}
    return _in_rows(Scale, (2, 3), FixedPoint(True, 5, 6), (2, 3), **factors)


def _two_inputs(node: type[Node], output: FixedPoint, shape: tuple[int, ...], other: FixedPoint) -> Graph:
    a, b = Edge(name="a", shape=(3,), format=INPUT), Edge(name="b", shape=(3,), format=other)
    y = Edge(name="y", shape=shape, format=output)
    return _graph(node.kind.lower(), [node(name="node", inputs=("a", "b"), output=y)], [a, b], [y])


def _table() -> Graph:
    out = FixedPoint(True, 0, 7)
    values = INPUT.dequantize(np.arange(INPUT.min_integer, INPUT.max_integer + 1))
    return _one(LookupTable, out, function="tanh", table=out.dequantize(out.quantize(np.tanh(values))))


def _requantize(rounding: Rounding, overflow: Overflow, *, signed: bool = True, fraction_bits: int = 1) -> Graph:
    output = FixedPoint(signed, 2, fraction_bits)
    return _one(Requantize, output, rounding=rounding, overflow=overflow)


def _after_relu(rounding: Rounding) -> Graph:
    x = Edge(name="x", shape=(3,), format=INPUT)
    middle = Edge(name="m", shape=(3,), format=FixedPoint(False, 3, 4))
    y = Edge(name="y", shape=(3,), format=FixedPoint(False, 2, 1))
    nodes: list[Node] = [
        ReLU(name="relu", inputs=("x",), output=middle),
        Requantize(name="round", inputs=("m",), output=y, rounding=rounding),
    ]
    return _graph("relu-requantize", nodes, [x], [y])


NODE_GRAPHS = {
    "Dense": _dense,
    "Dense-rows": _rows,
    "Dense-groups": _groups,
    "Scale": _scale,
    "Gather": _gather,
    "Max": lambda: _in_rows(Max, (2, 3), INPUT, (2,)),
    "Add": lambda: _two_inputs(Add, FixedPoint(True, 5, 6), (3,), FixedPoint(False, 4, 6)),
    "ReLU": lambda: _one(ReLU, FixedPoint(False, 3, 4)),
    "Clip": lambda: _one(Clip, FixedPoint(True, 2, 4), low=-1.5, high=2.25),
    "LookupTable": _table,
    "Concat": lambda: _two_inputs(Concat, INPUT, (6,), INPUT),
    "Reshape": lambda: _one(Reshape, INPUT, width=4, shape=(2, 2)),
    "ArgMax": lambda: _one(ArgMax, FixedPoint(False, 3, 0), width=5, shape=()),
    **{
        f"Requantize-{rounding}-{overflow}{'' if signed else '-unsigned'}": (
            lambda rounding=rounding, overflow=overflow, signed=signed: _requantize(rounding, overflow, signed=signed)
        )
        for rounding in Rounding
        for overflow in Overflow
        for signed in (True, False)
    },
    "Requantize-one-bit": lambda: _requantize(Rounding.HALF_EVEN, Overflow.SATURATE, fraction_bits=3),
    "Requantize-wider": lambda: _requantize(Rounding.HALF_EVEN, Overflow.SATURATE, fraction_bits=6),
    "Requantize-coarse": lambda: _requantize(Rounding.HALF_EVEN, Overflow.SATURATE, fraction_bits=-1),
    **{f"ReLU-Requantize-{rounding}": (lambda rounding=rounding: _after_relu(rounding)) for rounding in Rounding},
}
"""A graph for each node kind and mode: adding one is a line here."""


def node_graph(name: str) -> Graph:
    """A graph of ``NODE_GRAPHS``."""
    return NODE_GRAPHS[name]()


def softmax() -> HostOperation:
    """The host operation of a classifier's output."""
    return HostOperation(kind=HostOperationKind.SOFTMAX)


def small_mlp(seed: int = 0) -> Graph:
    """A float MLP 3-4-2 with random weights."""
    generator = np.random.default_rng(seed)
    builder = GraphBuilder("mlp")
    x = builder.input("x", (3,))
    x = builder.relu("relu", builder.dense("first", x, generator.normal(size=(3, 4)), generator.normal(size=4)))
    builder.output(builder.dense("second", x, generator.normal(size=(4, 2))), "y")
    return builder.graph()
