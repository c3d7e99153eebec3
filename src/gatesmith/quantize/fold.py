"""Float graph to an equal, smaller float graph: products merged, input scaling moved to the host.

Two Dense nodes in a row are one unless that makes more products; a diagonal Dense at an input (a scaler) is a host
operation, declared in the contract, so that inputs of very different ranges each get the whole of their bits. Nodes
that no output needs are gone, and so are reshapes that another reshape undoes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.model.graph import Graph, Terminal
from gatesmith.model.nodes import Dense, Node, Reshape

__all__ = ["fold", "with_scaled_inputs"]

Real = NDArray[np.float64]

MAX_EXPONENT = 120
"""Inputs are scaled by at most two to this power."""


def fold(graph: Graph) -> Graph:
    """Simplify; the result computes the same up to float64 rounding.

    Parameters
    ----------
    graph : Graph
        A float graph.
    """
    changed = True
    graph = _without_detours(_needed(graph))
    while changed:
        graph, changed = _fold_once(graph)
    return _needed(graph)


def _needed(graph: Graph) -> Graph:
    """Without nodes that no output depends on."""
    wanted = {terminal.edge.name for terminal in graph.outputs}
    for node in reversed(graph.nodes):
        if node.output.name in wanted:
            wanted.update(node.inputs)
    return replace(graph, nodes=tuple(node for node in graph.nodes if node.output.name in wanted))


def _without_detours(graph: Graph) -> Graph:
    """Every reader takes a reshaped edge from before the reshapes when it has the same shape there."""
    edges = graph.edges
    sources: dict[str, list[str]] = {}  # edge -> the edges before the reshapes above it, nearest first
    nodes = []
    for node in graph.nodes:
        inputs = tuple(
            next((far for far in reversed(sources.get(name, [])) if edges[far].shape == edges[name].shape), name)
            for name in node.inputs
        )
        if isinstance(node, Reshape):
            inputs = (*sources.get(node.inputs[0], [node.inputs[0]])[-1:],)
            sources[node.output.name] = [node.inputs[0], *sources.get(node.inputs[0], [])]
        nodes.append(replace(node, inputs=inputs))
    return _needed(replace(graph, nodes=tuple(nodes)))


def _fold_once(graph: Graph) -> tuple[Graph, bool]:
    readers = _readers(graph)
    outputs = {terminal.edge.name for terminal in graph.outputs}
    writers = {node.output.name: node for node in graph.nodes}
    for node in graph.nodes:
        if not isinstance(node, Dense):
            continue
        source = node.inputs[0]
        previous = writers.get(source)
        if (
            isinstance(previous, Dense)
            and readers[source] == 1
            and source not in outputs
            and _is_smaller(previous, node)
        ):
            merged = replace(
                node,
                inputs=previous.inputs,
                weight=previous.weight @ node.weight,
                bias=previous.bias @ node.weight + node.bias,
            )
            return _rebuilt(graph, {previous.name: None, node.name: merged}), True
        if _is_diagonal(node) and previous is None and readers[source] == 1 and node.output.name not in outputs:
            return _scaled_on_host(graph, node), True
    return graph, False


def _readers(graph: Graph) -> dict[str, int]:
    count = dict.fromkeys(graph.edges, 0)
    for node in graph.nodes:
        for name in node.inputs:
            count[name] += 1
    return count


def _is_smaller(first: Dense, second: Dense) -> bool:
    """Whether the product of both has no more products than the two; a bottleneck's has."""
    before = np.count_nonzero(first.weight) + np.count_nonzero(second.weight)
    return bool(np.count_nonzero(first.weight @ second.weight) <= before)


def _is_diagonal(node: Dense) -> bool:
    rows, columns = node.weight.shape
    return rows == columns and bool(np.all(node.weight == np.diag(np.diag(node.weight))))


def _rebuilt(graph: Graph, changes: dict[str, Node | None]) -> Graph:
    nodes = [changes.get(node.name, node) for node in graph.nodes]
    return replace(graph, nodes=tuple(node for node in nodes if node is not None))


def _scaled_on_host(graph: Graph, node: Dense) -> Graph:
    scale = HostOperation(
        kind=HostOperationKind.SCALE,
        scale=tuple(np.diag(node.weight).tolist()),
        offset=tuple(node.bias.tolist()),
    )
    inputs: list[Terminal] = []
    for terminal in graph.inputs:
        mine = terminal.edge.name == node.inputs[0]
        inputs.append(replace(terminal, host=(*terminal.host, scale)) if mine else terminal)
    # a Reshape to the same shape costs nothing and keeps the edge's name for its readers
    kept = Reshape(name=node.name, inputs=node.inputs, output=node.output)
    return replace(_rebuilt(graph, {node.name: kept}), inputs=tuple(inputs))


def with_scaled_inputs(graph: Graph, data: Mapping[str, Real]) -> Graph:
    """The same graph with each input element scaled by a power of two on the host, so that all have similar ranges.

    Only inputs that nothing but one Dense node reads are changed: its weights take the scales back.

    Parameters
    ----------
    data : mapping of str to ndarray of float64, shape (samples, *input shape)
    """
    readers = _readers(graph)
    for node in graph.nodes:
        terminal = next((t for t in graph.inputs if node.inputs == (t.edge.name,)), None)
        if not isinstance(node, Dense) or terminal is None or terminal.host or readers[terminal.edge.name] != 1:
            continue
        largest = np.abs(data[terminal.edge.name]).max(axis=0)
        exponents = np.ceil(np.log2(np.where(largest > 0, largest, 1.0)))
        scale = np.exp2(-np.clip(exponents, -MAX_EXPONENT, MAX_EXPONENT))
        host = HostOperation(
            kind=HostOperationKind.SCALE, scale=tuple(scale.tolist()), offset=tuple(np.zeros_like(scale).tolist())
        )
        inputs = tuple(replace(t, host=(host,)) if t is terminal else t for t in graph.inputs)
        changed = replace(node, weight=node.weight / scale[:, None])
        graph = replace(_rebuilt(graph, {node.name: changed}), inputs=inputs)
    return graph
