"""Bits by tensor: what the integer graph holds, and what it computes beside the float graph."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from networks import mlp
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from gatesmith.aim import Aim
from gatesmith.errors import AccuracyLost, BuildError, UnsupportedOperation
from gatesmith.fixed import FixedPoint
from gatesmith.frontends import read_model
from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.model import reference
from gatesmith.model.nodes import Dense, grid_bits
from gatesmith.quantize import Precision, fold, quantize

X = np.random.default_rng(0).normal(size=(400, 5))
GRAPH = mlp(5, 7, 3)
FIRST, SECOND = (node for node in fold(GRAPH).nodes if isinstance(node, Dense))


def dense(graph: object) -> list[Dense]:
    return [node for node in graph.nodes if isinstance(node, Dense)]  # type: ignore[attr-defined]


def bits(weight: np.ndarray) -> int:
    """Bits of the whole numbers that the weights are multiples of."""
    whole = np.ldexp(weight, grid_bits(weight))
    return FixedPoint.covering(int(whole.min()), int(whole.max()), 0).width


def test_one_number_is_the_same_everywhere() -> None:
    assert quantize(GRAPH, X, precision=6)[0].digest == quantize(GRAPH, X, precision=Precision(default=6))[0].digest


def test_weights_have_the_bits_that_their_node_may_have() -> None:
    integer, _ = quantize(GRAPH, X, precision=Precision(weights={FIRST.name: 3}))
    first, second = dense(integer)
    assert bits(first.weight) <= 3 < bits(second.weight) <= 8


def test_columns_have_bits_and_scales_of_their_own() -> None:
    wanted = (3, 4, 5, 6, 7, 8, 2)
    integer, _ = quantize(GRAPH, X, precision=Precision(weights={FIRST.name: wanted}))
    found = [bits(column) for column in dense(integer)[0].weight.T]
    assert all(few <= most for few, most in zip(found, wanted, strict=True))
    assert found[5] > found[0]


def test_activations_have_the_bits_that_their_edge_may_have() -> None:
    chosen = Precision(activations={FIRST.inputs[0]: 4, SECOND.inputs[0]: 5}, outputs=9)
    integer, _ = quantize(GRAPH, X, precision=chosen)
    edges = integer.edges
    assert [edges[node.inputs[0]].fixed.width for node in dense(integer)] == [4, 5]
    assert integer.outputs[0].edge.fixed.width <= 9


def test_an_input_that_is_an_output_too_stays_as_it_is() -> None:
    builder = GraphBuilder("through")
    x = builder.input("x", (5,))
    builder.output(builder.dense("dense", x, np.eye(5)), "y")
    builder.output(x, "x")
    integer, _ = quantize(builder.graph(), X, precision=Precision(default=12, outputs=6))
    assert [terminal.edge.fixed.width for terminal in integer.outputs] == [6, 12]


def test_corrected_biases_take_the_mean_error_back() -> None:
    def mean_error(correction: bool) -> float:
        integer, _ = quantize(GRAPH, X, precision=Precision(default=3, bias_correction=correction))
        wanted = reference.infer_real(GRAPH, {"x": X})["y"]
        return float(np.abs((reference.infer_real(integer, {"x": X})["y"] - wanted).mean(axis=0)).max())

    assert mean_error(True) < 0.5 * mean_error(False)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int8])
def test_numbers_of_numpy_are_numbers(kind: Any) -> None:
    assert quantize(GRAPH, X, precision=kind(6))[0].digest == quantize(GRAPH, X, precision=6)[0].digest
    assert json.dumps(Aim(precision=kind(6)).parameters()) == json.dumps(Aim(precision=6).parameters())


@pytest.mark.parametrize("bits", [8.0, np.float32(8), None])
def test_what_is_no_whole_number_is_refused(bits: Any) -> None:
    with pytest.raises(AccuracyLost, match=r"precision .* bits, 2 to 16 are possible"):
        quantize(GRAPH, X, precision=bits)
    with pytest.raises(BuildError, match=r"precision .* is not possible; it is a number of bits, auto or exact"):
        Aim(precision=bits)


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        ({"default": 1}, "precision 1 bits, 2 to 16"),
        ({"weights": {"d": (8, 17)}}, "precision of the weights of 'd' 17 bits, 2 to 16"),
        ({"activations": {"x": 0}}, "precision of edge 'x' 0 bits"),
        ({"outputs": 40}, "precision of outputs 40 bits"),
    ],
)
def test_numbers_out_of_range(precision: dict[str, object], message: str) -> None:
    with pytest.raises(AccuracyLost, match=message):
        Precision(**precision)  # type: ignore[arg-type]


def test_as_many_numbers_as_columns() -> None:
    with pytest.raises(AccuracyLost, match="has 2 numbers, it has 7 columns"):
        quantize(GRAPH, X, precision=Precision(weights={FIRST.name: (8, 8)}))


def test_a_word_that_is_none() -> None:
    with pytest.raises(AccuracyLost, match="precision 'best' is not possible; it is a number of bits or exact"):
        quantize(GRAPH, X, precision="best")


def test_exact_is_for_trees() -> None:
    with pytest.raises(UnsupportedOperation, match="has no trees, precision exact is for trees; give 2 to 16 bits"):
        quantize(GRAPH, X, precision="exact")


def test_exact_keeps_every_decision() -> None:
    x, y = load_iris(return_X_y=True)
    estimator = RandomForestClassifier(9, random_state=0).fit(x, y)
    integer, report = quantize(read_model(estimator), x, precision="exact")
    assert report.agreement == 1
    assert report.to_json()["precision_bits"] is None
    noisy = (x + np.random.default_rng(0).normal(size=x.shape)).astype(np.float32)
    given = reference.infer_real(integer, {"input": noisy})["probabilities"]
    assert (given.argmax(axis=1) == estimator.predict(noisy)).all()
