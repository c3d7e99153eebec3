"""Float graph to an equal, smaller float graph: products merged, scaling moved into weights or to the host.

Two Dense nodes in a row are one unless that makes more products; a Scale at an input (a scaler) is a host operation,
declared in the contract, so that inputs of very different ranges each get the whole of their bits. Nodes that no
output needs are gone, and so are arrangements that another one undoes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from gatesmith.model.graph import Graph
from gatesmith.model.node import Real, leading_to
from gatesmith.model.nodes import Dense, Gather, Reshape
from gatesmith.quantize.rewrite import Rewriter, host_scale
from gatesmith.quantize.scales import moved_scale

__all__ = ["fold", "with_scaled_inputs"]

MAX_EXPONENT = 120
"""Inputs are scaled by at most two to this power."""


def fold(graph: Graph) -> Graph:
    """Simplify; the result computes the same up to float64 rounding.

    Parameters
    ----------
    graph : Graph
        A float graph.
    """
    graph = _without_detours(_needed(graph))
    rules = (_arranged_once, _one_product, moved_scale)
    while True:
        changed = next((new for rule in rules if (new := rule(graph)) is not None), None)
        if changed is None:
            return graph
        graph = _without_detours(changed)


def _needed(graph: Graph) -> Graph:
    """Without nodes that no output depends on."""
    return replace(graph, nodes=leading_to(graph.nodes, (terminal.edge.name for terminal in graph.outputs)))


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


def _arranged_once(graph: Graph) -> Graph | None:
    """One Gather where there were two, or a Gather and a Reshape; none where it changes nothing but the shape."""
    writers = {node.output.name: node for node in graph.nodes}
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        before = writers.get(node.inputs[0])
        if isinstance(node, Gather):
            elements = graph.edges[node.inputs[0]].elements
            if node.index.size == elements and (node.index.ravel() == np.arange(elements)).all():
                same = Reshape(name=node.name, inputs=node.inputs, output=node.output)
                return rewriter.rebuilt({node.name: [same]})
            if isinstance(before, Reshape):
                return rewriter.rebuilt({node.name: [replace(node, inputs=before.inputs)]})
            if isinstance(before, Gather) and _fills_alike(before, node):
                index = np.where(node.index < 0, -1, before.index.ravel()[node.index])
                fill = before.fill if before.index.min() < 0 else node.fill
                return rewriter.rebuilt({node.name: [replace(node, inputs=before.inputs, index=index, fill=fill)]})
        elif isinstance(node, Reshape) and isinstance(before, Gather) and rewriter.is_inner(before.output.name):
            index = before.index.reshape(node.output.shape)
            return rewriter.rebuilt({before.name: [], node.name: [replace(before, output=node.output, index=index)]})
    return None


def _fills_alike(first: Gather, second: Gather) -> bool:
    return first.index.min() >= 0 or second.index.min() >= 0 or first.fill == second.fill


def _one_product(graph: Graph) -> Graph | None:
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        if not isinstance(node, Dense) or rewriter.keeps(node):
            continue
        source = node.inputs[0]
        previous = rewriter.writers.get(source)
        if (
            isinstance(previous, Dense)
            and rewriter.is_inner(source)
            and not rewriter.keeps(previous)
            and _is_smaller(previous, node)
        ):
            merged = replace(
                node,
                inputs=previous.inputs,
                weight=previous.weight @ node.weight,
                bias=previous.bias @ node.weight + node.bias,
            )
            return rewriter.rebuilt({previous.name: [], node.name: [merged]})
    return None


def _is_smaller(first: Dense, second: Dense) -> bool:
    """Whether the product of both has no more products than the two; a bottleneck's has."""
    if first.weight.ndim != 2 or second.weight.ndim != 2:
        return False
    before = np.count_nonzero(first.weight) + np.count_nonzero(second.weight)
    return bool(np.count_nonzero(first.weight @ second.weight) <= before)


def with_scaled_inputs(graph: Graph, data: Mapping[str, Real]) -> Graph:
    """The same graph with each input element scaled by a power of two on the host, so that all have similar ranges.

    Only flat inputs that nothing but one Dense node reads are changed: its weights take the scales back.

    Parameters
    ----------
    data : mapping of str to ndarray of float64, shape (samples, *input shape)
    """
    for name in [node.name for node in graph.nodes if isinstance(node, Dense)]:
        rewriter = Rewriter(graph)
        node = next(node for node in graph.nodes if node.name == name)
        terminal = rewriter.input(node.inputs[0])
        if not isinstance(node, Dense) or terminal is None or terminal.host or len(terminal.edge.shape) != 1:
            continue
        if not rewriter.is_inner(terminal.edge.name) or rewriter.keeps(node):
            continue
        largest = np.abs(data[terminal.edge.name]).max(axis=0)
        exponents = np.ceil(np.log2(np.where(largest > 0, largest, 1.0)))
        scale = np.exp2(-np.clip(exponents, -MAX_EXPONENT, MAX_EXPONENT))
        host = host_scale(scale, np.zeros_like(scale))
        inputs = tuple(replace(t, host=(host,)) if t is terminal else t for t in graph.inputs)
        changed = replace(node, weight=node.weight / scale[:, None])
        graph = rewriter.rebuilt({node.name: [changed]}, inputs=inputs)
    return graph
