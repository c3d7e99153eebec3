"""Formats for every edge: a float graph and calibration data in, an integer graph and what it cost out.

Weights and activations get ``precision`` bits with one power-of-two scale for each tensor; the scale is the one with
the smallest squared error on the calibration data. Sums keep all their bits. Outputs keep up to ``OUTPUT_BITS``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import AccuracyLost, UnsupportedOperation
from gatesmith.fixed import FixedPoint, Rounding
from gatesmith.model import reference
from gatesmith.model.graph import Graph, Terminal
from gatesmith.model.nodes import (
    FUNCTIONS,
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
from gatesmith.quantize.calibrate import check_calibration
from gatesmith.quantize.fold import fold, with_scaled_inputs

__all__ = ["QuantizationReport", "quantize"]

Real = NDArray[np.float64]

OUTPUT_BITS = 16
"""Widest output element; wider sums are rounded to it."""

PRECISIONS = range(2, 17)

SCALING_GAIN = 0.25
"""Inputs are scaled on the host when that brings the squared error below this share."""

ROUNDING = Rounding.HALF_UP
"""Inside the graph: half to even would need two adders more for each activation and is no more accurate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizationReport:
    """What quantising cost, on the calibration data.

    ``agreement`` is the share of samples whose largest output is the float model's, None for a single output;
    ``max_abs_error`` the largest difference of any output.
    """

    precision_bits: int
    samples: int
    agreement: float | None
    max_abs_error: float

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return {
            "precision_bits": self.precision_bits,
            "samples": self.samples,
            "agreement": self.agreement,
            "max_abs_error": self.max_abs_error,
            "rounding": ROUNDING.value,
        }


def quantize(
    graph: Graph, calibration: Mapping[str, NDArray[Any]] | NDArray[Any] | None, *, precision: int = 8
) -> tuple[Graph, QuantizationReport]:
    """An integer graph that does what the float graph does.

    Parameters
    ----------
    graph : Graph
        A float graph.
    calibration : mapping of str to ndarray, or ndarray, shape (samples, *input shape)
        What the model sees in use; see :func:`gatesmith.quantize.calibrate.check_calibration`.
    precision : int
        Bits of weights and activations, 2 to 16.

    Raises
    ------
    CalibrationNeeded
        When there is no usable calibration data.
    AccuracyLost
        When the precision is out of range or a sum would need more than 52 bits.
    """
    if precision not in PRECISIONS:
        raise AccuracyLost(f"precision {precision} bits, {PRECISIONS[0]} to {PRECISIONS[-1]} are possible")
    data = check_calibration(graph, calibration)
    folded = fold(graph)
    integer = _Allocation(folded, data, precision).run()
    scaled = with_scaled_inputs(folded, data)
    if scaled is not folded:
        # features of very different ranges need it; for the rest the host is left out
        other = _Allocation(scaled, data, precision).run()
        if _squared_error(graph, other, data) < SCALING_GAIN * _squared_error(graph, integer, data):
            integer = other
    return integer, _report(graph, integer, data, precision)


def _squared_error(graph: Graph, integer: Graph, data: dict[str, NDArray[Any]]) -> float:
    wanted, given = reference.infer_real(graph, data), reference.infer_real(integer, data)
    return sum(float(np.mean((real - given[name]) ** 2)) for name, real in wanted.items())


def _report(graph: Graph, integer: Graph, data: dict[str, NDArray[Any]], precision: int) -> QuantizationReport:
    wanted = reference.infer_real(graph, data)
    given = reference.infer_real(integer, data)
    agreements: list[float] = []
    errors: list[float] = []
    for name, real in wanted.items():
        errors.append(float(np.max(np.abs(real - given[name]))))
        if real.ndim > 1 and real.shape[-1] > 1:
            agreements.append(float(np.mean(np.argmax(real, axis=-1) == np.argmax(given[name], axis=-1))))
        elif any(isinstance(node, ArgMax) and node.output.name == name for node in graph.nodes):
            agreements.append(float(np.mean(real == given[name])))
    return QuantizationReport(
        precision_bits=precision,
        samples=len(next(iter(data.values()))),
        agreement=min(agreements) if agreements else None,
        max_abs_error=max(errors),
    )


def best_format(values: Real, width: int, *, signed: bool, through: Callable[[Real], Real] = lambda v: v) -> FixedPoint:
    """The format of this width whose rounding changes ``through(values)`` least, in squared error.

    Tries the scale that covers all values, a coarser one and two finer ones that saturate the outliers; of equals, the
    finest.
    """
    largest = float(np.max(np.abs(values), initial=0.0))
    top = 0 if largest == 0 else math.ceil(math.log2(largest) + 1e-12)
    fraction = width - int(signed) - top
    candidates = [FixedPoint(signed, top - finer, fraction + finer) for finer in (2, 1, 0, -1)]
    exact = through(values)

    def error(format: FixedPoint) -> float:
        return float(np.sum((through(format.dequantize(format.quantize(values))) - exact) ** 2))

    return min(candidates, key=error)


class _Allocation:
    """One pass over the float graph; holds what has been decided for each float edge."""

    def __init__(self, graph: Graph, data: dict[str, NDArray[Any]], precision: int) -> None:
        self.graph = graph
        self.precision = precision
        scaled = {t.edge.name: _on_host(t, data[t.edge.name]) for t in graph.inputs}
        self.values = reference.evaluate(graph, scaled)
        self.nodes: list[Node] = []
        self.edges: dict[str, Edge] = {}  # float edge -> integer edge
        self.bounds: dict[str, Bounds] = {}  # integer edge -> bounds
        self.narrowed: dict[tuple[str, FixedPoint], Edge] = {}

    def run(self) -> Graph:
        inputs = tuple(replace(t, edge=self._input(t)) for t in self.graph.inputs)
        for node in self.graph.nodes:
            self.edges[node.output.name] = self._place(node)
        outputs = tuple(replace(t, edge=self._output(t.edge)) for t in self.graph.outputs)
        return Graph(name=self.graph.name, inputs=inputs, nodes=tuple(self.nodes), outputs=outputs)

    def _input(self, terminal: Terminal) -> Edge:
        values = self.values[terminal.edge.name]
        format = best_format(values, self.precision, signed=bool(values.min() < 0))
        # fraction bits that no sample uses carry nothing: pixels stay whole numbers
        spare = format.fraction_bits - grid_bits(values)
        if 0 < spare < format.width - int(format.signed):
            format = FixedPoint(format.signed, format.integer_bits, format.fraction_bits - spare)
        edge = replace(terminal.edge, format=format)
        low, high = format.dequantize([format.min_integer, format.max_integer])
        self.bounds[edge.name] = (np.full(edge.shape, low), np.full(edge.shape, high))
        self.edges[terminal.edge.name] = edge
        return edge

    def _place(self, node: Node) -> Edge:
        sources = [self.edges[name] for name in node.inputs]
        if isinstance(node, Dense):
            return self._dense(node, self._narrow(node.inputs[0]))
        if isinstance(node, LookupTable):
            return self._table(node)
        if isinstance(node, Clip):
            return self._clip(node, sources[0])
        if isinstance(node, Concat):
            common = _common([edge.fixed for edge in sources])
            sources = [self._requantized(edge, common) for edge in sources]
        elif isinstance(node, Requantize):
            raise UnsupportedOperation(f"node {node.name!r} (Requantize) in a float graph", node=node.name)
        return self._exact(replace(node, inputs=tuple(edge.name for edge in sources)))

    def _exact(self, node: Node) -> Edge:
        """Append a node with the narrowest format that holds all it can give."""
        given = [self.bounds[name] for name in node.inputs]
        formats = [self._format_of(name) for name in node.inputs]
        low, high = node.bounds(given)
        fraction = node.fraction_bits(formats)
        units = np.ldexp([low.min(initial=np.inf), high.max(initial=-np.inf)], fraction)
        edge = replace(node.output, format=FixedPoint.covering(round(units[0]), round(units[1]), fraction))
        self.nodes.append(replace(node, output=edge))
        self.bounds[edge.name] = (low, high)
        return edge

    def _format_of(self, name: str) -> FixedPoint:
        for terminal in self.graph.inputs:
            if terminal.edge.name == name:
                return self.edges[name].fixed
        return next(node.output.fixed for node in self.nodes if node.output.name == name)

    def _dense(self, node: Dense, source: Edge) -> Edge:
        format = best_format(node.weight, self.precision, signed=True)
        weight = format.dequantize(format.quantize(node.weight))
        fraction = source.fixed.fraction_bits + grid_bits(weight)
        bias = np.ldexp(np.rint(np.ldexp(node.bias, fraction)), -fraction)
        return self._exact(replace(node, inputs=(source.name,), weight=weight, bias=bias))

    def _table(self, node: LookupTable) -> Edge:
        values = self.values[node.inputs[0]]
        function = FUNCTIONS[node.function]
        signed = bool(values.min() < 0)
        format = best_format(values, self.precision, signed=signed, through=function)
        source = self._requantized(self.edges[node.inputs[0]], format)
        inputs = source.fixed
        exact = function(inputs.dequantize(np.arange(inputs.min_integer, inputs.max_integer + 1)))
        wanted = self.values[node.output.name]
        out = best_format(wanted, self.precision, signed=bool(exact.min() < 0))
        return self._exact(replace(node, inputs=(source.name,), table=out.dequantize(out.quantize(exact))))

    def _clip(self, node: Clip, source: Edge) -> Edge:
        step = source.fixed.step
        low, high = (round(end / step) * step for end in (node.low, node.high))
        return self._exact(replace(node, inputs=(source.name,), low=low, high=high))

    def _narrow(self, name: str) -> Edge:
        """An edge of at most ``precision`` bits with these values."""
        edge = self.edges[name]
        if edge.fixed.width <= self.precision:
            return edge
        low, _ = self.bounds[edge.name]
        signed = bool(low.min() < 0)
        return self._requantized(edge, best_format(self.values[name], self.precision, signed=signed))

    def _requantized(self, edge: Edge, format: FixedPoint) -> Edge:
        if edge.fixed == format:
            return edge
        key = (edge.name, format)
        if key not in self.narrowed:
            node = Requantize(
                name=f"{edge.name}/requantize{len(self.narrowed)}",
                inputs=(edge.name,),
                output=Edge(name=f"{edge.name}/{format}", shape=edge.shape, format=format),
                rounding=ROUNDING,
            )
            self.nodes.append(node)
            self.bounds[node.output.name] = node.bounds([self.bounds[edge.name]])
            self.narrowed[key] = node.output
        return self.narrowed[key]

    def _output(self, edge: Edge) -> Edge:
        """The output edge under its own name, of at most ``OUTPUT_BITS`` bits."""
        source = self.edges[edge.name]
        if source.fixed.width <= OUTPUT_BITS:
            return source
        drop = source.fixed.width - OUTPUT_BITS
        format = FixedPoint(source.fixed.signed, source.fixed.integer_bits, source.fixed.fraction_bits - drop)
        # the client knows the output's name, so the sum before it takes another
        position = next(i for i, node in enumerate(self.nodes) if node.output.name == source.name)
        inner = replace(source, name=f"{source.name}/sum")
        self.nodes[position] = replace(self.nodes[position], output=inner)
        for i, node in enumerate(self.nodes):
            renamed = tuple(inner.name if name == source.name else name for name in node.inputs)
            self.nodes[i] = replace(node, inputs=renamed)
        self.bounds[inner.name] = self.bounds[source.name]
        final = Requantize(
            name=f"{source.name}/output",
            inputs=(inner.name,),
            output=Edge(name=source.name, shape=source.shape, format=format),
            rounding=ROUNDING,
        )
        self.nodes.append(final)
        self.bounds[source.name] = final.bounds([self.bounds[inner.name]])
        return final.output


def _on_host(terminal: Terminal, values: NDArray[Any]) -> Real:
    real = values.astype(np.float64)
    for operation in terminal.host:
        real = operation.apply(real)
    return real


def _common(formats: list[FixedPoint]) -> FixedPoint:
    """The narrowest format that holds all values of all formats."""
    fraction = max(format.fraction_bits for format in formats)
    low = min(format.min_integer << (fraction - format.fraction_bits) for format in formats)
    high = max(format.max_integer << (fraction - format.fraction_bits) for format in formats)
    return FixedPoint.covering(low, high, fraction)
