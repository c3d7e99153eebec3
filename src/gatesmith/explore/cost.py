"""A quick guess at the adders of an integer graph, to rank what the search may try next; the estimate confirms it.

A product with a constant takes one adder for each digit of its canonical signed form beyond the first, and each adder
is about as wide as its input and the carries above it. Shared subexpressions are left out: they shrink all matrices of
a network by a similar share.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gatesmith.model.graph import Graph
from gatesmith.model.nodes import Dense, LookupTable, Requantize, grid_bits

__all__ = ["adder_bits", "planning_effort", "signed_digits"]

FEWEST_TABLE_BITS = 4


def adder_bits(graph: Graph) -> float:
    """Bits of all adders and LUTs, roughly."""
    total = 0.0
    edges = graph.edges
    for node in graph.nodes:
        width = edges[node.inputs[0]].fixed.width
        if isinstance(node, Dense):
            total += _products(node, width)
        elif isinstance(node, Requantize):
            total += node.output.elements * node.output.fixed.width
        elif isinstance(node, LookupTable):
            rows = 2.0 ** max(width - FEWEST_TABLE_BITS, 0)
            total += node.output.elements * node.output.fixed.width * rows / 2
    return total


def _products(node: Dense, width: int) -> float:
    digits = signed_digits(node.weight).reshape(-1, *node.weight.shape[-2:]).sum(axis=1)
    terms = digits + (node.bias.reshape(digits.shape) != 0)
    adders = np.maximum(terms - 1, 0)
    positions = node.output.elements / digits.size
    return float(np.sum(adders * (width + 1 + np.log2(adders + 1) / 2)) * max(positions, 1.0))


def planning_effort(graph: Graph) -> float:
    """What the engine's plan of an integer graph takes, in a unit of its own.

    Measured with da4ml 0.6 on matrices of 32 to 784 rows and 16 to 256 columns of 4 to 8 bits: the time of one grows
    with the square of its digits and shrinks with the root of its columns, within a factor of two either way.
    """
    total = 0.0
    for node in graph.nodes:
        if isinstance(node, Dense):
            matrices = node.weight.reshape(-1, *node.weight.shape[-2:])
            digits = signed_digits(matrices).sum(axis=(1, 2)).astype(np.float64)
            columns = node.weight.shape[-1]
            positions = node.output.elements / (len(matrices) * columns)
            total += positions * float(np.sum(digits**2)) / math.sqrt(columns)
    return total


def signed_digits(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Digits that are not zero in the canonical signed form of numbers on a binary grid."""
    # Ref: H. Prodinger, On binary representations of integers with digits -1, 0, 1 (2000): they are those of n xor 3n
    whole = np.abs(np.ldexp(values, grid_bits(values))).astype(np.int64)
    count = np.zeros(whole.shape, dtype=np.int64)
    bits = whole ^ (3 * whole)
    for _ in range(math.ceil(math.log2(int(bits.max(initial=0)) + 1)) + 1):
        count += bits & 1
        bits >>= 1
    return count
