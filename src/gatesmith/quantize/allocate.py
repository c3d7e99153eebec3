"""Formats for every edge of a float graph, chosen from what the edges carry on the calibration data.

Weights and activations get ``precision`` bits with one power-of-two scale for each tensor; the scale is the one with
the smallest squared error on the calibration data. Sums keep all their bits. Outputs keep up to ``OUTPUT_BITS``.

An edge may carry its value times a power of two, its *exponent*: very small and very large numbers then stay near the
point. A Dense node or a table changes it for nothing, and the host takes it back at an output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.errors import AccuracyLost
from gatesmith.fixed import FixedPoint, Rounding
from gatesmith.model import reference
from gatesmith.model.graph import Graph, Terminal
from gatesmith.model.nodes import (
    FUNCTIONS,
    MAX_TABLE_BITS,
    Add,
    ArgMax,
    Bounds,
    Clip,
    Concat,
    Dense,
    Edge,
    LookupTable,
    Node,
    Requantize,
    grid_bits,
)
from gatesmith.quantize.formats import best_format, moved
from gatesmith.quantize.precision import PRECISIONS, Precision

__all__ = ["OUTPUT_BITS", "ROUNDING", "allocate", "on_host"]

Real = NDArray[np.float64]

OUTPUT_BITS = Precision().outputs
"""Widest output element unless another is asked for; wider sums are rounded to it."""

# Ref: da4ml 0.6.0: its emulator looks at the sign of a wire in 32 bits, so a difference of two sums may have 32
SUM_BITS = 31
"""Widest sum. Where a Dense node needs more, its input and weights get fewer bits, down to ``FEWEST_BITS``; what is
still too wide loses its last bits."""

FEWEST_BITS = 8

ROUNDING = Rounding.HALF_UP
"""Inside the graph: half to even would need two adders more for each activation and is no more accurate."""

# Ref: da4ml 0.6.0: constants are decimals of 28 digits, which hold a sum's offset exactly up to 24 fraction bits
FRACTION_BITS = range(-8, 25)
"""Of a sum; others are brought inside by an exponent."""

INPUT_FRACTION_BITS = range(-8, 21)
WEIGHT_FRACTION_BITS = range(-30, 31)


def allocate(
    graph: Graph,
    data: dict[str, NDArray[Any]],
    precision: int | Precision,
    *,
    formats: Mapping[str, FixedPoint] | None = None,
) -> Graph:
    """The integer graph.

    Parameters
    ----------
    graph : Graph
        A float graph, folded.
    data : dict of str to ndarray, shape (samples, *input shape)
        Checked calibration data for each input.
    formats : mapping of str to FixedPoint, optional
        Formats of inputs that are chosen already.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        values = reference.evaluate(graph, {t.edge.name: on_host(t, data[t.edge.name]) for t in graph.inputs})
    for name, real in values.items():
        finite = np.isfinite(real.reshape(len(real), -1)).all(axis=1)
        if not finite.all():
            raise AccuracyLost(
                f"edge {name!r} of the float model is not finite for {np.sum(~finite)} of {len(real)} calibration "
                f"samples, the first at row {int(np.argmin(finite))}",
                edge=name,
            )
    return _Allocation(graph=graph, values=values, precision=Precision.of(precision), given=formats or {}).run()


def on_host(terminal: Terminal, values: NDArray[Any]) -> Real:
    """What the host makes of a client's values."""
    real = values.astype(np.float64)
    for operation in terminal.host:
        real = operation.apply(real)
    return real


@dataclass(kw_only=True)
class _Allocation:
    """One pass over the float graph; holds what has been decided for each float edge."""

    graph: Graph
    values: dict[str, Real]  # of the float edges
    precision: Precision
    given: Mapping[str, FixedPoint]  # inputs whose format is chosen already
    nodes: list[Node] = field(default_factory=list)
    edges: dict[str, Edge] = field(default_factory=dict)  # float edge -> integer edge
    exponents: dict[str, int] = field(default_factory=dict)  # integer edge -> its value is the float one times 2**this
    bounds: dict[str, Bounds] = field(default_factory=dict)  # integer edge -> bounds
    formats: dict[str, FixedPoint] = field(default_factory=dict)  # integer edge -> format
    narrowed: dict[tuple[str, FixedPoint], Edge] = field(default_factory=dict)
    carried: dict[str, Real] = field(default_factory=dict)  # integer edge -> its values, when biases are corrected

    def run(self) -> Graph:
        inputs = tuple(self._input(t) for t in self.graph.inputs)
        for node in self.graph.nodes:
            self.edges[node.output.name] = self._place(node)
        outputs = tuple(self._output(t) for t in self.graph.outputs)
        return Graph(name=self.graph.name, inputs=inputs, nodes=tuple(self.nodes), outputs=outputs)

    def _input(self, terminal: Terminal) -> Terminal:
        if terminal.edge.name in self.given:
            return self._as_given(terminal, self.given[terminal.edge.name], 0)
        values = self.values[terminal.edge.name]
        format = best_format(values, self.precision.activation(terminal.edge.name), signed=bool(values.min() < 0))
        # fraction bits that no sample uses carry nothing: pixels stay whole numbers
        spare = format.fraction_bits - grid_bits(values)
        if 0 < spare < format.width - int(format.signed):
            format = FixedPoint(format.signed, format.integer_bits, format.fraction_bits - spare)
        exponent = _into(INPUT_FRACTION_BITS, format.fraction_bits)
        return self._as_given(terminal, moved(format, exponent), exponent)

    def _as_given(self, terminal: Terminal, format: FixedPoint, exponent: int) -> Terminal:
        edge = replace(terminal.edge, format=format)
        low, high = edge.fixed.dequantize([edge.fixed.min_integer, edge.fixed.max_integer])
        self._know(edge, (np.full(edge.shape, low), np.full(edge.shape, high)), exponent)
        if self.precision.bias_correction:
            self.carried[edge.name] = format.dequantize(
                format.quantize(np.ldexp(self.values[edge.name], exponent), rounding=Rounding.HALF_EVEN)
            )
        self.edges[edge.name] = edge
        return replace(terminal, edge=edge, host=(*terminal.host, *_scale(edge, exponent)))

    def _place(self, node: Node) -> Edge:
        sources = [self.edges[name] for name in node.inputs]
        if isinstance(node, Dense):
            return self._dense(node)
        if isinstance(node, LookupTable):
            return self._table(node)
        if isinstance(node, Clip):
            return self._clip(node, sources[0])
        if isinstance(node, Add | Concat):
            sources = self._aligned(sources)
        exponent = 0 if isinstance(node, ArgMax) else self.exponents[sources[0].name]
        return self._exact(replace(node, inputs=tuple(edge.name for edge in sources)), exponent)

    def _know(self, edge: Edge, bounds: Bounds, exponent: int) -> None:
        self.bounds[edge.name], self.exponents[edge.name], self.formats[edge.name] = bounds, exponent, edge.fixed

    def _exact(self, node: Node, exponent: int) -> Edge:
        """Append a node with the narrowest format that holds all it can give."""
        bounds = node.bounds([self.bounds[name] for name in node.inputs])
        fraction = node.fraction_bits([self.formats[name] for name in node.inputs])
        units = np.ldexp([bounds[0].min(), bounds[1].max()], fraction)
        edge = replace(node.output, format=FixedPoint.covering(round(units[0]), round(units[1]), fraction))
        self._append(replace(node, output=edge))
        self._know(edge, bounds, exponent)
        return edge

    def _append(self, node: Node) -> None:
        self.nodes.append(node)
        if self.carried:
            formats = [self.formats[name] for name in node.inputs]
            self.carried[node.output.name] = node.evaluate([self.carried[name] for name in node.inputs], formats)

    def _dense(self, node: Dense) -> Edge:
        edge = self.edges[node.inputs[0]]
        before = self.exponents[edge.name]
        for fewer in range(PRECISIONS[-1] - FEWEST_BITS + 1):
            inner = self._narrow(node.inputs[0], _less(self.precision.activation(node.inputs[0]), fewer))
            weight, grid = self._weight(node, fewer)
            # in the float graph's scale: the input's fraction bits, and the most that the weights may have
            given = inner.fraction_bits + before
            room = SUM_BITS - 2 - math.frexp(self._reach(node, edge, inner))[1] - given
            if grid <= room:
                break
        grid = min(grid, room)
        weight = _on_grid(weight, grid)
        source = self._requantized(edge, inner)
        bias = _on_grid(node.bias + self._mean_error(node, source, weight), given + grid)
        fraction = max(given + grid_bits(weight), grid_bits(bias)) if bias.any() else given + grid_bits(weight)
        # smallest change of exponent that brings both the sum's and the weights' last bits into range
        ends = [_range(FRACTION_BITS, fraction), _range(WEIGHT_FRACTION_BITS, grid_bits(weight) + before)]
        after = min(max(0, *(end[0] for end in ends)), *(end[1] for end in ends))
        weight, bias = np.ldexp(weight, after - before), np.ldexp(bias, after)
        return self._exact(replace(node, inputs=(source.name,), weight=weight, bias=bias), after)

    def _mean_error(self, node: Dense, source: Edge, weight: Real) -> Real:
        """What rounded inputs and weights make each sum lack on average, in the float graph's scale."""
        if not self.carried:
            return np.zeros_like(node.bias)
        given = np.ldexp(self.carried[source.name], -self.exponents[source.name]) @ weight + node.bias
        lacks = self.values[node.output.name] - given
        return np.asarray(lacks.reshape(-1, *node.bias.shape).mean(axis=0))

    def _weight(self, node: Dense, fewer: int) -> tuple[Real, int]:
        """The rounded weights and their fraction bits, with so many bits fewer than may be used."""
        bits = self.precision.weight(node.name)
        if isinstance(bits, int):
            format = best_format(node.weight, _less(bits, fewer), signed=True, seen=False)
            return format.dequantize(format.quantize(node.weight)), format.fraction_bits
        columns = node.weight.T
        if len(bits) != len(columns):
            raise AccuracyLost(
                f"precision of node {node.name!r} has {len(bits)} numbers, it has {len(columns)} columns"
            )
        formats = [
            best_format(column, _less(one, fewer), signed=True, seen=False)
            for column, one in zip(columns, bits, strict=True)
        ]
        rounded = [format.dequantize(format.quantize(c)) for format, c in zip(formats, columns, strict=True)]
        return np.stack(rounded, axis=-1), max(format.fraction_bits for format in formats)

    def _reach(self, node: Dense, edge: Edge, inner: FixedPoint) -> float:
        """Largest sum of absolute terms, in the float graph's scale, when the input has the format ``inner``."""
        ends = inner.dequantize([inner.min_integer, inner.max_integer])
        low, high = (np.ldexp(np.clip(end, *ends), -self.exponents[edge.name]) for end in self.bounds[edge.name])
        return float(np.max(np.maximum(np.abs(low), np.abs(high)) @ np.abs(node.weight) + np.abs(node.bias)))

    def _table(self, node: LookupTable) -> Edge:
        values, function = self.values[node.inputs[0]], FUNCTIONS[node.function]
        edge = self.edges[node.inputs[0]]
        before = self.exponents[edge.name]
        width = min(self.precision.activation(node.inputs[0]), MAX_TABLE_BITS)
        signed = bool(values.min() < 0)
        with np.errstate(over="ignore"):  # beyond the calibration data exp may be infinite, which saturates
            format = best_format(values, width, signed=signed, through=function)
            source = self._requantized(edge, moved(format, before))
            exact = function(format.dequantize(np.arange(format.min_integer, format.max_integer + 1)))
        name = node.output.name
        out = best_format(self.values[name], self.precision.activation(name), signed=bool(exact.min() < 0))
        after = _into(FRACTION_BITS, out.fraction_bits)
        table = np.ldexp(out.dequantize(out.quantize(exact)), after)
        return self._exact(replace(node, inputs=(source.name,), table=table), after)

    def _clip(self, node: Clip, source: Edge) -> Edge:
        exponent, fraction = self.exponents[source.name], source.fixed.fraction_bits
        bounds = self.bounds[source.name]
        # an end that nothing reaches is the nearest value that something may reach
        ends = np.clip(np.ldexp([node.low, node.high], exponent), bounds[0].min(), bounds[1].max())
        low, high = (float(end) for end in _on_grid(ends, fraction))
        return self._exact(replace(node, inputs=(source.name,), low=low, high=high), exponent)

    def _aligned(self, sources: list[Edge]) -> list[Edge]:
        """The edges with one exponent, and coarse enough that one format of ``SUM_BITS`` holds them all."""
        exponent = max(self.exponents[edge.name] for edge in sources)
        sources = [self._lifted(edge, exponent) for edge in sources]
        reach = sum(float(np.max(np.abs(self.bounds[edge.name]))) for edge in sources)
        finest = SUM_BITS - 2 - math.frexp(reach)[1]
        coarse = []
        for edge in sources:
            format = edge.fixed
            spare = format.fraction_bits - finest
            if spare > 0:
                integer_bits = max(format.integer_bits, 1 - finest)  # at least one bit is left
                format = FixedPoint(format.signed, integer_bits, finest)
            coarse.append(self._requantized(edge, format))
        return coarse

    def _lifted(self, edge: Edge, exponent: int) -> Edge:
        """The edge with this exponent: a product with a power of two, which is free in gateware."""
        more = exponent - self.exponents[edge.name]
        if more == 0:
            return edge
        count = math.prod(edge.shape)
        if len(edge.shape) != 1:
            raise AccuracyLost(f"edge {edge.name!r} and the one it is joined with are 2**{more} apart", edge=edge.name)
        name = self._fresh(f"{edge.name}/lifted")
        return self._exact(
            Dense(
                name=name,
                inputs=(edge.name,),
                output=Edge(name=name, shape=edge.shape),
                weight=np.eye(count) * math.ldexp(1.0, more),
                bias=np.zeros(count),
            ),
            exponent,
        )

    def _narrow(self, name: str, width: int) -> FixedPoint:
        """A format of at most this width for an edge with these values."""
        edge = self.edges[name]
        if edge.fixed.width <= width:
            return edge.fixed
        signed = bool(self.bounds[edge.name][0].min() < 0)
        return moved(best_format(self.values[name], width, signed=signed), self.exponents[edge.name])

    def _requantized(self, edge: Edge, format: FixedPoint) -> Edge:
        if edge.fixed == format:
            return edge
        key = (edge.name, format)
        if key not in self.narrowed:
            name = self._fresh(f"{edge.name}/{format}")
            self.narrowed[key] = self._rounded(edge, name, Edge(name=name, shape=edge.shape, format=format))
        return self.narrowed[key]

    def _rounded(self, edge: Edge, name: str, output: Edge) -> Edge:
        node = Requantize(name=name, inputs=(edge.name,), output=output, rounding=ROUNDING)
        self._append(node)
        self._know(output, node.bounds([self.bounds[edge.name]]), self.exponents[edge.name])
        return output

    def _output(self, terminal: Terminal) -> Terminal:
        """The output's edge under its own name, of at most as many bits as it may have."""
        edge = self.edges[terminal.edge.name]
        host = (*_scale(edge, -self.exponents[edge.name]), *terminal.host)
        drop = edge.fixed.width - self.precision.outputs
        if drop <= 0:
            return replace(terminal, edge=edge, host=host)
        # the client knows the output's name, so the sum before it takes another
        inner = replace(edge, name=self._fresh(f"{edge.name}/sum"))
        for i, node in enumerate(self.nodes):
            renamed = tuple(inner.name if name == edge.name else name for name in node.inputs)
            self.nodes[i] = replace(
                node, inputs=renamed, output=inner if node.output.name == edge.name else node.output
            )
        self._know(inner, self.bounds[edge.name], self.exponents[edge.name])
        if self.carried:
            self.carried[inner.name] = self.carried[edge.name]
        format = FixedPoint(edge.fixed.signed, edge.fixed.integer_bits, edge.fixed.fraction_bits - drop)
        output = self._rounded(inner, self._fresh(f"{edge.name}/output"), replace(edge, format=format))
        return replace(terminal, edge=output, host=host)

    def _fresh(self, name: str) -> str:
        """A name that no edge or node of either graph has."""
        taken = {*self.graph.edges, *self.bounds, *(node.name for node in (*self.graph.nodes, *self.nodes))}
        return (
            name if name not in taken else next(n for i in range(len(taken) + 1) if (n := f"{name}/{i}") not in taken)
        )


def _less(bits: int, fewer: int) -> int:
    """So many bits fewer, but not below ``FEWEST_BITS``."""
    return max(bits - fewer, min(bits, FEWEST_BITS))


def _on_grid(values: Real, fraction_bits: int) -> Real:
    return np.asarray(np.ldexp(np.rint(np.ldexp(values, fraction_bits)), -fraction_bits))


def _range(allowed: range, bits: int) -> tuple[int, int]:
    """Lowest and highest exponent that bring these fraction bits into the range."""
    return bits - allowed[-1], bits - allowed[0]


def _into(allowed: range, bits: int) -> int:
    low, high = _range(allowed, bits)
    return min(max(0, low), high)


def _scale(edge: Edge, exponent: int) -> tuple[HostOperation, ...]:
    if exponent == 0:
        return ()
    factor = math.ldexp(1.0, exponent)
    count = math.prod(edge.shape)
    return (HostOperation(kind=HostOperationKind.SCALE, scale=(factor,) * count, offset=(0.0,) * count),)
