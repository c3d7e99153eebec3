"""Float graphs with everything that the shared trained models lack, and random ones, each with calibration data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.fixed import FixedPoint
from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.frontends.windows import Windows, average_pool, convolve, max_pool
from gatesmith.model.graph import Graph
from gatesmith.model.nodes import Edge

__all__ = ["NETWORKS", "Samples", "mlp", "network", "random_network", "rounded"]

Samples = dict[str, NDArray[np.float64]]
Made = tuple[Graph, Samples]

SAMPLES = 300
SOFTMAX = (HostOperation(kind=HostOperationKind.SOFTMAX),)


def mlp(*sizes: int, seed: int = 0, scale: float = 1.0, name: str = "mlp") -> Graph:
    """A perceptron with these sizes, random weights and ReLU between."""
    generator = np.random.default_rng(seed)
    builder = GraphBuilder(name)
    x = builder.input("x", sizes[:1])
    for i, (rows, columns) in enumerate(pairwise(sizes)):
        weight = generator.normal(size=(rows, columns)) * scale / np.sqrt(rows)
        x = builder.dense(f"dense{i}", x, weight, generator.normal(size=columns) * 0.1 * scale)
        if i < len(sizes) - 2:
            x = builder.relu(f"relu{i}", x)
    builder.output(x, "y")
    return builder.graph()


def _normal(generator: np.random.Generator, **widths: int) -> Samples:
    return {name: generator.normal(size=(SAMPLES, width)) for name, width in widths.items()}


def _two_inputs(generator: np.random.Generator) -> Made:
    builder = GraphBuilder("two-inputs")
    a, b = builder.input("a", (3,)), builder.input("b", (2,))
    left = builder.relu("left", builder.dense("l", a, generator.normal(size=(3, 4)), generator.normal(size=4)))
    right = builder.table("right", builder.dense("r", b, generator.normal(size=(2, 3))), "tanh")
    both = builder.concat("both", [left, right, b])
    builder.output(builder.dense("last", both, generator.normal(size=(9, 3))), "y", host=SOFTMAX)
    return builder.graph(), _normal(generator, a=3, b=2)


def _residual(generator: np.random.Generator) -> Made:
    builder = GraphBuilder("residual")
    x = builder.input("x", (4,))
    h = builder.relu("h", builder.dense("first", x, generator.normal(size=(4, 4)), generator.normal(size=4)))
    inner = builder.relu("inner", builder.dense("second", h, generator.normal(size=(4, 4)) / 2))
    total = builder.add("total", builder.dense("third", inner, generator.normal(size=(4, 4)) / 2), h)
    again = builder.add("again", total, x)
    builder.output(builder.dense("last", again, generator.normal(size=(4, 2))), "y")
    return builder.graph(), _normal(generator, x=4)


def _tables(generator: np.random.Generator) -> Made:
    builder = GraphBuilder("tables")
    x = builder.input("x", (3,))
    parts = []
    for function in ("sigmoid", "tanh", "exp", "square"):
        h = builder.dense(f"{function}-in", x, generator.normal(size=(3, 2)), generator.normal(size=2))
        parts.append(builder.table(function, h, function))
    builder.output(builder.dense("last", builder.concat("all", parts), generator.normal(size=(8, 2))), "y")
    return builder.graph(), _normal(generator, x=3)


def _arg_max(generator: np.random.Generator) -> Made:
    graph = mlp(4, 6, 5, seed=3)
    builder = GraphBuilder("arg-max", inputs=list(graph.inputs), nodes=list(graph.nodes))
    scores = graph.outputs[0].edge
    index = builder.arg_max("index", scores)
    builder.output(scores, "scores")
    builder.output(index, "class")
    return builder.graph(), _normal(generator, x=4)


def _clip(generator: np.random.Generator) -> Made:
    builder = GraphBuilder("clip")
    x = builder.input("x", (4,))
    h = builder.clip("relu6", builder.dense("first", x, generator.normal(size=(4, 6)) * 4), 0.0, 6.0)
    hard = builder.clip("hard", builder.dense("second", h, generator.normal(size=(6, 3))), -1.0, 1.0)
    builder.output(builder.clip("never", hard, -1e30, 1e30), "y")
    return builder.graph(), _normal(generator, x=4)


def _images(generator: np.random.Generator) -> Made:
    builder = GraphBuilder("images")
    x = builder.input("x", (2, 3, 2))
    scaled = builder.scale("scaled", x, np.array(1 / 255), np.array(-0.5))
    h = builder.relu("h", builder.dense("first", scaled, generator.normal(size=(12, 4))))
    builder.output(builder.dense("last", h, generator.normal(size=(4, 3))), "y")
    return builder.graph(), {"x": generator.integers(0, 256, size=(SAMPLES, 2, 3, 2)).astype(np.float64)}


def _bare(generator: np.random.Generator) -> Made:
    builder = GraphBuilder("bare")
    x = builder.input("x", (3,))
    builder.output(x, "x")
    builder.output(x, "copy")
    builder.output(builder.relu("relu", x), "y")
    return builder.graph(), _normal(generator, x=3)


def _wide(generator: np.random.Generator) -> Made:
    return mlp(64, 8, 3, seed=5), _normal(generator, x=64)


def _convolution(generator: np.random.Generator) -> Made:
    builder = GraphBuilder("convolution")
    x = builder.input("x", (1, 5, 5))
    three = Windows(kernel=(3, 3), strides=(1, 1), dilations=(1, 1), before=(1, 1), behind=(1, 1))
    two = Windows(kernel=(2, 2), strides=(2, 2), dilations=(1, 1), before=(0, 0), behind=(0, 0))
    scaled = builder.scale("shift", x, np.array(1.0), np.array(-0.25))  # no padding is zero behind it
    h = convolve(builder, "first", scaled, generator.normal(size=(2, 1, 3, 3)), generator.normal(size=2), three)
    factor = generator.uniform(0.5, 2.0, size=(2, 1, 1))
    h = builder.relu("relu", builder.scale("normal", h, factor, generator.normal(size=(2, 1, 1))))
    h = max_pool(builder, "largest", h, two)
    h = convolve(
        builder, "depthwise", h, generator.normal(size=(4, 1, 1, 2)), None, replace(two, kernel=(1, 2)), groups=2
    )
    h = average_pool(builder, "mean", h, replace(two, kernel=(1, 1)))
    builder.output(builder.dense("last", h, generator.normal(size=(h.elements, 3))), "y")
    return builder.graph(), {"x": generator.normal(size=(SAMPLES, 1, 5, 5))}


def rounded(builder: GraphBuilder, name: str, x: Edge, scale: float, zero: float = 0.0, *, bits: int = 4) -> Edge:
    """To a number of levels of any distance and back, as a model is trained with it."""
    units = builder.scale(f"{name}/units", x, np.array(1 / scale), np.array(zero))
    whole = builder.quantize(name, units, FixedPoint(zero == 0, bits - int(zero == 0), 0))
    return builder.scale(f"{name}/scale", whole, np.array(scale), np.array(-zero * scale))


def _trained(generator: np.random.Generator) -> Made:
    """Whole weights, sums that are scaled to whole numbers again, and a table between rounded numbers."""
    builder = GraphBuilder("trained")
    first, second, last = (
        generator.integers(-7, 8, size=shape).astype(np.float64) for shape in ((6, 5), (5, 4), (4, 3))
    )
    x = rounded(builder, "in", builder.input("x", (6,)), 0.31, bits=5)
    factors = generator.uniform(0.01, 0.2, 5), generator.normal(size=5)
    h = builder.relu("relu", builder.scale("first/scale", builder.dense("first", x, first), *factors))
    h = rounded(builder, "hidden", h, 0.17, 3.0, bits=6)
    h = builder.scale("second/scale", builder.dense("second", h, second), np.array(0.3), generator.normal(size=4))
    h = builder.table("tanh", rounded(builder, "before", h, 0.21), "tanh")
    h = builder.dense("last", rounded(builder, "behind", h, 0.14), last)
    builder.output(builder.scale("last/scale", h, np.array(0.03), np.array([0.7, 0.1, 0.2])), "y")
    return builder.graph(), _normal(generator, x=6)


NETWORKS: dict[str, Callable[[np.random.Generator], Made]] = {
    "two inputs": _two_inputs,
    "residual": _residual,
    "tables": _tables,
    "arg max": _arg_max,
    "clip": _clip,
    "images": _images,
    "bare": _bare,
    "wide": _wide,
    "convolution": _convolution,
    "trained": _trained,
}


def network(name: str) -> Made:
    """A graph of ``NETWORKS`` and its calibration data."""
    return NETWORKS[name](np.random.default_rng(7))


def random_network(seed: int, *, decades: int = 1) -> Made:
    """Two inputs, sums or joins, clips, tables and index; every scale is a power of ten within these decades."""
    generator = np.random.default_rng(seed)

    def scale() -> float:
        return float(10.0 ** generator.integers(-decades, decades + 1))

    builder = GraphBuilder(f"random{seed}")
    x, z = builder.input("x", (4,)), builder.input("z", (3,))
    a = builder.dense("a", x, generator.normal(size=(4, 3)) * scale(), generator.normal(size=3) * scale())
    kind = generator.integers(0, 4)
    a = builder.relu("relu", a) if kind == 0 else builder.clip("clip", a, -scale(), scale()) if kind == 1 else a
    c = builder.add("add", a, z) if generator.integers(2) else builder.concat("join", [a, z])
    c = builder.table("tanh", c, "tanh") if generator.integers(2) else c
    d = builder.dense("d", c, generator.normal(size=(*c.shape, 3)) * scale(), generator.normal(size=3) * scale())
    d = builder.add("residual", d, a) if generator.integers(2) else d
    builder.output(builder.arg_max("index", d) if generator.integers(3) == 0 else d, "y")
    if generator.integers(2):
        builder.output(a, "inner")
    data = {"x": generator.normal(size=(200, 4)) * scale(), "z": generator.normal(size=(200, 3)) * scale()}
    return builder.graph(), data
