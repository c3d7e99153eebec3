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

from gatesmith.contract import HostOperation
from gatesmith.errors import AccuracyLost
from gatesmith.fixed import FixedPoint, Rounding
from gatesmith.model import reference
from gatesmith.model.ensemble import TreeEnsemble
from gatesmith.model.graph import Graph, Terminal
from gatesmith.model.nodes import (
    MAX_TABLE_BITS,
    Add,
    ArgMax,
    Bounds,
    Clip,
    Concat,
    Dense,
    Edge,
    Gather,
    Linear,
    LookupTable,
    Node,
    Quantize,
    Requantize,
    Scale,
    grid_bits,
)
from gatesmith.quantize.formats import best_format, moved, on_grid
from gatesmith.quantize.precision import PRECISIONS, Precision
from gatesmith.quantize.rewrite import Rewriter, holds_grid, host_scale
from gatesmith.quantize.sums import (
    FEWEST_BITS,
    FRACTION_BITS,
    SUM_BITS,
    Constants,
    exponent_into,
    less,
    room,
    rounded_weight,
)
from gatesmith.quantize.trained import fewest_bits, input_rounding, next_rounding

__all__ = ["OUTPUT_BITS", "ROUNDING", "allocate", "on_host"]

Real = NDArray[np.float64]

OUTPUT_BITS = Precision().outputs
"""Widest output element unless another is asked for; wider sums are rounded to it."""

ROUNDING = Rounding.HALF_UP
"""Inside the graph: half to even would need two adders more for each activation and is no more accurate."""

INPUT_FRACTION_BITS = range(-8, 21)
TRAINED_BITS = 17
"""Weights of a model that was trained with rounding are kept when they are multiples of a step and less wide."""

WIDEST_OUTPUT = 32
"""Of an output that a trained model's own formats make exact."""


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
    exact: set[str] = field(default_factory=set)  # integer edges that carry the float ones' values, or will be rounded
    rewriter: Rewriter = field(init=False)

    def __post_init__(self) -> None:
        self.rewriter = Rewriter(self.graph)

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
        if (own := input_rounding(self.rewriter, terminal, values)) is not None:
            self.exact.add(terminal.edge.name)
            return self._as_given(replace(terminal, host=(*terminal.host, *own.host)), own.format, 0)
        format = best_format(values, self.precision.activation(terminal.edge.name), signed=bool(values.min() < 0))
        # fraction bits that no sample uses carry nothing: pixels stay whole numbers
        spare = format.fraction_bits - grid_bits(values)
        if 0 < spare < format.width - int(format.signed):
            format = FixedPoint(format.signed, format.integer_bits, format.fraction_bits - spare)
        exponent = exponent_into(INPUT_FRACTION_BITS, format.fraction_bits)
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
        if isinstance(node, Linear):
            return self._linear(node)
        if isinstance(node, LookupTable):
            return self._table(node)
        if isinstance(node, Quantize):
            return self._quantize(node, sources[0])
        if isinstance(node, Clip):
            return self._clip(node, sources[0])
        if isinstance(node, Add | Concat):
            sources = self._aligned(sources)
        exponent = 0 if isinstance(node, ArgMax) else self.exponents[sources[0].name]
        if isinstance(node, TreeEnsemble):  # its thresholds are on the carried scale, its leaves are not
            node, exponent = replace(node, threshold=np.ldexp(node.threshold, exponent)), 0
        if isinstance(node, Gather):
            node = replace(node, fill=float(on_grid(np.ldexp(node.fill, exponent), sources[0].fixed.fraction_bits)))
        exact = all(edge.name in self.exact for edge in sources)
        return self._exact(replace(node, inputs=tuple(edge.name for edge in sources)), exponent, is_exact=exact)

    def _know(self, edge: Edge, bounds: Bounds, exponent: int) -> None:
        self.bounds[edge.name], self.exponents[edge.name], self.formats[edge.name] = bounds, exponent, edge.fixed

    def _exact(self, node: Node, exponent: int, *, is_exact: bool = False) -> Edge:
        """Append a node with the narrowest format that holds all it can give."""
        bounds = node.bounds([self.bounds[name] for name in node.inputs])
        fraction = node.fraction_bits([self.formats[name] for name in node.inputs])
        units = np.ldexp([bounds[0].min(), bounds[1].max()], fraction)
        edge = replace(node.output, format=FixedPoint.covering(round(units[0]), round(units[1]), fraction))
        self._append(replace(node, output=edge))
        self._know(edge, bounds, exponent)
        if is_exact:
            self.exact.add(edge.name)
        return edge

    def _append(self, node: Node) -> None:
        self.nodes.append(node)
        if self.carried:
            formats = [self.formats[name] for name in node.inputs]
            self.carried[node.output.name] = node.evaluate([self.carried[name] for name in node.inputs], formats)

    def _linear(self, node: Linear) -> Edge:
        edge = self.edges[node.inputs[0]]
        before = self.exponents[edge.name]
        constants, inner, exact = self._trained(node, edge) or self._chosen(node, edge)
        source = self._requantized(edge, inner)
        after = constants.exponent(before)
        weight, bias = np.ldexp(constants.weight, after - before), np.ldexp(constants.bias, after)
        return self._exact(replace(node, inputs=(source.name,), weight=weight, bias=bias), after, is_exact=exact)

    def _chosen(self, node: Linear, edge: Edge) -> tuple[Constants, FixedPoint, bool]:
        """Constants of the bits that they may have."""
        before = self.exponents[edge.name]
        for fewer in range(PRECISIONS[-1] - FEWEST_BITS + 1):
            inner = self._narrow(node.inputs[0], less(self.precision.activation(node.inputs[0]), fewer))
            weight, grid = rounded_weight(node, self.precision.weight(node.name), fewer)
            most = room(node, self.bounds[edge.name], before, inner)
            if grid <= most:
                break
        grid, given = min(grid, most), inner.fraction_bits + before
        weight = on_grid(weight, grid)
        source = self._requantized(edge, inner)
        bias = on_grid(node.bias + self._mean_error(node, source, weight), given + grid)
        return Constants(weight=weight, bias=bias, grid=grid, given=given), inner, False

    def _trained(self, node: Linear, edge: Edge) -> tuple[Constants, FixedPoint, bool] | None:
        """Constants that change nothing, where the model was trained with rounding; None where there are none."""
        if edge.name not in self.exact:
            return None
        before, inner = self.exponents[edge.name], edge.fixed
        given, most = inner.fraction_bits + before, room(node, self.bounds[edge.name], before, inner)
        grid = grid_bits(node.weight)
        kept = holds_grid(node.weight, TRAINED_BITS) and grid <= most
        if kept and (not node.bias.any() or grid_bits(node.bias) <= given + most):
            return Constants(weight=node.weight, bias=node.bias, grid=grid, given=given), inner, True
        rounded = next_rounding(self.rewriter, node.output.name)
        if rounded is None or not (kept or isinstance(node, Scale)):
            return None
        # of kept weights only the bias is in question: the whole product is what it is added to
        product = node.bounds_of_product(self.bounds[edge.name]) if kept else self.bounds[edge.name]
        low, high = (np.ldexp(end, -before) for end in product)
        factor, fraction, spare = (np.ones(()), given + grid, most - grid) if kept else (node.weight, given, most)
        bits = fewest_bits(factor, node.bias, ends=(low, high), fraction_bits=fraction, room=spare, rounded=rounded)
        if bits is None:
            return None
        weight = node.weight if kept else on_grid(node.weight, bits)
        bias = on_grid(node.bias, bits + fraction)
        return Constants(weight=weight, bias=bias, grid=grid_bits(weight), given=given), inner, True

    def _mean_error(self, node: Linear, source: Edge, weight: Real) -> Real:
        """What rounded inputs and weights make each sum lack on average, in the float graph's scale."""
        if not self.carried or not isinstance(node, Dense):
            return np.zeros_like(node.bias)
        given = node.product(np.ldexp(self.carried[source.name], -self.exponents[source.name]), weight) + node.bias
        lacks = self.values[node.output.name] - given
        return np.asarray(lacks.reshape(-1, *node.bias.shape).mean(axis=0))

    def _quantize(self, node: Quantize, edge: Edge) -> Edge:
        """The model's own rounding."""
        exponent = self.exponents[edge.name]
        output = replace(node.output, format=moved(node.format, exponent))
        made = Requantize(
            name=node.name, inputs=(edge.name,), output=output, rounding=node.rounding, overflow=node.overflow
        )
        self._append(made)
        self._know(output, made.bounds([self.bounds[edge.name]]), exponent)
        if edge.name in self.exact:
            self.exact.add(output.name)
        return output

    def _table(self, node: LookupTable) -> Edge:
        values, function = self.values[node.inputs[0]], node.apply
        edge = self.edges[node.inputs[0]]
        before = self.exponents[edge.name]
        width = min(self.precision.activation(node.inputs[0]), MAX_TABLE_BITS)
        signed = bool(values.min() < 0)
        with np.errstate(over="ignore"):  # beyond the calibration data exp may be infinite, which saturates
            format = best_format(values, width, signed=signed, through=function)
            if exact := edge.name in self.exact and edge.fixed.width <= MAX_TABLE_BITS:
                format = moved(edge.fixed, -before)
            source = self._requantized(edge, moved(format, before))
            exact_entries = function(format.dequantize(np.arange(format.min_integer, format.max_integer + 1)))
        name = node.output.name
        rounded = next_rounding(self.rewriter, name) if exact else None
        if rounded is not None:
            entries = rounded(exact_entries)
            return self._exact(_tabled(node, source, entries), 0, is_exact=True)
        out = best_format(self.values[name], self.precision.activation(name), signed=bool(exact_entries.min() < 0))
        after = exponent_into(FRACTION_BITS, out.fraction_bits)
        table = np.ldexp(out.dequantize(out.quantize(exact_entries)), after)
        return self._exact(_tabled(node, source, table), after)

    def _clip(self, node: Clip, source: Edge) -> Edge:
        exponent, fraction = self.exponents[source.name], source.fixed.fraction_bits
        bounds = self.bounds[source.name]
        # an end that nothing reaches is the nearest value that something may reach
        ends = np.clip(np.ldexp([node.low, node.high], exponent), bounds[0].min(), bounds[1].max())
        exact = source.name in self.exact
        if exact and holds_grid(ends, TRAINED_BITS):
            fraction = max(fraction, grid_bits(ends))
        low, high = (float(end) for end in on_grid(ends, fraction))
        exact = exact and (low, high) == tuple(ends)
        return self._exact(replace(node, inputs=(source.name,), low=low, high=high), exponent, is_exact=exact)

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
        name = self._fresh(f"{edge.name}/lifted")
        factor = np.array(math.ldexp(1.0, more))
        output = Edge(name=name, shape=edge.shape)
        lifted = Scale(name=name, inputs=(edge.name,), output=output, weight=factor, bias=np.zeros(()))
        return self._exact(lifted, exponent, is_exact=edge.name in self.exact)

    def _narrow(self, name: str, width: int) -> FixedPoint:
        """A format of at most this width for an edge with these values."""
        edge = self.edges[name]
        if edge.fixed.width <= width or edge.name in self.exact:
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
        drop = edge.fixed.width - (WIDEST_OUTPUT if edge.name in self.exact else self.precision.outputs)
        if drop <= 0 or any(edge.name == given.edge.name for given in self.graph.inputs):
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


def _tabled(node: LookupTable, source: Edge, table: Real) -> LookupTable:
    plain = (1.0, 0.0)
    return replace(node, inputs=(source.name,), table=table, inner=plain, outer=plain)


def _scale(edge: Edge, exponent: int) -> tuple[HostOperation, ...]:
    factor, offset = np.full(edge.shape, math.ldexp(1.0, exponent)), np.zeros(edge.shape)
    return () if exponent == 0 else (host_scale(factor, offset),)
