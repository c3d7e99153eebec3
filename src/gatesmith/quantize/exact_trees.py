"""Trees whose every decision is the library's: bins in place of rounded numbers, scores as fine as a float32's.

The host gives for each feature the number of its thresholds that lie below the value, so ``x <= threshold`` is a
comparison of two small whole numbers with the same answer for every x: each sample reaches the library's leaves. Scores
have the 24 bits of a float32's significand. What rounding a leaf to them can do is in :func:`largest_error`, which is
no more than the library's own float32 sums may be off by; every sample whose two best scores are twice that apart keeps
its class, and of the calibration samples all do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import AccuracyLost, UnsupportedOperation
from gatesmith.fixed import FixedPoint
from gatesmith.host import HostOperation, HostOperationKind
from gatesmith.model.ensemble import TreeEnsemble
from gatesmith.model.graph import Graph
from gatesmith.model.node import Bounds, Edge, Node, Real
from gatesmith.model.nodes import ArgMax, Clip, Reshape
from gatesmith.quantize.allocate import on_host
from gatesmith.quantize.trees import fill, first_computing, holds_trees, median_of, rounded, source

__all__ = ["allocate_exact", "largest_error"]

SCORE_BITS = (24, 32, 40, 48)
"""Of the largest score, without the sign; more than 24 where calibration samples nearly tie."""

MOST_STEPS, SAME = 1 << 20, 1e-9
"""Leaves are whole numbers of a step when they are so near to no more than that many of it."""

TIE = 2.0**-50
"""Scores are equal when they differ by less than this for each tree, of the largest: float64 does not add exactly."""


def allocate_exact(graph: Graph, data: Mapping[str, NDArray[Any]]) -> Graph:
    """The integer graph of a float graph of trees, in which every decision is kept.

    Parameters
    ----------
    data : mapping of str to ndarray, shape (samples, *input shape)
        Checked calibration data. Where it holds NaN, missing values are possible.

    Raises
    ------
    UnsupportedOperation
        When the graph has no trees, or something that computes beside them.
    AccuracyLost
        When calibration samples tie so nearly that 48 bits do not part them.
    """
    if not holds_trees(graph):
        raise UnsupportedOperation(
            f"model {graph.name!r} has no trees, precision exact is for trees; give 2 to 16 bits"
        )
    ensemble = next(node for node in graph.nodes if isinstance(node, TreeEnsemble))
    if (computing := first_computing(graph, ensemble)) is not None:
        raise UnsupportedOperation(
            f"node {computing.name!r} ({computing.kind}) computes before the trees, precision exact has trees at the "
            f"input alone, behind a scaler at most; give 2 to 16 bits",
            node=computing.name,
        )
    terminal, clip = source(graph, ensemble)
    for node in graph.nodes:
        if not isinstance(node, TreeEnsemble | Reshape | ArgMax) and node is not clip:
            raise UnsupportedOperation(
                f"node {node.name!r} ({node.kind}) is beside trees, precision exact has reshapes and ArgMax alone",
                node=node.name,
            )
    x = on_host(terminal, data[terminal.edge.name]).reshape(len(data[terminal.edge.name]), -1)
    known = ensemble if np.isnan(x).any() else replace(ensemble, missing=None)
    ranked = _ranked(known, clip, x.shape[1])
    wanted = known.evaluate([x if clip is None else np.clip(x, clip.low, clip.high)], [None])
    valued, scale = _valued(ranked.ensemble, SCORE_BITS[0]) if median_of(graph) else _deciding(ranked, x, wanted)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node is clip:  # the bins know what it does
            nodes.append(Reshape(name=node.name, inputs=node.inputs, output=node.output))
        else:
            nodes.append(valued if node is ensemble else node)
    return _with_formats(replace(graph, nodes=tuple(nodes)), terminal.edge, ranked, scale)


def _deciding(ranked: _Ranked, x: Real, wanted: Real) -> tuple[TreeEnsemble, float]:
    """Leaves with which every calibration sample keeps its class, and what the host multiplies scores with."""
    integers = ranked.integers(x)
    tie = TIE * len(ranked.ensemble.root) * np.abs(wanted).max()
    for bits in SCORE_BITS:
        valued, scale = _valued(ranked.ensemble, bits)
        classes = valued.evaluate([integers], [ranked.format]).argmax(axis=1)
        chosen = np.take_along_axis(wanted, classes[:, None], axis=1)[:, 0]
        lost = int(np.sum(wanted.max(axis=1) - chosen > tie))
        if not lost:
            return valued, scale
    raise AccuracyLost(f"{lost} of {len(x)} calibration samples change their class with scores of {bits} bits")


def largest_error(ensemble: TreeEnsemble, exact: TreeEnsemble) -> float:
    """The most that any score of two ensembles with the same splits can differ by, whatever the sample."""
    error = replace(ensemble, value=exact.value - ensemble.value, bias=exact.bias - ensemble.bias)
    low, high = error.bounds([])
    return float(max(np.max(np.abs(low)), np.max(np.abs(high))))


@dataclass(frozen=True, kw_only=True)
class _Ranked:
    """Trees on the numbers of a feature's thresholds below a value, each feature's moved to the highest bits."""

    ensemble: TreeEnsemble
    edges: tuple[tuple[float, ...], ...]
    factors: tuple[float, ...]
    format: FixedPoint

    @property
    def host(self) -> tuple[HostOperation, ...]:
        bins = HostOperation(kind=HostOperationKind.BIN, edges=self.edges)
        scale = HostOperation(kind=HostOperationKind.SCALE, scale=self.factors, offset=(0.0,) * len(self.factors))
        return bins, scale, *fill(self.format, self.ensemble.missing is not None)

    def integers(self, x: Real) -> Real:
        for operation in self.host:
            x = operation.apply(x)
        return self.format.quantize(x).astype(np.float64)


def _ranked(ensemble: TreeEnsemble, clip: Clip | None, features: int) -> _Ranked:
    low, high = (-np.inf, np.inf) if clip is None else (clip.low, clip.high)
    limits = ensemble.threshold
    inside = (limits >= low) & (limits < high)
    edges = [np.unique(limits[inside & (ensemble.feature == feature)]) for feature in range(features)]
    # the highest integer of all is no number's where values may be missing
    bits = [int(len(each) + (ensemble.missing is not None)).bit_length() for each in edges]
    width = max(1, *bits)
    threshold = np.where(limits < low, -1.0, 2.0**width - 1)
    for feature, each in enumerate(edges):
        mine = inside & (ensemble.feature == feature)
        step = 2.0 ** (width - bits[feature])
        threshold[mine] = (np.searchsorted(each, limits[mine]) + 1) * step - 1
    return _Ranked(
        ensemble=replace(ensemble, threshold=threshold),
        edges=tuple(tuple(each.tolist()) for each in edges),
        factors=tuple(2.0 ** (width - each) for each in bits),
        format=FixedPoint(False, width, 0),
    )


def _valued(ensemble: TreeEnsemble, bits: int) -> tuple[TreeEnsemble, float]:
    """Leaves of which the largest score has so many bits, and what the host multiplies scores with."""
    inside, unit = _in_units(ensemble)
    low, high = inside.bounds([])
    largest = float(max(np.max(np.abs(low)), np.max(np.abs(high))))
    return rounded(inside, bits - int(np.frexp(largest)[1])), unit


def _in_units(ensemble: TreeEnsemble) -> tuple[TreeEnsemble, float]:
    """Leaves as whole numbers of the one step that they are apart, if there is one: votes are ones."""
    trees = ensemble.trees
    least = np.full((len(ensemble.root), ensemble.value.shape[1]), np.inf)
    np.minimum.at(least, trees, ensemble.value)
    apart = ensemble.value - least[trees]
    unit = float(np.min(apart, initial=np.inf, where=apart > 0))
    steps = np.rint(apart / unit) if np.isfinite(unit) else apart
    if not np.isfinite(unit) or steps.max() > MOST_STEPS or np.max(np.abs(apart / unit - steps)) > SAME * steps.max():
        return ensemble, 1.0
    return replace(ensemble, value=steps, bias=(ensemble.bias + least.sum(axis=0)) / unit), unit


def _with_formats(graph: Graph, input: Edge, ranked: _Ranked, scale: float) -> Graph:
    """Every edge with the narrowest format that holds all it can be."""
    format = ranked.format
    ends = (float(format.min_integer), float(format.max_integer))
    found: dict[str, tuple[Edge, Bounds]] = {
        input.name: (replace(input, format=format), (np.full(input.shape, ends[0]), np.full(input.shape, ends[1])))
    }
    nodes = []
    for node in graph.nodes:
        before, bounds = found[node.inputs[0]]
        low, high = node.bounds([bounds])
        fraction = node.fraction_bits([before.fixed])
        units = np.ldexp([low.min(), high.max()], fraction)
        edge = replace(node.output, format=FixedPoint.covering(round(units[0]), round(units[1]), fraction))
        nodes.append(replace(node, output=edge))
        found[edge.name] = (edge, (low, high))
    classes = {node.output.name for node in graph.nodes if isinstance(node, ArgMax)}
    outputs = []
    for terminal in graph.outputs:
        edge = found[terminal.edge.name][0]
        host = terminal.host
        if scale != 1.0 and edge.name not in classes:
            factors = (scale,) * edge.elements
            host = (HostOperation(kind=HostOperationKind.SCALE, scale=factors, offset=(0.0,) * edge.elements), *host)
        outputs.append(replace(terminal, edge=edge, host=host))
    inputs = tuple(replace(t, edge=found[input.name][0], host=(*t.host, *ranked.host)) for t in graph.inputs)
    return replace(graph, inputs=inputs, nodes=tuple(nodes), outputs=tuple(outputs))
