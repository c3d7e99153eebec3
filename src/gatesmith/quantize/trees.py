"""Formats for decision trees: each threshold on the coarsest grid that keeps the decisions, leaves with enough bits.

The host maps each feature's thresholds onto the whole of an unsigned format, so features of any range have the same
width. A threshold then moves to the coarsest power-of-two grid on which it parts the calibration samples as before,
except for a small share of them: a comparison in gateware looks only at the bits above that grid.

Where the calibration data hold missing values (NaN) the highest integer stands for them, and numbers stay below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.errors import AccuracyLost
from gatesmith.fixed import FixedPoint
from gatesmith.model.ensemble import TreeEnsemble
from gatesmith.model.graph import Graph, Terminal
from gatesmith.model.node import Node, Real
from gatesmith.model.nodes import Clip, Reshape
from gatesmith.quantize.allocate import OUTPUT_BITS, allocate, on_host

__all__ = [
    "Goal",
    "Placed",
    "allocate_trees",
    "denser",
    "fill",
    "first_computing",
    "holds_trees",
    "median_of",
    "rounded",
    "source",
    "with_thresholds",
    "with_values",
]

KEPT = 0.9998
"""Share of the calibration samples that keep their class, where the bits that may be used allow it: more than the
99.9 % that other samples are to keep, because the thresholds were moved to please these."""

KEPT_BY_THRESHOLDS = 0.9999
"""The same, before the leaves are rounded."""

BUDGETS = (*(2.0**-i for i in range(6, 16)), 0.0)
"""Shares of the samples that a single threshold may send the other way, the cheapest first."""

ENOUGH_SAMPLES, MOST_COPIES, NEAR_RANKS = 20_000, 9, 3
"""From so many samples on none are added; copies of the samples at most, and how far in rank a value may move."""

MAX_INPUT_BITS = 24
"""As many as a float32 has."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Thresholds as whole numbers ``k`` of ``width`` bits, for inputs scaled and moved by the host."""

    scale: Real
    offset: Real
    width: int
    threshold: Real
    may_miss: bool

    @property
    def format(self) -> FixedPoint:
        return FixedPoint(False, self.width, 0)

    @property
    def host(self) -> tuple[HostOperation, ...]:
        scale = HostOperation(
            kind=HostOperationKind.SCALE, scale=tuple(self.scale.tolist()), offset=tuple(self.offset.tolist())
        )
        return scale, *fill(self.format, self.may_miss)

    def integers(self, x: Real) -> Real:
        for operation in self.host:
            x = operation.apply(x)
        return self.format.quantize(x).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What the trees are to give."""

    median: HostOperation | None
    wanted: Real
    precision: int

    def is_near(self, given: Real, *, kept: float) -> bool:
        """Whether enough samples keep their class and the scores are near; of a single output, very near."""
        wanted, precision = self.wanted, self.precision
        if self.median is not None:
            wanted, given = self.median.apply(wanted), self.median.apply(given)
        several = wanted.shape[1] > 1
        if several and np.mean(np.argmax(given, axis=1) == np.argmax(wanted, axis=1)) < kept:
            return False
        error = np.sqrt(np.mean((given - wanted) ** 2))
        return bool(error <= np.std(wanted, axis=0).max() * 2.0 ** -(precision // 2 if several else precision))


def median_of(graph: Graph) -> HostOperation | None:
    """What the host makes one number of the trees' outputs with, where it does."""
    operations = [operation for terminal in graph.outputs for operation in terminal.host]
    return next((operation for operation in operations if operation.leaves_one), None)


def holds_trees(graph: Graph) -> bool:
    """Whether a graph has trees."""
    return any(isinstance(node, TreeEnsemble) for node in graph.nodes)


def allocate_trees(graph: Graph, data: Mapping[str, NDArray[Any]], precision: int) -> Graph:
    """The integer graph of a float graph with trees at its input.

    Parameters
    ----------
    data : mapping of str to ndarray, shape (samples, *input shape)
        Checked calibration data.
    precision : int
        Inputs get at most twice as many bits; leaves as many as keep the decisions.

    Raises
    ------
    UnsupportedOperation
        When something that computes is before the trees.
    """
    ensemble = next(node for node in graph.nodes if isinstance(node, TreeEnsemble))
    terminal, clip = source(graph, ensemble)
    x = denser(on_host(terminal, data[terminal.edge.name]).reshape(len(next(iter(data.values()))), -1))
    seen = x if clip is None else np.clip(x, clip.low, clip.high)
    goal = Goal(median=median_of(graph), wanted=ensemble.evaluate([seen], [None]), precision=precision)
    known = ensemble if np.isnan(x).any() else replace(ensemble, missing=None)
    placed = with_thresholds(known, x, clip, goal)
    valued = with_values(replace(known, threshold=placed.threshold), placed, x, goal)
    inputs = tuple(replace(t, host=(*t.host, *placed.host)) if t is terminal else t for t in graph.inputs)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node is clip:  # the thresholds know what it does
            nodes.append(Reshape(name=node.name, inputs=node.inputs, output=node.output))
        else:
            nodes.append(valued if node is ensemble else node)
    rewritten = replace(graph, inputs=inputs, nodes=tuple(nodes))
    return allocate(rewritten, dict(data), precision, formats={terminal.edge.name: placed.format})


def denser(x: Real) -> Real:
    """A few samples, and more like them: each feature takes a value that is near in rank among those that were seen.

    A few hundred samples leave wide gaps around a threshold, in which it could move without any of them telling. So
    the new values lie in the gaps, where a feature's values are not few ones that come again and again.
    """
    copies = min(ENOUGH_SAMPLES // len(x) - 1, MOST_COPIES)
    if copies < 1:
        return x
    generator = np.random.default_rng(0)
    parts = [x]
    order = np.argsort(x, axis=0, kind="stable")
    rank = np.argsort(order, axis=0, kind="stable")
    seen = np.take_along_axis(x, order, axis=0)
    is_dense = np.count_nonzero(np.diff(seen, axis=0), axis=0) > len(x) / 2
    for _ in range(copies):
        place = np.clip(rank + generator.integers(-NEAR_RANKS, NEAR_RANKS + 1, size=x.shape), 0, len(x) - 1)
        near, next_one = (
            np.take_along_axis(seen, np.minimum(place + i, len(x) - 1), axis=0).astype(np.float32) for i in (0, 1)
        )
        between = (near + (next_one - near) * generator.random(x.shape, dtype=np.float32)).astype(np.float64)
        made = np.where(is_dense, between, near)
        parts.append(np.where(np.isnan(x) | np.isnan(made), x, made))
    return np.concatenate(parts)


def fill(format: FixedPoint, may_miss: bool) -> tuple[HostOperation, ...]:
    """What the host makes of missing values, if there are any: the highest integer, which no number gets."""
    if not may_miss:
        return ()
    last = float(format.max_integer)
    return (HostOperation(kind=HostOperationKind.FILL, missing=last, most=last - 1),)


def first_computing(graph: Graph, ensemble: TreeEnsemble) -> Node | None:
    """The first node before the trees that is more than an arrangement or the one clip of a scaler."""
    wanted, before = set(ensemble.inputs), []
    for node in reversed(graph.nodes):
        if node.output.name in wanted:
            wanted.update(node.inputs)
            before.append(node)
    clips = [node for node in before if isinstance(node, Clip)]
    others = [node for node in before if not isinstance(node, Clip | Reshape)]
    return next(iter([*reversed(others), *clips[:-1]]), None)


def source(graph: Graph, ensemble: TreeEnsemble) -> tuple[Terminal, Clip | None]:
    """The input that the trees read, and the clip in between."""
    writers = {node.output.name: node for node in graph.nodes}
    trees = sum(isinstance(node, TreeEnsemble) for node in graph.nodes)
    if trees > 1 or len(graph.inputs) > 1:
        raise ensemble.refuse(f"is one of {trees} in a graph of {len(graph.inputs)} inputs; one and one are possible")
    clip, name = None, ensemble.inputs[0]
    while name in writers:
        node = writers[name]
        if isinstance(node, Clip) and clip is None:
            clip = node
        elif not isinstance(node, Reshape):
            raise ensemble.refuse(f"reads node {node.name!r} ({node.kind}); trees are possible at the input alone")
        name = node.inputs[0]
    path = {ensemble.name} | {node.name for node in graph.nodes if isinstance(node, Reshape | Clip)}
    others = [node for node in graph.nodes if name in node.inputs and node.name not in path]
    if others:
        raise ensemble.refuse(f"shares its input with node {others[0].name!r} ({others[0].kind})")
    return graph.inputs[0], clip


def with_thresholds(ensemble: TreeEnsemble, x: Real, clip: Clip | None, goal: Goal) -> Placed:
    """The coarsest thresholds that keep the classes of enough samples."""
    for budget in BUDGETS:
        placed = _placed(ensemble, x, clip, goal.precision, budget)
        given = replace(ensemble, threshold=placed.threshold).evaluate([placed.integers(x)], [placed.format])
        if goal.is_near(given, kept=KEPT_BY_THRESHOLDS):
            break
    return placed


def _placed(ensemble: TreeEnsemble, x: Real, clip: Clip | None, precision: int, budget: float) -> Placed:
    width, features = min(2 * precision, MAX_INPUT_BITS), x.shape[1]
    scale, offset = np.zeros(features), np.zeros(features)
    threshold, bits = np.zeros(len(ensemble.feature)), np.ones(len(ensemble.feature), dtype=np.int64)
    for feature in np.unique(ensemble.feature):
        mine = np.flatnonzero(ensemble.feature == feature)
        limits = ensemble.threshold[mine]
        values = np.sort(x[~np.isnan(x[:, feature]), feature])
        values = values if len(values) else limits[:1]
        scale[feature], offset[feature] = _line(values, limits, width)
        place = np.floor(np.clip(values * scale[feature] + offset[feature], 0, 2.0**width - 1))
        exact = limits * scale[feature] + offset[feature]
        parted = np.searchsorted(values, limits, side="right")
        threshold[mine], bits[mine] = _coarsest(
            exact, place, parted, width, spare=budget * len(x), reach=2.0 ** (width - precision)
        )
        if clip is not None:
            threshold[mine[limits < clip.low]], threshold[mine[limits >= clip.high]] = -1, 2.0**width - 1
    may_miss, taken = ensemble.missing is not None, int(bits.max(initial=1))
    # the highest integer is no number's, so the highest threshold needs another one above it
    taken += may_miss and bool(np.any(threshold == 2.0**width - 2.0 ** (width - taken) - 1))
    width, dropped = taken, width - taken
    # floor(v) is the nearest whole number of v - 1/2
    return Placed(
        scale=np.ldexp(scale, -dropped),
        offset=np.ldexp(offset, -dropped) - 0.5,
        width=width,
        threshold=np.ldexp(threshold + 1, -dropped) - 1,
        may_miss=may_miss,
    )


def _line(values: Real, limits: Real, width: int) -> tuple[float, float]:
    """Scale and offset with which the thresholds fill the range from 1 to 2**width - 1."""
    low, high = float(limits.min()), float(limits.max())
    steps = np.diff(np.unique(values))
    grid = float(steps.min(initial=np.inf))
    # data on a grid, such as pixels: one step is one whole number, and every threshold lies between two of them
    if 0 < grid < np.inf and (values[-1] - values[0]) / grid < 2.0**width - 1:
        multiples = steps / grid
        if np.all(np.abs(multiples - np.rint(multiples)) < 1e-3):
            exponent = int(np.floor(width - np.log2((values[-1] - values[0]) / grid + 2)))
            scale = np.ldexp(1.0 / grid, exponent)
            return float(scale), float(np.ldexp(0.5, exponent) - values[0] * scale)
    span = high - low if high > low else float(values[-1] - values[0]) or 1.0
    scale = (2.0**width - 2) / span
    if not np.isfinite(scale) or abs(low * scale) > 2.0**52:
        raise AccuracyLost(f"thresholds of a feature reach from {low:g} to {high:g}, too near for their size")
    start = 1.0 if high > low else 2.0 ** (width - 1)
    return scale, start - low * scale


def _coarsest(
    exact: Real, place: Real, parted: NDArray[np.int64], width: int, *, spare: float, reach: float
) -> tuple[Real, NDArray[np.int64]]:
    """For each threshold the whole number ``k`` of ``x <= k`` on the coarsest grid, and the grid's bits.

    It parts all but ``spare`` samples as before and moves by ``reach`` at most, because few samples say little.
    """
    found, bits = np.zeros(len(exact)), np.zeros(len(exact), dtype=np.int64)
    for count in range(1, width + 1):
        step = 2.0 ** (width - count)
        near = np.floor(exact / step)
        options = np.clip(np.stack([near, near + 1]) * step - 1, -1, 2.0**width - 1)
        moved = np.abs(np.searchsorted(place, options, side="right") - parted)
        distance = np.abs(options + 1 - exact)
        best = np.lexsort((distance, moved), axis=0)[0]
        each = np.arange(len(exact))
        kept = (moved[best, each] <= spare) & (distance[best, each] <= reach)
        take = (bits == 0) & (kept | (count == width))
        found[take], bits[take] = options[best, each][take], count
    return found, bits


def with_values(ensemble: TreeEnsemble, placed: Placed, x: Real, goal: Goal) -> TreeEnsemble:
    """Leaves with the fewest fraction bits that keep the classes."""
    low, high = ensemble.bounds([])
    # rounding may add half a step for each tree
    largest = float(max(np.max(np.abs(low)), np.max(np.abs(high)))) or 1.0
    finest = OUTPUT_BITS - 1 - int(np.ceil(np.log2(largest * (1 + 2.0**-8))))
    while finest > -OUTPUT_BITS and _width(rounded(ensemble, finest), finest) > OUTPUT_BITS:
        finest -= 1
    integers = placed.integers(x)
    for fraction in range(finest - OUTPUT_BITS + 2, finest + 1):
        valued = rounded(ensemble, fraction)
        if goal.is_near(valued.evaluate([integers], [placed.format]), kept=KEPT):
            break
    return valued


def rounded(ensemble: TreeEnsemble, fraction: int) -> TreeEnsemble:
    """Leaves and biases with so many fraction bits."""
    value, bias = (np.ldexp(np.rint(np.ldexp(v, fraction)), -fraction) for v in (ensemble.value, ensemble.bias))
    return replace(ensemble, value=value, bias=bias)


def _width(ensemble: TreeEnsemble, fraction: int) -> int:
    low, high = (np.ldexp(end, fraction) for end in ensemble.bounds([]))
    return FixedPoint.covering(round(low.min()), round(high.max()), fraction).width
