"""A tree ensemble as the logic that computes it: shared comparisons, one hot leaf a tree, tables, a constant.

Equal comparisons are one, comparisons whose answer follows from those above them are gone, and so are splits whose
sides agree. Each tree's leaves are moved by a constant of its own, so that they are unsigned and have few ones; what
all these constants add up to is chosen such that taking them back concerns the highest bits of the sum alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import UnsupportedOperation
from gatesmith.fixed import FixedPoint
from gatesmith.gateware.trace import AdderGraph
from gatesmith.model.ensemble import TreeEnsemble
from gatesmith.model.graph import Graph, Terminal
from gatesmith.model.node import leading_to
from gatesmith.model.nodes import ArgMax, Reshape

__all__ = ["Column", "Comparison", "Forest", "Path", "parted", "plant"]

Integers = NDArray[np.int64]


class Comparison(NamedTuple):
    """The comparison ``x <= bound`` of an element, which a missing value passes where ``missing`` says so.

    ``bound`` is on the input's bits with the sign bit inverted, so that they are unsigned.
    """

    element: int
    bound: int
    missing: bool = False


Branch: TypeAlias = "int | tuple[int, Branch, Branch]"
"""A leaf's number, or a comparison with the branch for yes and the one for no."""

Path = tuple[tuple[int, bool], ...]
"""Comparisons and their answers, from the root to a leaf."""

TOP_BITS = 4
"""Highest bits of a sum that its constant may concern."""

MAX_SHIFTS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One output: a table for each tree, of unsigned integers by leaf, and a constant; their sum modulo 2**width."""

    tables: tuple[Integers, ...]
    constant: int
    width: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Forest:
    """The plan of the trees engine.

    ``paths`` are the leaves of each tree, by the numbers of ``tests``. ``front`` is the plan of what computes before
    the trees; ``graph`` begins behind it.
    """

    graph: Graph
    input: FixedPoint
    tests: tuple[Comparison, ...]
    paths: tuple[tuple[Path, ...], ...]
    columns: tuple[Column, ...]
    front: AdderGraph | None = None

    def infer(self, integers: Integers) -> Integers:
        """Compute with the tests, paths and tables instead of the graph's own trees: a witness for the plan.

        Parameters
        ----------
        integers : ndarray of int64, shape (batch, input elements)

        Returns
        -------
        ndarray of int64, shape (batch, output elements)
        """
        if self.front is not None:
            integers = self.front.infer(integers)
        unsigned = integers - self.input.min_integer
        last = (1 << self.input.width) - 1
        answers = [
            (unsigned[:, test.element] <= test.bound) | (test.missing & (unsigned[:, test.element] == last))
            for test in self.tests
        ]
        hot = [[self._is_hot(path, answers, len(integers)) for path in tree] for tree in self.paths]
        sums = np.empty((len(integers), len(self.columns)), dtype=np.int64)
        for place, column in enumerate(self.columns):
            total = np.full(len(integers), column.constant)
            for leaves, table in zip(hot, column.tables, strict=True):
                for leaf, value in zip(leaves, table, strict=True):
                    total += leaf * value
            sums[:, place] = total % (1 << column.width)
        return self._behind(sums)

    @staticmethod
    def _is_hot(path: Path, answers: list[NDArray[np.bool_]], count: int) -> NDArray[np.bool_]:
        hot = np.ones(count, dtype=bool)
        for test, wanted in path:
            hot &= answers[test] if wanted else ~answers[test]
        return hot

    def _behind(self, sums: Integers) -> Integers:
        """The rest of the graph, from the ensemble's edge on."""
        ensemble = next(node for node in self.graph.nodes if isinstance(node, TreeEnsemble))
        format = ensemble.output.fixed
        sums = np.where(format.signed & (sums > format.max_integer), sums - (1 << format.width), sums)
        values = {ensemble.output.name: format.dequantize(sums)}
        for node in self.graph.nodes[self.graph.nodes.index(ensemble) + 1 :]:
            values[node.output.name] = node.evaluate([values[node.inputs[0]]], [None])
        parts = [t.edge.fixed.quantize(values[t.edge.name]).reshape(len(sums), -1) for t in self.graph.outputs]
        return np.concatenate(parts, axis=1)


def parted(graph: Graph) -> tuple[Graph | None, Graph]:
    """What computes before the trees of an integer graph, if something does, and the rest of the graph."""
    ensemble = next((node for node in graph.nodes if isinstance(node, TreeEnsemble)), None)
    if ensemble is None:
        return None, graph
    first = leading_to(graph.nodes, ensemble.inputs)
    if all(isinstance(node, Reshape) for node in first):
        return None, graph
    between = Terminal(edge=graph.edges[ensemble.inputs[0]])
    before = {node.name for node in first}
    rest = tuple(node for node in graph.nodes if node.name not in before)
    known = {between.edge.name, *(node.output.name for node in rest)}
    if not known.issuperset(name for node in rest for name in node.inputs) or not known.issuperset(
        terminal.edge.name for terminal in graph.outputs
    ):
        raise UnsupportedOperation(f"graph {graph.name!r} reads what is before its trees elsewhere too")
    return replace(graph, nodes=first, outputs=(between,)), replace(graph, inputs=(between,), nodes=rest)


def plant(graph: Graph) -> Forest:
    """The plan of an integer graph: reshapes, one ensemble, and reshapes and argmax behind it.

    Raises
    ------
    UnsupportedOperation
        When the graph holds anything else.
    """
    ensemble = _only_ensemble(graph)
    format = graph.edges[ensemble.inputs[0]].fixed
    bounds = np.floor(np.ldexp(ensemble.threshold, format.fraction_bits)) - format.min_integer
    units = np.ldexp(ensemble.value, ensemble.output.fixed.fraction_bits).astype(np.int64)
    planter = _Planter(ensemble, np.clip(bounds, -1, 2.0**format.width).astype(np.int64), units, format.width)
    try:
        trees = [_paths(planter.branch(int(root), {})) for root in ensemble.root]
    except RecursionError:
        raise UnsupportedOperation(
            f"node {ensemble.name!r} has a tree of hundreds of levels; limit the depth", node=ensemble.name
        ) from None
    width = ensemble.output.fixed.width
    bias = np.ldexp(ensemble.bias, ensemble.output.fixed.fraction_bits).astype(np.int64)
    columns = tuple(
        _column([units[[leaf for _, leaf in tree], place] for tree in trees], int(bias[place]), width)
        for place in range(units.shape[1])
    )
    return Forest(
        graph=graph,
        input=format,
        tests=tuple(planter.tests),
        paths=tuple(tuple(path for path, _ in tree) for tree in trees),
        columns=columns,
    )


def _only_ensemble(graph: Graph) -> TreeEnsemble:
    for node in graph.nodes:
        if not isinstance(node, TreeEnsemble | Reshape | ArgMax):
            raise UnsupportedOperation(f"node {node.name!r} ({node.kind}) has no gateware of trees", node=node.name)
    ensembles = [node for node in graph.nodes if isinstance(node, TreeEnsemble)]
    before = graph.nodes[: graph.nodes.index(ensembles[0])] if ensembles else ()
    if len(ensembles) != 1 or len(graph.inputs) != 1 or any(isinstance(node, ArgMax) for node in before):
        raise UnsupportedOperation(
            f"graph {graph.name!r} has {len(ensembles)} ensembles of trees and {len(graph.inputs)} inputs, the trees "
            f"engine takes one of each"
        )
    edges = {terminal.edge.name for terminal in graph.inputs} | {node.output.name for node in before}
    late = [node for node in graph.nodes[len(before) + 1 :] if node.inputs[0] in edges]
    if late or any(terminal.edge.name in edges for terminal in graph.outputs):
        raise UnsupportedOperation(f"graph {graph.name!r} gives out its input, which the trees engine does not")
    return ensembles[0]


class _Known(NamedTuple):
    """What an element can still be: a number of an interval, or missing."""

    low: int
    high: int
    missing: bool


class _Planter:
    """Walks the trees and collects the comparisons."""

    def __init__(self, ensemble: TreeEnsemble, bounds: Integers, units: Integers, width: int) -> None:
        self.ensemble, self.bounds, self.units = ensemble, bounds, units
        last, may_miss = (1 << width) - 1, ensemble.missing is not None
        self.anything = _Known(0, last - may_miss, may_miss)
        self.tests: dict[Comparison, int] = {}

    def branch(self, place: int, known: dict[int, _Known]) -> Branch:
        """What is left of a subtree when something is known of elements."""
        if place < 0:
            return ~place
        trees = self.ensemble
        element, bound = int(trees.feature[place]), int(self.bounds[place])
        now = known.get(element, self.anything)
        left, right = int(trees.left[place]), int(trees.right[place])
        misses_left = trees.missing is not None and bool(trees.missing[place])
        bound = max(now.low - 1, min(bound, now.high))
        passes = _Known(now.low, bound, now.missing and misses_left)
        fails = _Known(bound + 1, now.high, now.missing and not misses_left)
        if not fails.missing and fails.low > fails.high:
            return self.branch(left, known)
        if not passes.missing and passes.low > passes.high:
            return self.branch(right, known)
        yes, no = self.branch(left, known | {element: passes}), self.branch(right, known | {element: fails})
        if isinstance(yes, int) and isinstance(no, int) and np.array_equal(self.units[yes], self.units[no]):
            return yes
        if passes.low > passes.high:  # only what is missing passes: as well, only numbers fail
            return self._number(Comparison(element, self.anything.high)), no, yes
        return self._number(Comparison(element, bound, passes.missing), either=not now.missing), yes, no

    def _number(self, test: Comparison, *, either: bool = False) -> int:
        """The comparison's number; where nothing is missing, that of one which differs in what it makes of that."""
        other = test._replace(missing=True)
        if either and test not in self.tests and other in self.tests:
            test = other
        return self.tests.setdefault(test, len(self.tests))


def _paths(branch: Branch, path: Path = ()) -> list[tuple[Path, int]]:
    if isinstance(branch, int):
        return [(path, branch)]
    test, yes, no = branch
    return _paths(yes, (*path, (test, True))) + _paths(no, (*path, (test, False)))


def _column(values: Sequence[Integers], bias: int, width: int) -> Column:
    """Tables of unsigned integers with few ones; their shifts leave a constant with as many zeros at its end."""
    tables = [value - value.min() for value in values]
    room = [(1 << int(table.max()).bit_length()) - 1 - int(table.max()) for table in tables]
    shifts = [_shift(table, spare) for table, spare in zip(tables, room, strict=True)]
    constant = bias + sum(int(value.min()) for value in values)
    zeros = max(0, width - TOP_BITS)
    while zeros and sum(room) - sum(shifts) < (1 << zeros) - 1:
        zeros -= 1
    missing = (constant - sum(shifts)) % (1 << zeros)
    for i in sorted(range(len(tables)), key=lambda i: shifts[i] - room[i]):
        more = min(missing, room[i] - shifts[i])
        shifts[i], missing = shifts[i] + more, missing - more
    return Column(
        tables=tuple(table + shift for table, shift in zip(tables, shifts, strict=True)),
        constant=constant - sum(shifts),
        width=width,
    )


def _shift(table: Integers, room: int) -> int:
    """What to add to a table so that the rarer value of each bit is as rare as possible."""
    shifts = np.arange(min(room, MAX_SHIFTS - 1) + 1)
    bits = (table + shifts[:, None])[:, :, None] >> np.arange(int(table.max() + room).bit_length()) & 1
    ones = bits.sum(axis=1)
    return int(np.argmin(np.minimum(ones, len(table) - ones).sum(axis=1)))
