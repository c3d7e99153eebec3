"""Trees behind a projection, or anything else that computes: their input is a tensor of the graph, not the host's.

Thresholds are placed as at an input, on the numbers that the float graph gives. What the host would do there to bring a
feature's thresholds onto the whole of an unsigned format goes into the columns of the product before them. Its weights
and inputs get more bits, two by two, until enough samples keep their class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.contract import HostOperationKind
from gatesmith.errors import AccuracyLost
from gatesmith.fixed import Rounding
from gatesmith.model import reference
from gatesmith.model.ensemble import TreeEnsemble
from gatesmith.model.graph import Graph
from gatesmith.model.node import Edge, Node, Real
from gatesmith.model.nodes import Dense, Quantize, Scale
from gatesmith.quantize.allocate import allocate, on_host
from gatesmith.quantize.fold import fold, with_scaled_inputs
from gatesmith.quantize.more_samples import denser
from gatesmith.quantize.precision import PRECISIONS
from gatesmith.quantize.rewrite import Rewriter
from gatesmith.quantize.trees import Goal, Placed, first_computing, with_thresholds, with_values

__all__ = ["allocate_projected", "is_projected"]

KEPT = 0.999
"""Share of the samples that keep their class, rounded weights and all, where the bits that may be used allow it."""

MORE_BITS = 2
"""At once, because every step tries the whole graph."""


def is_projected(graph: Graph) -> bool:
    """Whether something computes before the trees of a graph that has some."""
    return first_computing(graph, _ensemble(graph)) is not None


def allocate_projected(graph: Graph, data: Mapping[str, NDArray[Any]], precision: int) -> Graph:
    """The integer graph of a float graph in which something computes before the trees.

    Parameters
    ----------
    data : mapping of str to ndarray, shape (samples, *input shape)
        Checked calibration data.
    precision : int
        Weights, inputs and the trees' input get at most twice as many bits; leaves as many as keep the decisions.

    Raises
    ------
    UnsupportedOperation
        When there are several ensembles, or something reads what is before the trees beside them.
    AccuracyLost
        When the calibration data hold missing values, with which nothing can compute.
    """
    ensemble = _ensemble(graph)
    _check_alone(graph, ensemble)
    _check_whole(graph, ensemble, data)
    samples = _denser(graph, data)
    x = _evaluated(graph, samples)[ensemble.inputs[0]]
    known = replace(ensemble, missing=None)
    goal = Goal.of(graph, x, precision)
    placed = with_thresholds(known, None, goal)
    valued = with_values(replace(known, threshold=placed.threshold), placed, goal)
    wanted = ensemble.evaluate([x], [None])
    rounded = _with_rounding(graph, valued, placed)
    for bits in range(precision, min(2 * precision, PRECISIONS[-1]) + 1, MORE_BITS):
        integer, given = _allocated(rounded, data, samples, bits, wanted)
        if goal.is_near(given, wanted, kept=KEPT):
            break
    return integer


def _ensemble(graph: Graph) -> TreeEnsemble:
    return next(node for node in graph.nodes if isinstance(node, TreeEnsemble))


def _check_alone(graph: Graph, ensemble: TreeEnsemble) -> None:
    trees = sum(isinstance(node, TreeEnsemble) for node in graph.nodes)
    if trees > 1:
        raise ensemble.refuse(f"is one of {trees} in a graph, behind what computes; one is possible")
    behind = {ensemble.output.name}
    for node in graph.nodes:
        if behind & set(node.inputs):
            behind.add(node.output.name)
            if not behind >= set(node.inputs):
                raise ensemble.refuse(f"and what is before it are both read by node {node.name!r} ({node.kind})")
    early = [terminal.edge.name for terminal in graph.outputs if terminal.edge.name not in behind]
    if early:
        raise ensemble.refuse(f"is not needed for output {early[0]!r}; trees are possible before every output")


def _check_whole(graph: Graph, ensemble: TreeEnsemble, data: Mapping[str, NDArray[Any]]) -> None:
    count, node = sum(int(np.isnan(values).sum()) for values in data.values()), first_computing(graph, ensemble)
    if count and node is not None:
        raise AccuracyLost(
            f"calibration data hold {count} missing values and node {node.name!r} ({node.kind}) computes with them; "
            f"they are possible for trees at the input alone"
        )


def _denser(graph: Graph, data: Mapping[str, NDArray[Any]]) -> dict[str, Real]:
    """More samples, where there is one input to make them of."""
    if len(graph.inputs) > 1:
        return {name: np.asarray(values, dtype=np.float64) for name, values in data.items()}
    ((name, values),) = data.items()
    return {name: denser(values.reshape(len(values), -1).astype(np.float64)).reshape(-1, *values.shape[1:])}


def _evaluated(graph: Graph, samples: Mapping[str, Real]) -> dict[str, Real]:
    """Every edge, from what a client gives."""
    values = {}
    for terminal in graph.inputs:
        real = on_host(terminal, samples[terminal.edge.name])
        format = terminal.edge.format
        values[terminal.edge.name] = real if format is None else format.dequantize(format.quantize(real))
    return reference.evaluate(graph, values)


def _with_rounding(graph: Graph, valued: TreeEnsemble, placed: Placed) -> Graph:
    """The float graph with the trees on whole numbers: scaled in the product before them, then rounded."""
    edges = graph.edges
    before = edges[valued.inputs[0]]
    scaled = Edge(name=_fresh(edges, f"{before.name}/scaled"), shape=before.shape)
    whole = Edge(name=_fresh(edges, f"{before.name}/whole"), shape=before.shape)
    scale = Scale(name=scaled.name, inputs=(before.name,), output=scaled, weight=placed.scale, bias=placed.offset)
    rounding = Quantize(
        name=whole.name, inputs=(scaled.name,), output=whole, format=placed.format, rounding=Rounding.HALF_UP
    )
    # weights on a grid are kept where a graph rounds, so the factors are moved before it does
    moved = fold(_replaced(graph, valued, [scale, replace(valued, inputs=(scaled.name,))]))
    trees = _ensemble(moved)
    return _replaced(moved, trees, [replace(rounding, inputs=trees.inputs), replace(trees, inputs=(whole.name,))])


def _replaced(graph: Graph, node: Node, by: list[Node]) -> Graph:
    nodes = [new for each in graph.nodes for new in (by if each.name == node.name else [each])]
    return replace(graph, nodes=tuple(nodes))


def _fresh(edges: Mapping[str, Edge], name: str) -> str:
    while name in edges:
        name += "/0"
    return name


def _allocated(
    graph: Graph, data: Mapping[str, NDArray[Any]], samples: Mapping[str, Real], bits: int, wanted: Real
) -> tuple[Graph, Real]:
    """The integer graph and its scores of the samples, with inputs as they come or scaled by the host."""
    options = [each for each in (graph, _unscaled(graph)) if each is not None]
    options += [scaled for each in options if (scaled := with_scaled_inputs(each, data)) is not each]
    found = []
    for option in options:
        integer = allocate(option, dict(data), bits)
        given = _evaluated(integer, samples)[_ensemble(integer).output.name]
        found.append((float(np.mean((given - wanted) ** 2)), integer, given))
    _, integer, given = min(found, key=lambda one: one[0])
    return integer, given


def _unscaled(graph: Graph) -> Graph | None:
    """The graph with the host's one scale in the weights behind it: a scaler takes whole numbers off their grid."""
    rewriter = Rewriter(graph)
    for terminal in graph.inputs:
        readers = rewriter.readers[terminal.edge.name]
        (operation, *more) = terminal.host or (None,)
        if len(readers) != 1 or more or operation is None or operation.kind is not HostOperationKind.SCALE:
            continue
        (reader,) = readers
        if not isinstance(reader, Dense) or reader.weight.ndim != 2 or len(terminal.edge.shape) != 1:
            continue
        weight, offset = reader.weight * np.array(operation.scale)[:, None], np.array(operation.offset)
        dense = replace(reader, weight=weight, bias=reader.bias + offset @ reader.weight)
        inputs = tuple(replace(each, host=()) if each is terminal else each for each in graph.inputs)
        return rewriter.rebuilt({reader.name: [dense]}, inputs=inputs)
    return None
