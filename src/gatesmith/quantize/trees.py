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
from gatesmith.model.node import Node, Real, leading_to
from gatesmith.model.nodes import Clip, Reshape
from gatesmith.quantize.allocate import OUTPUT_BITS, allocate, on_host
from gatesmith.quantize.more_samples import denser, mixed

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

MIXED_KEPT_BY_THRESHOLDS, MIXED_KEPT = 0.9997, 0.9994
"""The same of mixtures of samples, of which more lie near a threshold, and more between classes, than of others."""

STEPS = (*((2.0**-i, 0) for i in range(6, 16)), *((0.0, finer) for finer in range(0, 9, 2)))
"""Shares of the samples that a single threshold may send the other way, and bits by which it may move less than by
1/2**precision of the range; the cheapest first."""

OFF_GRID, DECIMALS = 1e-3, 7
"""Of a grid's step, how far float32 numbers may be from it; and so many decimals may a grid's numbers have."""

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
class Samples:
    """Inputs of the trees, the scores that the float trees give, and the shares that are to keep their class."""

    x: Real
    wanted: Real
    by_thresholds: float
    in_all: float


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What the trees are to give."""

    median: HostOperation | None
    precision: int
    samples: tuple[Samples, ...]

    @classmethod
    def of(cls, graph: Graph, x: Real, precision: int, clip: Clip | None = None) -> Goal:
        """The calibration samples, and where there are classes the mixtures of them too."""
        ensemble = next(node for node in graph.nodes if isinstance(node, TreeEnsemble))
        median, several = median_of(graph), ensemble.value.shape[1] > 1

        def samples(x: Real, by_thresholds: float, in_all: float) -> Samples:
            seen = x if clip is None else np.clip(x, clip.low, clip.high)
            return Samples(x=x, wanted=ensemble.evaluate([seen], [None]), by_thresholds=by_thresholds, in_all=in_all)

        found = [samples(denser(x), KEPT_BY_THRESHOLDS, KEPT)]
        if several and median is None:
            found.append(samples(mixed(x), MIXED_KEPT_BY_THRESHOLDS, MIXED_KEPT))
        return cls(median=median, precision=precision, samples=tuple(found))

    def reached(self, ensemble: TreeEnsemble, placed: Placed, *, in_all: bool) -> bool:
        """Whether an ensemble with these thresholds is near enough."""
        return all(
            self.is_near(
                ensemble.evaluate([placed.integers(each.x)], [placed.format]),
                each.wanted,
                kept=each.in_all if in_all else each.by_thresholds,
            )
            for each in self.samples
        )

    def is_near(self, given: Real, wanted: Real, *, kept: float) -> bool:
        """Whether enough samples keep their class and the scores are near; of a single output, very near."""
        if self.median is not None:
            wanted, given = self.median.apply(wanted), self.median.apply(given)
        several = wanted.shape[1] > 1
        if several and np.mean(np.argmax(given, axis=1) == np.argmax(wanted, axis=1)) < kept:
            return False
        error = np.sqrt(np.mean((given - wanted) ** 2))
        bits = self.precision // 2 if several else self.precision
        return bool(error <= np.std(wanted, axis=0).max() * 2.0**-bits)


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
    x = on_host(terminal, data[terminal.edge.name]).reshape(len(next(iter(data.values()))), -1)
    goal = Goal.of(graph, x, precision, clip)
    known = ensemble if np.isnan(x).any() else replace(ensemble, missing=None)
    placed = with_thresholds(known, clip, goal)
    valued = with_values(replace(known, threshold=placed.threshold), placed, goal)
    inputs = tuple(replace(t, host=(*t.host, *placed.host)) if t is terminal else t for t in graph.inputs)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node is clip:  # the thresholds know what it does
            nodes.append(Reshape(name=node.name, inputs=node.inputs, output=node.output))
        else:
            nodes.append(valued if node is ensemble else node)
    rewritten = replace(graph, inputs=inputs, nodes=tuple(nodes))
    return allocate(rewritten, dict(data), precision, formats={terminal.edge.name: placed.format})


def fill(format: FixedPoint, may_miss: bool) -> tuple[HostOperation, ...]:
    """What the host makes of missing values, if there are any: the highest integer, which no number gets."""
    if not may_miss:
        return ()
    last = float(format.max_integer)
    return (HostOperation(kind=HostOperationKind.FILL, missing=last, most=last - 1),)


def first_computing(graph: Graph, ensemble: TreeEnsemble) -> Node | None:
    """The first node before the trees that is more than an arrangement or the one clip of a scaler."""
    before = leading_to(graph.nodes, ensemble.inputs)
    clips = [node for node in before if isinstance(node, Clip)]
    others = [node for node in before if not isinstance(node, Clip | Reshape)]
    return next(iter([*others, *clips[1:]]), None)


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


def with_thresholds(ensemble: TreeEnsemble, clip: Clip | None, goal: Goal) -> Placed:
    """The coarsest thresholds that keep the classes of enough samples."""
    for budget, finer in STEPS:
        placed = _placed(ensemble, goal, clip, budget, finer)
        if goal.reached(replace(ensemble, threshold=placed.threshold), placed, in_all=False):
            break
    return placed


def _placed(ensemble: TreeEnsemble, goal: Goal, clip: Clip | None, budget: float, finer: int) -> Placed:
    x, precision = goal.samples[0].x, goal.precision
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
        parted = np.searchsorted(values, limits, side="right")
        exact = _between(limits, values, parted, width) * scale[feature] + offset[feature]
        threshold[mine], bits[mine] = _coarsest(
            exact, place, parted, width, spare=budget * len(x), reach=2.0 ** (width - precision - finer)
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
    if (grid := _grid(values, width)) is not None:
        exponent = int(np.floor(width - np.log2((values[-1] - values[0]) / grid + 2)))
        scale = np.ldexp(1.0 / grid, exponent)
        return float(scale), float(np.ldexp(0.5, exponent) - values[0] * scale)
    span = high - low if high > low else float(values[-1] - values[0]) or 1.0
    scale = (2.0**width - 2) / span
    if not np.isfinite(scale) or abs(low * scale) > 2.0**52:
        raise AccuracyLost(f"thresholds of a feature reach from {low:g} to {high:g}, too near for their size")
    start = 1.0 if high > low else 2.0 ** (width - 1)
    return scale, start - low * scale


def _grid(values: Real, width: int) -> float | None:
    """The step of data on a grid, such as pixels: one step is one whole number, thresholds lie between two of them."""
    steps = np.diff(np.unique(values))
    grid = float(steps.min(initial=np.inf))
    if not 0 < grid < np.inf or (values[-1] - values[0]) / grid >= 2.0**width - 1:
        return None
    multiples = steps / grid
    return grid if np.all(np.abs(multiples - np.rint(multiples)) < OFF_GRID) else None


def _between(limits: Real, values: Real, parted: NDArray[np.int64], width: int) -> Real:
    """Thresholds of data on a grid in the middle of two of its values; others as they are.

    XGBoost's lie on a value or as near to it as a float32 can be, others' on values that were not seen.
    """
    if (grid := _grid(values, width)) is None:
        return limits
    start = values[0]
    grid = float(values[-1] - start) / np.rint((values[-1] - start) / grid)
    place = np.rint((values - start) / grid)
    below, above = np.concatenate([[-np.inf], place])[parted], np.concatenate([place, [np.inf]])[parted]
    near = np.rint((limits - start) / grid)
    steps = near - (limits < _as_sent(start + near * grid, values))
    steps = np.where(np.abs((limits - start) / grid - near) < OFF_GRID, steps, np.floor((limits - start) / grid))
    return np.asarray(start + (np.clip(steps, below, above - 1) + 0.5) * grid)


def _as_sent(places: Real, values: Real) -> Real:
    """The float32 numbers of places on a grid: of decimal numbers, where those that were seen are such."""
    for decimals in range(DECIMALS):
        if np.array_equal(np.round(values, decimals).astype(np.float32), values.astype(np.float32)):
            places = np.round(places, decimals)
            break
    return places.astype(np.float32).astype(np.float64)


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


def with_values(ensemble: TreeEnsemble, placed: Placed, goal: Goal) -> TreeEnsemble:
    """Leaves with the fewest fraction bits that keep the classes."""
    low, high = ensemble.bounds([])
    # rounding may add half a step for each tree
    largest = float(max(np.max(np.abs(low)), np.max(np.abs(high)))) or 1.0
    finest = OUTPUT_BITS - 1 - int(np.ceil(np.log2(largest * (1 + 2.0**-8))))
    while finest > -OUTPUT_BITS and _width(rounded(ensemble, finest), finest) > OUTPUT_BITS:
        finest -= 1
    for fraction in range(finest - OUTPUT_BITS + 2, finest + 1):
        valued = rounded(ensemble, fraction)
        if goal.reached(valued, placed, in_all=True):
            break
    return valued


def rounded(ensemble: TreeEnsemble, fraction: int) -> TreeEnsemble:
    """Leaves and biases with so many fraction bits."""
    value, bias = (np.ldexp(np.rint(np.ldexp(v, fraction)), -fraction) for v in (ensemble.value, ensemble.bias))
    return replace(ensemble, value=value, bias=bias)


def _width(ensemble: TreeEnsemble, fraction: int) -> int:
    low, high = (np.ldexp(end, fraction) for end in ensemble.bounds([]))
    return FixedPoint.covering(round(low.min()), round(high.max()), fraction).width
