"""One truth for every node kind: reference == exact fractions == da4ml's emulator of the adder graph."""

from __future__ import annotations

import numpy as np
import pytest
import witness
from models import NODE_GRAPHS, TRAINED, float_graph, integer_graph, node_graph, trained

from gatesmith.errors import AccuracyLost, ModelError, TensorMismatch, UnsupportedOperation
from gatesmith.fixed import FixedPoint
from gatesmith.gateware.trace import trace
from gatesmith.model import reference
from gatesmith.model.graph import Graph, Terminal
from gatesmith.model.nodes import Clip, Dense, Edge, LookupTable, ReLU, Reshape, grid_bits
from gatesmith.model.vectors import corner_vectors, random_vectors


def vectors(graph: Graph, count: int = 300) -> np.ndarray:
    return np.concatenate([corner_vectors(graph), random_vectors(graph, count)])


@pytest.mark.parametrize("name", NODE_GRAPHS)
class TestNodeKinds:
    def test_reference_is_exact(self, name: str) -> None:
        graph = node_graph(name)
        x = vectors(graph)
        assert (reference.infer(graph, x) == witness.infer(graph, x)).all()

    def test_adder_graph_is_exact(self, name: str) -> None:
        graph = node_graph(name)
        x = vectors(graph, 3000)
        assert (trace(graph).infer(x) == reference.infer(graph, x)).all()

    def test_bounds_hold_and_are_reached_within_the_format(self, name: str) -> None:
        graph = node_graph(name)
        x = vectors(graph, 3000)
        output = graph.outputs[0].edge
        low, high = graph.bounds()[output.name]
        real = output.fixed.dequantize(reference.infer(graph, x)).reshape(-1, *output.shape)
        assert (real >= low).all()
        assert (real <= high).all()

    def test_bytes_round_trip(self, name: str) -> None:
        graph = node_graph(name)
        again = Graph.from_bytes(graph.to_bytes())
        assert again.digest == graph.digest
        x = vectors(graph)
        assert (reference.infer(again, x) == reference.infer(graph, x)).all()


@pytest.mark.parametrize("name", TRAINED)
def test_trained_models_are_exact(name: str) -> None:
    graph = integer_graph(name)
    x = vectors(graph, 20)
    assert (reference.infer(graph, x) == witness.infer(graph, x)).all()
    x = vectors(graph, 10_000)
    assert (trace(graph).infer(x) == reference.infer(graph, x)).all()


def test_one_changed_weight_is_seen() -> None:
    graph = integer_graph("iris")
    dense = next(node for node in graph.nodes if isinstance(node, Dense))
    weight = dense.weight.copy()
    weight[0, 0] += 2.0 ** -grid_bits(weight)
    changed = [
        Dense(name=n.name, inputs=n.inputs, output=n.output, weight=weight, bias=n.bias) if n is dense else n
        for n in graph.nodes
    ]
    other = Graph(name=graph.name, inputs=graph.inputs, nodes=tuple(changed), outputs=graph.outputs)
    x = vectors(graph, 1000)
    assert (trace(other).infer(x) != reference.infer(graph, x)).any()
    assert other.digest != graph.digest


@pytest.mark.parametrize("name", TRAINED)
def test_a_float_graph_is_the_library_s_model(name: str) -> None:
    model = trained(name)
    given = reference.infer_real(float_graph(name), {"input": model.x})
    ((output, values),) = given.items()
    wanted = {
        "probabilities": lambda: model.estimator.predict_proba(model.x),
        "predictions": lambda: model.estimator.predict(model.x).reshape(len(model.x), -1),
    }[output]()
    assert np.allclose(values, wanted, atol=1e-9)


@pytest.mark.parametrize(
    ("values", "bits"), [([0.0], 0), ([1.0, 3.0], 0), ([0.5], 1), ([0.375, 8.0], 3), ([6.0, 2.0], -1), ([1e-3], 60)]
)
def test_grid_bits(values: list[float], bits: int) -> None:
    array = np.array(values)
    assert grid_bits(array) == bits
    scaled = np.ldexp(array, bits)
    assert (scaled == np.rint(scaled)).all()


X = Edge(name="x", shape=(2,), format=FixedPoint(True, 3, 4))


def graph_of(*nodes: object, output: Edge, inputs: tuple[Edge, ...] = (X,)) -> Graph:
    return Graph(
        name="g",
        inputs=tuple(Terminal(edge=edge) for edge in inputs),
        nodes=nodes,  # type: ignore[arg-type]
        outputs=(Terminal(edge=output),),
    )


def test_not_finite_weights_are_counted() -> None:
    weight = np.array([[1.0, np.nan], [np.inf, 2.0]])
    with pytest.raises(ModelError, match=r"node 'd' \(Dense\): weight\[0, 1\] is nan; 2 of 4 numbers are not finite"):
        Dense(name="d", inputs=("x",), output=Edge(name="y", shape=(2,)), weight=weight, bias=np.zeros(2))


def test_a_format_that_cannot_hold_the_values_is_refused() -> None:
    y = Edge(name="y", shape=(2,), format=FixedPoint(False, 2, 4))
    with pytest.raises(AccuracyLost, match=r"node 'r' \(ReLU\) gives values from 0 to 7.9375, its format u2.4 holds"):
        graph_of(ReLU(name="r", inputs=("x",), output=y), output=y)


def test_a_format_that_is_too_coarse_is_refused() -> None:
    y = Edge(name="y", shape=(2,), format=FixedPoint(False, 3, 3))
    with pytest.raises(AccuracyLost, match="needs 4 fraction bits, its edge has 3"):
        graph_of(ReLU(name="r", inputs=("x",), output=y), output=y)


def test_a_sum_beyond_float64_is_refused() -> None:
    weight = np.full((2, 1), 2.0**40) + 2.0**-8
    y = Edge(name="y", shape=(1,), format=FixedPoint(True, 48, 3))
    with pytest.raises(AccuracyLost, match=r"fraction bits|accumulator of \d+ bits, 52 are possible"):
        graph_of(Dense(name="d", inputs=("x",), output=y, weight=weight, bias=np.zeros(1)), output=y)


def test_shapes_have_to_go_together() -> None:
    y = Edge(name="y", shape=(3,))
    x = Edge(name="x", shape=(2,))
    with pytest.raises(UnsupportedOperation, match=r"node 's' \(Reshape\): \[2\] has not as many numbers as \[3\]"):
        graph_of(Reshape(name="s", inputs=("x",), output=y), output=y, inputs=(x,))
    with pytest.raises(ModelError, match="node 's' reads edge 'z', which nothing before it writes"):
        graph_of(Reshape(name="s", inputs=("z",), output=y), output=y, inputs=(x,))


def test_half_quantised_graphs_are_refused() -> None:
    y = Edge(name="y", shape=(2,))
    with pytest.raises(ModelError, match="edge 'y' has no format and others have"):
        graph_of(ReLU(name="r", inputs=("x",), output=y), output=y)


def test_unknown_functions_and_empty_clips_are_refused() -> None:
    y = Edge(name="y", shape=(2,))
    with pytest.raises(UnsupportedOperation, match="function 'gamma' is unknown; known are"):
        LookupTable(name="t", inputs=("x",), output=y, function="gamma")
    with pytest.raises(UnsupportedOperation, match=r"clips to \[1, 0\]"):
        Clip(name="c", inputs=("x",), output=y, low=1, high=0)


def test_inputs_outside_their_format_are_refused() -> None:
    graph = node_graph("ReLU")
    with pytest.raises(TensorMismatch, match=r"holds -200 to 0, its format s3\.4 has -128 to 127"):
        reference.infer(graph, np.array([[0, -200, 0]]))
