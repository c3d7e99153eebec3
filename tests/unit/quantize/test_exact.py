"""Every integer graph that the quantiser makes is exact at every level, at every precision and scale."""

from __future__ import annotations

import numpy as np
import pytest
import witness
from hypothesis import given, settings
from hypothesis import strategies as st
from models import TRAINED, float_graph, trained
from networks import NETWORKS, mlp, network, random_network

from gatesmith.gateware.trace import trace
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.model.nodes import Requantize
from gatesmith.model.vectors import corner_vectors, random_vectors
from gatesmith.quantize import quantize
from gatesmith.quantize.allocate import OUTPUT_BITS, SUM_BITS


def prove(graph: Graph, *, slow: int = 5, fast: int = 500) -> None:
    """reference == exact fractions on some vectors, == da4ml's emulator on many."""
    corners = corner_vectors(graph)
    x = np.concatenate([corners[:: max(1, len(corners) // 5)], random_vectors(graph, slow)])
    assert (witness.infer(graph, x) == reference.infer(graph, x)).all()
    x = np.concatenate([corners, random_vectors(graph, fast)])
    assert (trace(graph).infer(x) == reference.infer(graph, x)).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    graph, data = network(name)
    integer, report = quantize(graph, data)
    prove(integer, fast=10_000)
    assert report.samples == len(next(iter(data.values())))


@pytest.mark.parametrize(
    ("name", "precision"), [(n, p) for n in NETWORKS for p in range(2, 17) if n != "wide" or p in {2, 9, 16}]
)
def test_precisions(name: str, precision: int) -> None:
    graph, data = network(name)
    prove(quantize(graph, data, precision=precision)[0], slow=2, fast=100)


@pytest.mark.parametrize("precision", [2, 5, 12, 16])
@pytest.mark.parametrize("name", sorted({*TRAINED} - {"digits"}))
def test_trained_models_at_other_precisions(name: str, precision: int) -> None:
    prove(quantize(float_graph(name), trained(name).x, precision=precision)[0], slow=2, fast=100)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), precision=st.integers(2, 16))
def test_random_networks(seed: int, precision: int) -> None:
    graph, data = random_network(seed)
    prove(quantize(graph, data, precision=precision)[0], slow=2, fast=100)


# an interval like -0.2 to 0.2 rounds to -1 or 0: these networks have one
@pytest.mark.parametrize(("seed", "precision"), [(1740, 2), (2146, 3), (3195, 2), (6166, 3), (7623, 5), (7863, 5)])
def test_random_networks_that_round_a_narrow_interval(seed: int, precision: int) -> None:
    graph, data = random_network(seed)
    prove(quantize(graph, data, precision=precision)[0], slow=2, fast=100)


@pytest.mark.parametrize("precision", [2, 8, 16])
@pytest.mark.parametrize("data_scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("weight_scale", [1e-6, 1e-3, 1.0, 1e3, 1e6])
def test_numbers_of_any_size(weight_scale: float, data_scale: float, precision: int) -> None:
    graph = mlp(4, 6, 3, scale=weight_scale)
    x = np.random.default_rng(1).normal(size=(300, 4)) * data_scale
    integer, _ = quantize(graph, x, precision=precision)
    prove(integer, slow=2, fast=100)
    if precision >= 8:
        wanted = reference.infer_real(graph, {"x": x})["y"]
        given = reference.infer_real(integer, {"x": x})["y"]
        assert np.abs(given - wanted).max() < 0.05 * np.abs(wanted).max()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), precision=st.integers(2, 16))
def test_scales_far_apart_still_give_exact_graphs(seed: int, precision: int) -> None:
    """Six decades up and down in one model: the graph is exact; whether it is of use is another matter."""
    graph, data = random_network(seed, decades=6)
    integer, _ = quantize(graph, data, precision=precision)
    x = np.concatenate([corner_vectors(integer)[:3], random_vectors(integer, 3)])
    assert (witness.infer(integer, x) == reference.infer(integer, x)).all()


def test_sums_and_outputs_have_their_widths() -> None:
    for precision in (8, 16):
        for name in {*NETWORKS} - {"trained"}:  # which has formats of its own
            graph, data = network(name)
            integer, _ = quantize(graph, data, precision=precision)
            assert all(t.edge.fixed.width <= OUTPUT_BITS for t in integer.outputs)
            assert all(t.edge.fixed.width <= precision for t in integer.inputs)
            assert all(node.output.fixed.width <= SUM_BITS for node in integer.nodes)
            assert all(node.rounding == "half_up" for node in integer.nodes if isinstance(node, Requantize))


def test_the_client_s_names_stay() -> None:
    for name in NETWORKS:
        graph, data = network(name)
        integer, _ = quantize(graph, data)
        assert [t.spec for t in integer.inputs] == [t.spec for t in graph.inputs]
        assert [t.spec for t in integer.outputs] == [t.spec for t in graph.outputs]


def test_quantising_is_deterministic() -> None:
    graph, data = network("two inputs")
    assert quantize(graph, data)[0].digest == quantize(graph, data)[0].digest
