"""Tree ensembles: reference == exact fractions == the engine's plan, and arrays that are no trees are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import witness
from forests import forest_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from gatesmith.errors import AccuracyLost, ModelError, UnsupportedOperation
from gatesmith.fixed import FixedPoint
from gatesmith.gateware.forest import plant
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.model.vectors import corner_vectors, random_vectors


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    trees=st.integers(1, 9),
    depth=st.integers(0, 5),
    features=st.integers(1, 4),
    outputs=st.integers(1, 4),
    input=st.builds(FixedPoint, st.booleans(), st.integers(1, 3), st.integers(0, 3)),
    missing=st.booleans(),
)
def test_every_forest_is_exact(
    seed: int, trees: int, depth: int, features: int, outputs: int, input: FixedPoint, missing: bool
) -> None:
    graph = forest_graph(
        seed, trees=trees, depth=depth, features=features, outputs=outputs, input=input, missing=missing
    )
    x = np.concatenate([corner_vectors(graph), random_vectors(graph, 60, seed=seed % 1000)])
    wanted = witness.infer(graph, x)
    assert (reference.infer(graph, x) == wanted).all()
    assert (plant(graph).infer(x) == wanted).all()
    again = Graph.from_bytes(graph.to_bytes())
    assert again.digest == graph.digest
    low, high = graph.bounds()["scores"]
    scores = graph.edges["scores"].fixed.dequantize(wanted[:, :outputs])
    assert (scores >= low).all()
    assert (scores <= high).all()


def test_comparisons_are_shared_and_impossible_ones_are_gone() -> None:
    graph = forest_graph(3, trees=40, depth=4, features=2)
    tests = plant(graph).tests
    assert len(set(tests)) == len(tests)
    # 6 bits have 63 places for a threshold that says anything
    assert len(tests) <= 2 * 63
    assert all(0 <= test.bound < 63 for test in tests)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": np.array([], dtype=np.int64)}, "has no tree"),
        ({"feature": np.array([0, 1])}, "arrays of splits have different lengths"),
        ({"left": np.array([0])}, "not each named exactly once"),
        ({"right": np.array([-1])}, "not each named exactly once"),
        ({"feature": np.array([-1])}, "looks at element -1"),
        ({"feature": np.array([3])}, "looks at element 3, the input has 3"),
        ({"bias": np.zeros(2)}, "bias of [2]"),
    ],
)
def test_what_is_no_tree_is_refused(changes: dict[str, Any], message: str) -> None:
    graph = _stump()
    with pytest.raises(UnsupportedOperation) as caught:
        replace(graph, nodes=(replace(graph.nodes[0], **changes),))
    assert message in str(caught.value)


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ModelError, match="1 of 1 numbers of its threshold are not finite"):
        replace(_stump().nodes[0], threshold=np.array([np.inf]))


def test_a_cycle_is_refused() -> None:
    node = _stump().nodes[0]
    two = {"feature": np.zeros(2, dtype=np.int64), "threshold": np.zeros(2), "value": np.zeros((3, 3))}
    with pytest.raises(UnsupportedOperation, match="leads back to an earlier one"):
        replace(node, root=np.array([-1]), left=np.array([1, 0]), right=np.array([-2, -3]), **two)


def test_a_sum_beyond_its_format_is_refused() -> None:
    graph = _stump()
    with pytest.raises(AccuracyLost, match=r"its format s11\.2 holds"):
        replace(graph, nodes=(replace(graph.nodes[0], bias=np.full(3, 4000.0)),))


def test_a_tree_that_is_a_long_chain_is_refused_by_the_engine() -> None:
    format = FixedPoint(False, 12, 0)
    graph = forest_graph(trees=1, depth=0, arg_max=False, input=format)
    count = 4000
    node = replace(
        graph.nodes[0],
        root=np.array([0]),
        feature=np.zeros(count, dtype=np.int64),
        threshold=np.arange(count, dtype=np.float64),
        left=~np.arange(count),
        right=np.append(np.arange(1, count), ~count),
        value=np.arange(3 * (count + 1)).reshape(-1, 3) % 7 / 4,
    )
    with pytest.raises(UnsupportedOperation, match="hundreds of levels"):
        plant(replace(graph, nodes=(node,)))


def _stump() -> Graph:
    graph = forest_graph(trees=1, depth=0, arg_max=False)
    node = replace(
        graph.nodes[0],
        root=np.array([0]),
        feature=np.array([0]),
        threshold=np.array([0.5]),
        left=np.array([-1]),
        right=np.array([-2]),
        value=np.array([[1.0, 2.0, 0.0], [0.25, -3.0, 0.0]]),
    )
    return replace(graph, nodes=(node,))


def test_a_missing_value_goes_where_its_split_says() -> None:
    stump = _stump()
    (node,) = stump.nodes
    integer = replace(stump, nodes=(replace(node, missing=np.array([True])),))
    bare = replace(node.output, format=None)
    x = np.array([[0.0, 0, 0], [np.nan, 0, 0], [np.nan, 9, 9]])
    left, right = (node.value[~side[0]] + node.bias for side in (node.left, node.right))
    for goes_left in (True, False):
        trees = replace(node, output=bare, missing=np.array([goes_left]), feature=np.array([0]))
        given = trees.evaluate([x], [None])
        assert (given[1:] == (left if goes_left else right)).all()
    # in an integer graph it is the highest integer
    format = integer.inputs[0].edge.fixed
    most = np.full((1, 3), format.max_integer)
    high = replace(integer.nodes[0], threshold=np.array([float(format.dequantize(format.min_integer))]))
    assert (high.evaluate([format.dequantize(most)], [format]) == left).all()
    assert (replace(high, missing=None).evaluate([format.dequantize(most)], [format]) == right).all()
    assert (replace(high, missing=None).evaluate([format.dequantize(most - 1)], [format]) == right).all()
    again = Graph.from_bytes(integer.to_bytes())
    assert again.digest == integer.digest != stump.digest
    assert again.nodes[0].missing.dtype == np.bool_
    assert b"missing" not in stump.to_bytes()  # graphs of before keep their digests
    with pytest.raises(UnsupportedOperation, match=r"missing of shape \[2\]"):
        replace(node, missing=np.array([True, False]))
