"""The golden answer: what a graph computes, bit for bit, in numpy alone.

Every other level (the adder graph, the simulated RTL, the netlist, the bitstream, the board) is compared with this
one. It is fast because it is float64 matrix products: a graph proves when it is made that every value and every
partial sum stays below 2**53 steps, and there float64 is integer arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import TensorMismatch
from gatesmith.model.graph import Graph

__all__ = ["evaluate", "infer", "infer_real"]

Real = NDArray[np.float64]

CHUNK = 1024
"""Samples evaluated at once: the widest edges of small models then stay in the cache."""


def evaluate(graph: Graph, values: Mapping[str, Real]) -> dict[str, Real]:
    """Every edge of a float or integer graph for one batch.

    Parameters
    ----------
    values : mapping of str to ndarray of float64, shape (batch, *edge shape)
        Real values of the graph's input edges (after the host's operations).

    Returns
    -------
    dict of str to ndarray of float64
        Real values of all edges by name.
    """
    found: dict[str, Real] = {terminal.edge.name: values[terminal.edge.name] for terminal in graph.inputs}
    edges = graph.edges
    for node in graph.nodes:
        given = [found[name] for name in node.inputs]
        found[node.output.name] = node.evaluate(given, [edges[name].format for name in node.inputs])
    return found


def infer(graph: Graph, integers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Output integers of an integer graph.

    Parameters
    ----------
    integers : ndarray of int64, shape (batch, input elements)
        The inputs' integers in the order of the graph, row-major; each within its format.

    Returns
    -------
    ndarray of int64, shape (batch, output elements)

    Raises
    ------
    TensorMismatch
        When the width is wrong or an integer is outside its format.
    """
    widths = [terminal.edge.elements for terminal in graph.inputs]
    if integers.ndim != 2 or integers.shape[1] != sum(widths):
        raise TensorMismatch(f"integers of shape {list(integers.shape)}, [batch, {sum(widths)}] is needed")
    parts = np.split(integers, np.cumsum(widths)[:-1], axis=1)
    for terminal, part in zip(graph.inputs, parts, strict=True):
        format = terminal.edge.fixed
        if part.size and (part.min() < format.min_integer or part.max() > format.max_integer):
            raise TensorMismatch(
                f"input {terminal.edge.name!r} holds {part.min()} to {part.max()}, its format {format} has "
                f"{format.min_integer} to {format.max_integer}"
            )
    out = np.empty((len(integers), sum(terminal.edge.elements for terminal in graph.outputs)), dtype=np.int64)
    for start in range(0, len(integers), CHUNK):
        out[start : start + CHUNK] = _infer_chunk(graph, [part[start : start + CHUNK] for part in parts])
    return out


def _infer_chunk(graph: Graph, parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    values = {
        terminal.edge.name: terminal.edge.fixed.dequantize(part).reshape(len(part), *terminal.edge.shape)
        for terminal, part in zip(graph.inputs, parts, strict=True)
    }
    found = evaluate(graph, values)
    columns = [
        np.ldexp(found[t.edge.name].reshape(len(parts[0]), -1), t.edge.fixed.fraction_bits) for t in graph.outputs
    ]
    return np.concatenate(columns, axis=1).astype(np.int64)


def infer_real(graph: Graph, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """Outputs of a graph for a client's tensors, the host's operations included.

    A float graph gives the float model's answer; an integer graph rounds the inputs as the host of a device does.

    Parameters
    ----------
    tensors : mapping of str to ndarray, shape (batch, *edge shape)

    Returns
    -------
    dict of str to ndarray of float64, shape (batch, *edge shape)
    """
    values = {}
    for terminal in graph.inputs:
        value = np.asarray(tensors[terminal.edge.name], dtype=np.float64)
        for operation in terminal.host:
            value = operation.apply(value)
        if terminal.edge.format is not None:
            value = terminal.edge.format.dequantize(terminal.edge.format.quantize(value))
        values[terminal.edge.name] = value
    found = evaluate(graph, values)
    results = {}
    for terminal in graph.outputs:
        value = found[terminal.edge.name]
        for operation in terminal.host:
            value = operation.apply(value)
        results[terminal.edge.name] = value
    return results
