"""A second evaluator of integer graphs, in exact fractions, written from docs/graph.md alone; slow and obvious."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from gatesmith.fixed import FixedPoint, Overflow, Rounding
from gatesmith.model.graph import Graph
from gatesmith.model.nodes import Node

__all__ = ["infer"]

Numbers = list[Fraction]


def infer(graph: Graph, integers: NDArray[np.int64]) -> NDArray[np.int64]:
    """What ``gatesmith.model.reference.infer`` has to give."""
    return np.array([_sample(graph, [int(n) for n in row]) for row in integers], dtype=np.int64)


def _sample(graph: Graph, row: list[int]) -> list[int]:
    values: dict[str, Numbers] = {}
    for terminal in graph.inputs:
        taken, row = row[: terminal.edge.elements], row[terminal.edge.elements :]
        values[terminal.edge.name] = [n * _step(terminal.edge.fixed) for n in taken]
    edges = graph.edges
    for node in graph.nodes:
        given = [values[name] for name in node.inputs]
        edge = edges[node.inputs[0]]
        result = _node(node, given, edge.fixed, edge.shape)
        units = [value / _step(node.output.fixed) for value in result]
        assert all(unit.denominator == 1 for unit in units), f"{node.name} is off its grid"
        assert all(node.output.fixed.min_integer <= u <= node.output.fixed.max_integer for u in units), node.name
        values[node.output.name] = result
    return [int(v / _step(t.edge.fixed)) for t in graph.outputs for v in values[t.edge.name]]


def _step(format: FixedPoint) -> Fraction:
    return Fraction(2) ** -format.fraction_bits


def _node(node: Node, given: list[Numbers], format: FixedPoint, shape: tuple[int, ...]) -> Numbers:
    x = given[0]
    match node.kind:
        case "Dense":
            return _dense(node, x)
        case "Scale":
            factors = [[Fraction(v) for v in np.broadcast_to(c, shape).ravel()] for c in (node.weight, node.bias)]
            return [a * weight + bias for a, weight, bias in zip(x, *factors, strict=True)]
        case "Max":
            return [max(x[i : i + shape[-1]]) for i in range(0, len(x), shape[-1])]
        case "Add":
            return [a + b for a, b in zip(*given, strict=True)]
        case "ReLU":
            return [max(a, Fraction(0)) for a in x]
        case "Clip":
            return [min(max(a, Fraction(node.low)), Fraction(node.high)) for a in x]
        case "LookupTable":
            return [Fraction(node.table[int(a / _step(format)) - format.min_integer]) for a in x]
        case "Concat" | "Reshape" | "Gather":
            return _arranged(node, given)
        case "ArgMax":
            return [Fraction(x.index(max(x)))]
        case "TreeEnsemble":
            leaves = [node.value[_leaf(node, x, int(root), format.max_integer * _step(format))] for root in node.root]
            return [sum((Fraction(leaf[j]) for leaf in leaves), Fraction(node.bias[j])) for j in range(len(node.bias))]
        case "Requantize":
            return [_requantized(a, node) for a in x]
    raise AssertionError(node.kind)


def _arranged(node: Node, given: list[Numbers]) -> Numbers:
    if node.kind == "Gather":
        return [Fraction(node.fill) if place < 0 else given[0][place] for place in node.index.ravel()]
    return [a for part in given for a in part]


def _dense(node: Node, x: Numbers) -> Numbers:
    *groups, rows, columns = node.weight.shape
    count = groups[0] if groups else 1
    weight, bias = node.weight.reshape(count, rows, columns), node.bias.reshape(count, columns)
    result = []
    for i in range(0, len(x), rows):
        group = i // rows % count
        for j in range(columns):
            terms = (a * Fraction(w) for a, w in zip(x[i : i + rows], weight[group, :, j], strict=True))
            result.append(sum(terms, Fraction(bias[group, j])))
    return result


def _leaf(node: Node, x: Numbers, place: int, highest: Fraction) -> int:
    if place < 0:
        return -place - 1
    value = x[node.feature[place]]
    if node.missing is not None and value == highest:
        left = bool(node.missing[place])
    else:
        left = value <= Fraction(node.threshold[place])
    return _leaf(node, x, int((node.left if left else node.right)[place]), highest)


def _requantized(value: Fraction, node: Node) -> Fraction:
    format = node.output.fixed
    units = value / _step(format)
    whole = math.floor(units)
    rest = units - whole
    half = Fraction(1, 2)
    up = rest > half or (rest == half and (node.rounding is Rounding.HALF_UP or whole % 2 == 1))
    whole += int(up and node.rounding is not Rounding.TRUNCATE)
    if node.overflow is Overflow.WRAP:
        span = 1 << format.width
        whole = (whole - format.min_integer) % span + format.min_integer
    return min(max(whole, format.min_integer), format.max_integer) * _step(format)
