"""Small weights of a float graph set to zero: each is an adder less, and what that changes is for others to judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from gatesmith.errors import ModelError
from gatesmith.model.graph import Graph
from gatesmith.model.nodes import Dense, Node

__all__ = ["prune"]


def prune(graph: Graph, shares: Mapping[str, float]) -> Graph:
    """Set the smallest weights of Dense nodes to zero.

    Parameters
    ----------
    graph : Graph
        A float graph.
    shares : mapping of str to float
        By name of a node the share of its weights, 0 or more and less than 1. A column keeps its largest weight.

    Raises
    ------
    ModelError
        When a name is not that of a Dense node, or a share is out of range.
    """
    dense = {node.name for node in graph.nodes if isinstance(node, Dense)}
    for name, share in shares.items():
        if name not in dense:
            raise ModelError(f"graph {graph.name!r} has no Dense node {name!r} to prune", node=name)
        if not 0 <= share < 1:
            raise ModelError(
                f"a share of {share:g} of node {name!r} is to be pruned, 0 or more and less than 1 is needed"
            )
    return replace(graph, nodes=tuple(_pruned(node, shares.get(node.name, 0.0)) for node in graph.nodes))


def _pruned(node: Node, share: float) -> Node:
    if not isinstance(node, Dense) or share == 0:
        return node
    size = np.abs(node.weight)
    limit = np.sort(size, axis=None)[int(share * size.size)]
    kept = (size >= limit) | (size == size.max(axis=-2, keepdims=True))
    return replace(node, weight=np.where(kept, node.weight, 0.0))
