"""Ranges of neighbouring layers made equal: what one output of a Dense node loses, its reader's row of weights gains.

Between two Dense nodes with nothing but ReLU in between, an element may be multiplied by any positive number and the
next row of weights divided by it. A tensor's one scale then fits all its elements.

# Ref: M. Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction (2019), section 4.1
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gatesmith.model.graph import Graph
from gatesmith.model.nodes import Dense, Node, ReLU

__all__ = ["equalize"]

ROUNDS = 20
CLOSE = 1e-3


def equalize(graph: Graph) -> Graph:
    """The same function with more even weights; the graph itself where nothing can be moved.

    Parameters
    ----------
    graph : Graph
        A float graph.
    """
    pairs = _pairs(graph)
    nodes: dict[str, Node] = {node.name: node for node in graph.nodes}
    for _ in range(ROUNDS if pairs else 0):
        largest = 0.0
        for first, second in pairs:
            a, b = nodes[first], nodes[second]
            if isinstance(a, Dense) and isinstance(b, Dense):
                nodes[first], nodes[second], change = _evened(a, b)
                largest = max(largest, change)
        if largest < CLOSE:
            break
    return replace(graph, nodes=tuple(nodes[node.name] for node in graph.nodes)) if pairs else graph


def _pairs(graph: Graph) -> list[tuple[str, str]]:
    """Names of Dense nodes whose one reader is, behind a ReLU at most, another."""
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    outputs = {terminal.edge.name for terminal in graph.outputs}

    def reader(edge: str) -> Node | None:
        found = readers.get(edge, [])
        return found[0] if len(found) == 1 and edge not in outputs else None

    pairs = []
    for node in graph.nodes:
        after = reader(node.output.name)
        if isinstance(after, ReLU):
            after = reader(after.output.name)
        if _is_plain(node) and after is not None and _is_plain(after):
            pairs.append((node.name, after.name))
    return pairs


def _is_plain(node: Node) -> bool:
    return isinstance(node, Dense) and node.weight.ndim == 2


def _evened(first: Dense, second: Dense) -> tuple[Dense, Dense, float]:
    columns, rows = np.abs(first.weight).max(axis=0), np.abs(second.weight).max(axis=1)
    usable = (columns > 0) & (rows > 0)
    factor = np.ones_like(columns)
    factor[usable] = np.sqrt(rows[usable] / columns[usable])
    change = float(np.max(np.abs(np.log(factor))))
    return (
        replace(first, weight=first.weight * factor, bias=first.bias * factor),
        replace(second, weight=second.weight / factor[:, None]),
        change,
    )
