"""Pruning and equalisation of float graphs: what they keep and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from models import float_graph, trained
from networks import network

from gatesmith.errors import ModelError
from gatesmith.model import reference
from gatesmith.model.nodes import Dense
from gatesmith.quantize import fold
from gatesmith.quantize.equalize import equalize
from gatesmith.quantize.prune import prune


def weights(graph: object) -> dict[str, np.ndarray]:
    return {node.name: node.weight for node in graph.nodes if isinstance(node, Dense)}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["iris", "regressor", "digits"])
def test_equalised_is_the_same_function(name: str) -> None:
    graph = fold(float_graph(name))
    even = equalize(graph)
    data = {"input": trained(name).x}
    for edge, values in reference.infer_real(graph, data).items():
        assert np.allclose(reference.infer_real(even, data)[edge], values, rtol=1e-9, atol=1e-9)
    assert even is not graph


def test_ranges_are_equal_afterwards() -> None:
    even = weights(equalize(fold(float_graph("iris"))))
    first, second = even["layer0"], even["layer1"]
    ratio = np.abs(first).max(axis=0) / np.abs(second).max(axis=1)
    assert np.allclose(ratio, ratio[0], rtol=1e-2)


@pytest.mark.parametrize("name", ["residual", "tables", "two inputs", "clip"])
def test_only_what_may_be_moved_is(name: str) -> None:
    graph, data = network(name)
    graph = fold(graph)
    for edge, values in reference.infer_real(equalize(graph), data).items():
        assert np.allclose(reference.infer_real(graph, data)[edge], values, rtol=1e-9, atol=1e-9)


def test_the_smallest_weights_go_and_every_column_keeps_one() -> None:
    graph = fold(float_graph("iris"))
    before, after = weights(graph)["layer0"], weights(prune(graph, {"layer0": 0.5}))["layer0"]
    gone = after == 0
    assert 0.3 < gone.mean() <= 0.5
    assert (after[~gone] == before[~gone]).all()
    assert np.abs(before[gone]).max() <= np.abs(after[~gone]).max()
    assert (~gone).any(axis=0).all()
    assert (weights(prune(graph, {"layer0": 0.5}))["layer1"] == weights(graph)["layer1"]).all()


@pytest.mark.parametrize(
    ("shares", "words"), [({"nobody": 0.1}, "no Dense node 'nobody'"), ({"layer0": 1.0}, "share of 1")]
)
def test_refusals(shares: dict[str, float], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        prune(fold(float_graph("iris")), shares)
