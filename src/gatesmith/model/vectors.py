"""Integers to prove a design with: every corner of its formats, and random ones between."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gatesmith.fixed import FixedPoint
from gatesmith.model.graph import Graph

__all__ = ["corner_vectors", "random_vectors"]

Integers = NDArray[np.int64]


def corner_vectors(graph: Graph) -> Integers:
    """Minimum, maximum, zero, alternating ends, and each element alone at either end.

    Returns
    -------
    ndarray of int64, shape (corners, input elements)
    """
    formats = _formats(graph)
    low = np.array([format.min_integer for format in formats], dtype=np.int64)
    high = np.array([format.max_integer for format in formats], dtype=np.int64)
    zero = np.zeros_like(low)
    even = np.arange(len(formats)) % 2 == 0
    rows = [low, high, zero, np.where(even, low, high), np.where(even, high, low)]
    # alternating bits within each element
    pattern = np.array([0x5555555555555 & f.max_integer for f in formats], dtype=np.int64)
    rows += [pattern, high ^ pattern]
    single = np.concatenate([np.diag(low), np.diag(high)])
    return np.concatenate([np.stack(rows), single])


def random_vectors(graph: Graph, count: int, *, seed: int = 1) -> Integers:
    """Uniform over each element's whole format.

    Returns
    -------
    ndarray of int64, shape (count, input elements)
    """
    generator = np.random.default_rng(seed)
    columns = [
        generator.integers(format.min_integer, format.max_integer, size=count, dtype=np.int64, endpoint=True)
        for format in _formats(graph)
    ]
    return np.stack(columns, axis=1)


def _formats(graph: Graph) -> list[FixedPoint]:
    return [terminal.edge.fixed for terminal in graph.inputs for _ in range(terminal.edge.elements)]
