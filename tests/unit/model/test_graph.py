"""What a graph refuses to be, and its canonical bytes."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import NODE_GRAPHS, TRAINED, float_graph, integer_graph, node_graph
from networks import NETWORKS, mlp, network

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.errors import AccuracyLost, GatesmithError, ModelError, ModelUnreadable, UnsupportedOperation
from gatesmith.fixed import FixedPoint, Overflow, Rounding
from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.model import reference
from gatesmith.model.graph import Graph, Terminal
from gatesmith.model.nodes import Add, ArgMax, Clip, Concat, Dense, Edge, LookupTable, Node, ReLU, Requantize
from gatesmith.model.vectors import corner_vectors, random_vectors
from gatesmith.quantize import quantize

S34 = FixedPoint(True, 3, 4)
X = Edge(name="x", shape=(2,), format=S34)


def graph_of(*nodes: Node, output: Edge | None = None, inputs: tuple[Edge, ...] = (X,), **terminal: Any) -> Graph:
    last = output or nodes[-1].output
    return Graph(
        name="g",
        inputs=tuple(Terminal(edge=edge) for edge in inputs),
        nodes=nodes,
        outputs=(Terminal(edge=last, **terminal),),
    )


def y(format: FixedPoint | None = S34, shape: tuple[int, ...] = (2,), name: str = "y") -> Edge:
    return Edge(name=name, shape=shape, format=format)


RELU = ReLU(name="r", inputs=("x",), output=y())
TABLE = np.zeros(256)
SOFTMAX = HostOperation(kind=HostOperationKind.SOFTMAX)


def scale(*factors: float) -> HostOperation:
    return HostOperation(kind=HostOperationKind.SCALE, scale=factors, offset=factors)


REFUSED: dict[str, tuple[Any, type[GatesmithError], str]] = {
    "no inputs": (lambda: Graph(name="g", inputs=(), nodes=(), outputs=()), ModelError, "has 0 inputs and 0 outputs"),
    "input twice": (lambda: graph_of(RELU, inputs=(X, X)), ModelError, r"has an input twice: \['x', 'x'\]"),
    "output twice": (
        lambda: Graph(name="g", inputs=(Terminal(edge=X),), nodes=(), outputs=(Terminal(edge=X), Terminal(edge=X))),
        ModelError,
        r"has an output twice: \['x', 'x'\]",
    ),
    "output from nowhere": (lambda: graph_of(RELU, output=y(name="z")), ModelError, "edge 'z', which nothing writes"),
    "another output's format": (
        lambda: graph_of(RELU, output=y(FixedPoint(True, 2, 4))),
        ModelError,
        "gives out edge .*integer_bits=2.*, written is .*integer_bits=3",
    ),
    "another output's shape": (lambda: graph_of(RELU, output=y(shape=(1, 2))), ModelError, "gives out edge"),
    "edge twice": (lambda: graph_of(RELU, replace(RELU, name="s")), ModelError, "'s' or its edge 'y' exists twice"),
    "node twice": (
        lambda: graph_of(RELU, replace(RELU, output=y(name="z"))),
        ModelError,
        "'r' or its edge 'z' exists twice",
    ),
    "too few inputs": (
        lambda: graph_of(Add(name="a", inputs=("x",), output=y())),
        UnsupportedOperation,
        r"node 'a' \(Add\): reads 1 edges, 2 are needed",
    ),
    "too many inputs": (
        lambda: graph_of(ReLU(name="a", inputs=("x", "x"), output=y())),
        UnsupportedOperation,
        "reads 2 edges, 1 are needed",
    ),
    "no inputs of a node": (
        lambda: graph_of(Concat(name="a", inputs=(), output=y())),
        UnsupportedOperation,
        "reads 0 edges, 1 or more are needed",
    ),
    "table of another size": (
        lambda: graph_of(LookupTable(name="t", inputs=("x",), output=y(), function="f", table=np.zeros(255))),
        UnsupportedOperation,
        "table has 255 entries, its input's format s3.4 needs 256",
    ),
    "table of a wide edge": (
        lambda: graph_of(
            LookupTable(name="t", inputs=("x",), output=y(), function="f", table=np.zeros(8192)),
            inputs=(replace(X, format=FixedPoint(True, 8, 4)),),
        ),
        UnsupportedOperation,
        "input has 13 bits, 12 are possible; requantise it before",
    ),
    "no table": (
        lambda: graph_of(LookupTable(name="t", inputs=("x",), output=y(), function="tanh")),
        UnsupportedOperation,
        "has no table yet; quantise the graph first",
    ),
    "not finite table": (
        lambda: LookupTable(name="t", inputs=("x",), output=y(), function="f", table=TABLE + np.nan),
        UnsupportedOperation,
        r"table of shape \[256\], a flat one of finite numbers is needed",
    ),
    "off the table's grid": (
        lambda: graph_of(LookupTable(name="t", inputs=("x",), output=y(), function="f", table=TABLE + 2**-5)),
        AccuracyLost,
        "needs 5 fraction bits, its edge has 4",
    ),
    "clip off its grid": (
        lambda: graph_of(Clip(name="c", inputs=("x",), output=y(), low=0.0, high=0.71875)),
        AccuracyLost,
        r"node 'c' \(Clip\) needs 5 fraction bits, its edge has 4; requantise after it",
    ),
    "index of a table": (
        lambda: graph_of(
            ArgMax(name="a", inputs=("x",), output=y(FixedPoint(False, 1, 0), (2,))), output=y(FixedPoint(False, 1, 0))
        ),
        UnsupportedOperation,
        r"output has the shape \[2\], \[\] or \[1\] is possible",
    ),
    "index beyond its format": (
        lambda: graph_of(
            ArgMax(name="a", inputs=("x",), output=y(FixedPoint(False, 1, 0), ())),
            inputs=(replace(X, shape=(3,)),),
        ),
        AccuracyLost,
        "gives values from 0 to 2, its format u1.0 holds 0 to 1",
    ),
    "scale of another size": (
        lambda: graph_of(RELU, host=(scale(1, 2, 3),)),
        ModelError,
        "the host's scale of edge 'y' has 3 factors, the edge has 2 elements",
    ),
    "not finite scale": (lambda: graph_of(RELU, host=(scale(1, np.inf),)), ModelError, "holds a number that is not"),
    "softmax of a number": (
        lambda: graph_of(ArgMax(name="a", inputs=("x",), output=y(FixedPoint(False, 1, 0), ())), host=(SOFTMAX,)),
        ModelError,
        "the host's softmax needs an axis, edge 'y' has none",
    ),
    "far from the point": (
        lambda: graph_of(RELU, inputs=(replace(X, format=FixedPoint(True, 303, -296)),)),
        AccuracyLost,
        "edge 'x' has the format s303.-296, 256 bits before or after the point are possible",
    ),
    "infinite sums": (
        lambda: graph_of(
            Dense(name="d", inputs=("x",), output=y(), weight=np.full((2, 2), 1e308), bias=np.zeros(2)),
        ),
        AccuracyLost,
        r"node 'd' \(Dense\) needs an accumulator of \d+ bits, 52 are possible",
    ),
    "rounding in a float graph": (
        lambda: graph_of(Requantize(name="q", inputs=("x",), output=y(None)), inputs=(replace(X, format=None),)),
        UnsupportedOperation,
        r"node 'q' \(Requantize\): rounds to the format of its edge, which has none",
    ),
    "nameless edge": (lambda: Edge(name="", shape=(1,)), ModelError, "an edge is called '', a name is needed"),
    "empty edge": (lambda: Edge(name="x", shape=(3, 0)), ModelError, r"has the shape \[3, 0\], sizes of 1 or more"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_the_largest_sum_that_is_allowed() -> None:
    """Every partial sum stays below 2**50 steps; one bit more is refused."""
    x = Edge(name="x", shape=(2,), format=FixedPoint(False, 24, 0))

    def summed(weight: float, bits: int) -> Graph:
        dense = Dense(
            name="d",
            inputs=("x",),
            output=y(FixedPoint(True, bits, 0), (1,)),
            weight=np.array([[weight], [-weight]]),
            bias=np.zeros(1),
        )
        return graph_of(dense, inputs=(x,))

    graph = summed(2.0**25 + 1, 50)  # an odd weight: its products lie on no coarser grid
    largest = (2**24 - 1) * (2**25 + 1)
    x_max = np.array([[2**24 - 1, 0], [0, 2**24 - 1], [2**24 - 1, 2**24 - 1]])
    assert reference.infer(graph, x_max).ravel().tolist() == [largest, -largest, 0]
    with pytest.raises(AccuracyLost, match="needs an accumulator of 53 bits, 52 are possible"):
        summed(2.0**26 + 1, 51)


ROUNDED = [-1.75, -1.5, -1.25, -0.5, -0.25, 0.25, 0.5, 0.75, 1.5, 2.5]
WORKED = {
    Rounding.TRUNCATE: [-2, -2, -2, -1, -1, 0, 0, 0, 1, 2],
    Rounding.HALF_UP: [-2, -1, -1, 0, 0, 0, 1, 1, 2, 3],
    Rounding.HALF_EVEN: [-2, -2, -1, 0, 0, 0, 0, 1, 2, 2],
}  # docs/graph.md has this table


@pytest.mark.parametrize("rounding", Rounding)
def test_rounding_as_documented(rounding: Rounding) -> None:
    whole = FixedPoint(True, 4, 0)
    x = Edge(name="x", shape=(len(ROUNDED),), format=FixedPoint(True, 3, 2))
    node = Requantize(name="q", inputs=("x",), output=y(whole, x.shape), rounding=rounding)
    integers = np.array([ROUNDED]) * 4
    assert reference.infer(graph_of(node, inputs=(x,)), integers.astype(np.int64)).tolist() == [WORKED[rounding]]


@pytest.mark.parametrize(
    ("overflow", "signed", "wanted"),
    [
        (Overflow.SATURATE, True, [-4, -4, -4, 3, 3, 3]),
        (Overflow.WRAP, True, [-1, 3, -4, 3, -4, 1]),
        (Overflow.SATURATE, False, [0, 0, 0, 3, 4, 7]),
        (Overflow.WRAP, False, [7, 3, 4, 3, 4, 1]),
    ],
)  # docs/graph.md has this table
def test_overflow_as_documented(overflow: Overflow, signed: bool, wanted: list[int]) -> None:
    values = [[-9, -5, -4, 3, 4, 9]]
    x = Edge(name="x", shape=(6,), format=FixedPoint(True, 4, 0))
    node = Requantize(
        name="q", inputs=("x",), output=y(FixedPoint(signed, 2 if signed else 3, 0), (6,)), overflow=overflow
    )
    assert reference.infer(graph_of(node, inputs=(x,)), np.array(values)).tolist() == [wanted]


@pytest.mark.parametrize("name", NETWORKS)
def test_bytes_of_float_and_integer_graphs(name: str) -> None:
    graph, data = network(name)
    for one in (graph, quantize(graph, data)[0]):
        again = Graph.from_bytes(one.to_bytes())
        assert again.to_bytes() == one.to_bytes()
        wanted, found = reference.infer_real(one, data), reference.infer_real(again, data)
        assert all((found[output] == wanted[output]).all() for output in wanted)


def test_bytes_are_canonical() -> None:
    content = integer_graph("iris-tanh").to_bytes()
    assert content == json.dumps(json.loads(content), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    assert content.isascii()


def test_equal_graphs_have_equal_digests() -> None:
    whole = graph_of(Clip(name="c", inputs=("x",), output=y(), low=0, high=1))
    real = graph_of(Clip(name="c", inputs=("x",), output=y(), low=0.0, high=1.0))
    assert whole.digest == real.digest
    other = graph_of(Clip(name="c", inputs=("x",), output=y(), low=0.0, high=1.5))
    assert other.digest != real.digest


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"3", b"\xff", b'"' + b"[" * 9, b"[" * 100_000])
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ModelUnreadable, match="not a gatesmith graph: "):
        Graph.from_bytes(content)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return found + [place for key, value in items for place in places(value, (*path, key))]


@pytest.mark.parametrize("numbers", [[], [1.0], "x", [1.0, None]])
def test_a_factor_without_an_offset_is_refused(numbers: Any) -> None:
    builder = GraphBuilder("m")
    builder.output(builder.table("tanh", builder.input("x", (2,)), "tanh"), "y")
    data = json.loads(builder.graph().to_bytes())
    data["nodes"][0]["parameters"]["inner"] = numbers
    with pytest.raises(ModelUnreadable, match="not a gatesmith graph: "):
        Graph.from_bytes(json.dumps(data).encode())


SMALL = json.loads(quantize(mlp(2, 2, 2), np.random.default_rng(0).normal(size=(9, 2)))[0].to_bytes())
ODD = st.sampled_from([None, True, -1, 0, 1e308, 2**70, "", "x", [], [[]], {}, "Dense", [1, [2]], {"a": 1}, 0.3])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(place=st.sampled_from(places(SMALL)), value=ODD, remove=st.booleans())
def test_changed_bytes_end_in_an_error_or_a_graph(place: tuple[Any, ...], value: Any, remove: bool) -> None:
    data = copy.deepcopy(SMALL)
    target = data
    for key in place[:-1]:
        target = target[key]
    if remove:
        del target[place[-1]]
    else:
        target[place[-1]] = value
    try:
        graph = Graph.from_bytes(json.dumps(data).encode())
    except GatesmithError:
        return
    if graph.is_integer:
        reference.infer(graph, corner_vectors(graph))


@pytest.mark.parametrize("name", [*NODE_GRAPHS])
def test_corners_reach_every_end(name: str) -> None:
    graph = node_graph(name)
    corners = corner_vectors(graph)
    formats = [t.edge.fixed for t in graph.inputs for _ in range(t.edge.elements)]
    assert (corners.min(axis=0) == [format.min_integer for format in formats]).all()
    assert (corners.max(axis=0) == [format.max_integer for format in formats]).all()
    assert not corners[2].any()


def test_random_vectors_fill_their_formats() -> None:
    graph = integer_graph("iris")
    x = random_vectors(graph, 5000)
    low, high = graph.inputs[0].edge.fixed.min_integer, graph.inputs[0].edge.fixed.max_integer
    assert x.min() == low
    assert x.max() == high
    assert (x == random_vectors(graph, 5000)).all()
    assert (x != random_vectors(graph, 5000, seed=2)).any()


@pytest.mark.parametrize("name", TRAINED)
def test_float_graphs_have_no_contract(name: str) -> None:
    with pytest.raises(ModelError, match="has no format; quantise the graph first"):
        float_graph(name).contract()


def test_integer_graphs_are_not_quantised_again() -> None:
    with pytest.raises(UnsupportedOperation, match="graph 'iris' has formats already"):
        quantize(integer_graph("iris"), np.zeros((2, 4)))
