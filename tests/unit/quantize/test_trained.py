"""Models that were trained with rounding keep it: the integer graph's answers are the float graph's, all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from networks import network, rounded

from gatesmith.fixed import FixedPoint, Rounding
from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.model.nodes import Quantize, Requantize, Scale
from gatesmith.quantize import fold, quantize

GENERATOR = np.random.default_rng(5)
BEGINNING = GENERATOR.bit_generator.state


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """Whatever ran before."""
    GENERATOR.bit_generator.state = BEGINNING


def difference(graph: Graph, integer: Graph, samples: int = 5000) -> float:
    """The largest one on inputs that were not seen before, many of them beyond the formats."""
    (terminal,) = graph.inputs
    x = {terminal.edge.name: GENERATOR.normal(size=(samples, *terminal.edge.shape)) * 3}
    wanted, given = reference.infer_real(graph, x), reference.infer_real(integer, x)
    return max(float(np.abs(wanted[name] - given[name]).max()) for name in wanted)


def test_nothing_is_lost() -> None:
    graph, data = network("trained")
    for precision in (2, 8):
        assert difference(graph, quantize(graph, data, precision=precision)[0]) < 1e-12


def test_a_model_without_rounding_loses_something() -> None:
    graph, data = network("trained")
    nodes = [
        Scale(name=n.name, inputs=n.inputs, output=n.output, weight=np.ones(()), bias=np.zeros(()))
        if isinstance(n, Quantize)
        else n
        for n in graph.nodes
    ]
    bare = replace(graph, nodes=tuple(nodes))
    assert difference(bare, quantize(bare, data)[0]) > 1e-3


def test_the_host_does_the_first_rounding() -> None:
    graph, data = network("trained")
    integer, _ = quantize(graph, data)
    assert integer.inputs[0].edge.format == FixedPoint(True, 4, 0)
    assert [operation.kind for operation in integer.inputs[0].host] == ["scale"]


def test_factors_have_no_more_bits_than_they_need() -> None:
    graph, data = network("trained")
    integer, _ = quantize(graph, data)
    factors = [node for node in integer.nodes if isinstance(node, Scale)]
    assert factors
    coarser = [replace(node, weight=np.ldexp(np.rint(np.ldexp(node.weight, 2)), -2)) for node in factors]
    changed = {node.name: node for node in coarser}
    other = replace(integer, nodes=tuple(changed.get(node.name, node) for node in integer.nodes))
    assert difference(graph, other) > 1e-3


@pytest.mark.parametrize("rounding", list(Rounding))
def test_every_rounding(rounding: Rounding) -> None:
    builder = GraphBuilder("one")
    x = rounded(builder, "in", builder.input("x", (4,)), 0.25)
    weight = GENERATOR.integers(-3, 4, size=(4, 3)) / 4.0
    h = builder.dense("first", x, weight, GENERATOR.integers(-9, 9, size=3) / 16.0)
    builder.output(builder.quantize("out", h, FixedPoint(True, 2, 1), rounding=rounding), "y")
    graph = builder.graph()
    integer, _ = quantize(graph, GENERATOR.normal(size=(100, 4)))
    assert difference(graph, integer) == 0
    assert [n.rounding for n in integer.nodes if isinstance(n, Requantize)][-1] is rounding


def test_a_bias_off_every_grid_is_fine_enough() -> None:
    builder = GraphBuilder("bias")
    x = rounded(builder, "in", builder.input("x", (4,)), 0.25)
    weight = GENERATOR.integers(-3, 4, size=(4, 3)) / 4.0
    h = builder.relu("relu", builder.dense("first", x, weight, GENERATOR.normal(size=3)))
    builder.output(rounded(builder, "out", h, 0.125, bits=6), "y")
    graph = builder.graph()
    assert difference(graph, quantize(graph, GENERATOR.normal(size=(100, 4)))[0]) == 0


def scales(graph: Graph) -> list[str]:
    return [node.name for node in graph.nodes if isinstance(node, Scale)]


def test_a_convolution_s_normalisation_is_in_its_weights() -> None:
    graph, data = network("convolution")
    folded = fold(graph)
    assert len(scales(graph)) == 2
    assert scales(folded) == []
    wanted, given = (reference.infer_real(g, data)["y"] for g in (graph, folded))
    assert np.abs(wanted - given).max() < 1e-12


def _scaled(*nodes: str) -> Graph:
    """A product, what is named, a scale with this and that offset, what else is named, a product."""
    builder = GraphBuilder("scaled")
    x = builder.dense("first", builder.input("x", (6,)), GENERATOR.normal(size=(6, 6)))
    for i, kind in enumerate(nodes):
        x = STEPS[kind](builder, f"{kind}{i}", x)
    builder.output(builder.dense("last", x, GENERATOR.normal(size=(x.elements, 3))), "y")
    return builder.graph()


STEPS: dict[str, Any] = {
    "relu": lambda b, n, x: b.relu(n, x),
    "clip": lambda b, n, x: b.clip(n, x, -1.0, 2.0),
    "tanh": lambda b, n, x: b.table(n, x, "tanh"),
    "turn": lambda b, n, x: b.gather(n, x, np.arange(x.elements).reshape(2, -1).T),
    "pad": lambda b, n, x: b.gather(n, x, np.append(np.arange(x.elements), [-1, -1]), 0.5),
    "pick": lambda b, n, x: b.gather(n, x, np.array([0, 0, 3, 2])),
    "flat": lambda b, n, x: b.reshape(n, x, (x.elements,)),
    "factor": lambda b, n, x: b.scale(n, x, np.array(1.7), np.array(0.0)),
    "line": lambda b, n, x: b.scale(n, x, np.array(0.3), np.array(-0.6)),
    "factors": lambda b, n, x: b.scale(n, x, GENERATOR.uniform(0.5, 2, x.shape), np.array(0.0)),
    "signs": lambda b, n, x: b.scale(n, x, GENERATOR.normal(size=x.shape), GENERATOR.normal(size=x.shape)),
}

CHAINS = [
    ("relu", "factor"), ("relu", "line"), ("relu", "factors"), ("relu", "signs"), ("clip", "line"), ("clip", "signs"),
    ("tanh", "line"), ("line", "tanh"), ("signs", "tanh"), ("turn", "signs", "flat"), ("signs", "turn", "flat"),
    ("pad", "line"), ("pad", "signs"), ("signs", "pad"), ("line", "pad"), ("pick", "signs"), ("signs", "pick"),
    ("factor", "relu", "turn", "relu", "line", "flat"), ("line", "line", "relu", "pad", "factor", "tanh", "signs"),
]  # fmt: skip


@pytest.mark.parametrize("chain", CHAINS, ids="-".join)
def test_moved_factors_change_nothing(chain: tuple[str, ...]) -> None:
    graph = _scaled(*chain)
    folded = fold(graph)
    x = {"x": GENERATOR.normal(size=(200, 6)) * 2}
    wanted, given = (reference.infer_real(g, x)["y"] for g in (graph, folded))
    assert np.abs(wanted - given).max() < 1e-9
    assert len(scales(folded)) <= len(scales(graph))


@pytest.mark.parametrize("chain", [chain for chain in CHAINS if not {"signs", "pad"} & {*chain}], ids="-".join)
def test_uniform_factors_vanish(chain: tuple[str, ...]) -> None:
    assert scales(fold(_scaled(*chain))) == []
