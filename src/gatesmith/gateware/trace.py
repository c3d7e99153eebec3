"""An integer graph as one adder graph: every node in terms of da4ml's fixed-point variables.

da4ml finds shared subexpressions for the constant matrix products and keeps the exact interval of every wire, so a wire
is never wider than its values. The result is combinational; ``unrolled`` cuts it into stages.
"""

# Ref: da4ml 0.6 (LGPL-3.0), da4ml.trace: quantize() knows truncation and half-up; half to even is built here

from __future__ import annotations

from dataclasses import dataclass
from decimal import localcontext
from typing import Any

import numpy as np
from da4ml.trace import FixedVariableArray, HWConfig, comb_trace
from numpy.typing import NDArray

from gatesmith.errors import UnsupportedOperation
from gatesmith.fixed import FixedPoint, Overflow, Rounding
from gatesmith.model.graph import Graph
from gatesmith.model.nodes import (
    Add,
    ArgMax,
    Clip,
    Concat,
    Dense,
    Gather,
    LookupTable,
    Max,
    Node,
    ReLU,
    Requantize,
    Reshape,
    Scale,
)

__all__ = ["DECIMAL_DIGITS", "AdderGraph", "trace"]

Wires = NDArray[Any]  # of da4ml's FixedVariable, shape of one sample

# delay unit is one adder, whatever its width
HARDWARE = HWConfig(1, -1, -1)

DECIMAL_DIGITS = 100
"""da4ml keeps intervals and constants as Decimal; the default 28 digits round binary fractions beyond some 26 bits."""

MAX_FRACTION_BITS = 32
"""da4ml finds the last bit of a constant down to 2**-32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdderGraph:
    """The traced graph: da4ml's combinational logic and the formats at its ends."""

    logic: Any  # da4ml.types.CombLogic
    inputs: tuple[FixedPoint, ...]  # one for each element
    outputs: tuple[FixedPoint, ...]

    @property
    def depth(self) -> int:
        """Adders in a row on the longest path, as da4ml counts them."""
        return int(max(self.logic.out_latency, default=0))

    def infer(self, integers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Run da4ml's own emulator: a witness that shares no code with the reference.

        Parameters
        ----------
        integers : ndarray of int64, shape (batch, input elements)

        Returns
        -------
        ndarray of int64, shape (batch, output elements)
        """
        steps = np.array([format.step for format in self.inputs])
        try:
            real = self.logic.predict(np.ascontiguousarray(integers * steps), n_threads=1)
        except RuntimeError as error:
            raise UnsupportedOperation(
                f"da4ml's emulator cannot run this graph: {error}; use fewer bits, or scale the model's weights"
            ) from error
        units = real / np.array([format.step for format in self.outputs])
        return np.asarray(units.reshape(len(integers), -1).astype(np.int64))


def trace(graph: Graph) -> AdderGraph:
    """Trace an integer graph.

    Raises
    ------
    UnsupportedOperation
        When a node has no translation.
    """
    with localcontext(prec=DECIMAL_DIGITS):
        return _trace(graph)


def _trace(graph: Graph) -> AdderGraph:
    wires: dict[str, Wires] = {}
    for terminal in graph.inputs:
        format, shape = terminal.edge.fixed, terminal.edge.shape
        ones = np.ones(shape, dtype=np.int64)
        made = FixedVariableArray.from_kif(
            ones * int(format.signed), ones * format.integer_bits, ones * format.fraction_bits, HARDWARE
        )
        wires[terminal.edge.name] = np.asarray(made._vars).reshape(shape)
    for node in graph.nodes:
        if node.output.fixed.fraction_bits > MAX_FRACTION_BITS:
            raise node.refuse(
                f"needs {node.output.fixed.fraction_bits} fraction bits, {MAX_FRACTION_BITS} are possible"
            )
        wires[node.output.name] = _traced(node, [wires[name] for name in node.inputs], graph)
    first = np.concatenate([wires[t.edge.name].ravel() for t in graph.inputs])
    last = np.concatenate([wires[t.edge.name].ravel() for t in graph.outputs])
    return AdderGraph(
        logic=comb_trace(list(first), list(last), keep_dead_inputs=True),
        inputs=tuple(t.edge.fixed for t in graph.inputs for _ in range(t.edge.elements)),
        outputs=tuple(t.edge.fixed for t in graph.outputs for _ in range(t.edge.elements)),
    )


def _traced(node: Node, given: list[Wires], graph: Graph) -> Wires:
    x = given[0]
    match node:
        case Dense():
            return _dense(x, node)
        case Scale():
            pairs = zip(
                x.ravel(), *(np.broadcast_to(v, x.shape).ravel() for v in (node.weight, node.bias)), strict=True
            )
            return _each(x.shape, [v * float(weight) + float(bias) for v, weight, bias in pairs])
        case Add():
            return _each(x.shape, [a + b for a, b in zip(x.ravel(), given[1].ravel(), strict=True)])
        case ReLU():
            return _each(x.shape, [v.relu() for v in x.ravel()])
        case Clip():
            return _each(x.shape, [v.max_of(node.low).min_of(node.high) for v in x.ravel()])
        case LookupTable():
            return _each(x.shape, [_looked_up(v, node, graph) for v in x.ravel()])
        case Concat():
            return np.concatenate(given)
        case Reshape():
            return x.reshape(node.output.shape)
        case Gather():
            constant = x.ravel()[0].from_const(node.fill, hwconf=HARDWARE)
            picked = np.append(_each((x.size,), list(x.ravel())), [constant])
            return np.asarray(picked[node.index])  # -1 is the last one
        case Max():
            return _each(node.output.shape, [_largest(list(row)) for row in x.reshape(-1, x.shape[-1])])
        case Requantize():
            return _each(x.shape, [_requantized(v, node) for v in x.ravel()])
        case ArgMax():
            return _each(node.output.shape, [_arg_max(list(x))])
    raise UnsupportedOperation(f"node {node.name!r} ({node.kind}) has no unrolled gateware", node=node.name)


def _each(shape: tuple[int, ...], values: list[Any]) -> Wires:
    result = np.empty(len(values), dtype=object)
    result[:] = values
    return result.reshape(shape)


def _dense(x: Wires, node: Dense) -> Wires:
    weight, bias = node.weight, node.bias
    if weight.ndim == 2:
        return np.asarray((FixedVariableArray(x, hwconf=HARDWARE) @ weight + bias)._vars)
    groups = [FixedVariableArray(x[..., g, :], hwconf=HARDWARE) @ weight[g] + bias[g] for g in range(len(weight))]
    return np.stack([np.asarray(group._vars) for group in groups], axis=-2)


def _largest(wires: list[Any]) -> Any:
    """A tree of comparisons: its depth grows with the logarithm of their number."""
    while len(wires) > 1:
        pairs = [a.max_of(b) for a, b in zip(wires[::2], wires[1::2], strict=False)]
        wires = pairs + wires[len(pairs) * 2 :]
    return wires[0]


def _looked_up(wire: Any, node: LookupTable, graph: Graph) -> Any:
    table = node.table
    format = graph.edges[node.inputs[0]].fixed
    if table is None:
        raise node.refuse("has no table; quantise the graph first")
    # the wire may take fewer values than its format has: its own interval indexes the table
    low, high, step = (float(v) for v in (wire.low, wire.high, wire.step))
    stride = round(step / format.step)
    first, last = round(low / format.step) - format.min_integer, round(high / format.step) - format.min_integer
    part = np.ascontiguousarray(table[first : last + 1 : stride])
    if len(np.unique(part)) == 1:
        return wire.from_const(float(part[0]), hwconf=HARDWARE)
    return wire.lookup(part)


def _requantized(wire: Any, node: Requantize) -> Any:
    format = node.output.fixed
    rounded = _rounded(wire, format.fraction_bits, node.rounding)
    if node.overflow is Overflow.SATURATE:
        rounded = _saturated(rounded, format)
    return rounded.quantize(int(format.signed), format.integer_bits, format.fraction_bits, "WRAP", "TRN")


def _rounded(wire: Any, fraction_bits: int, rounding: Rounding) -> Any:
    """The wire with at most these fraction bits; wide enough that nothing overflows."""
    extra = int(wire.kif[2]) - fraction_bits
    if extra <= 0 or wire.low == wire.high:
        return wire if extra <= 0 else wire.from_const(_round_constant(wire, fraction_bits, rounding), hwconf=HARDWARE)
    half = 2.0 ** (-fraction_bits - 1)
    if rounding is not Rounding.TRUNCATE:
        # max(x, 0) and this rounding commute, and the constant then joins the bias below the ReLU
        if wire.opr == "relu" and wire._factor > 0 and wire._from[0]._factor > 0:
            wire = (wire._from[0] * _scale(wire) + half).relu()
        else:
            wire = wire + half
    # room for a carry, and for the step below zero that a small negative value is truncated to
    integer_bits = max(int(wire.kif[1]) + 1, -fraction_bits)
    signed = int(wire.low < 0)
    if rounding is not Rounding.HALF_EVEN:
        return wire.quantize(signed, integer_bits, fraction_bits, "WRAP", "TRN")
    # the last bit is cleared where the sum lies on the grid: it was half a step from there
    lower = wire.quantize(0, -fraction_bits, fraction_bits + extra, "WRAP", "TRN")
    between = lower * 2.0 if extra == 1 else lower.unary_bit_op("any") * 2.0**-fraction_bits
    odd = wire.quantize(0, 1 - fraction_bits, fraction_bits, "WRAP", "TRN").binary_bit_op(between, "and")
    return wire.quantize(signed, integer_bits, fraction_bits - 1, "WRAP", "TRN").binary_bit_op(odd, "or")


def _scale(relu: Any) -> float:
    return float(relu._factor / relu._from[0]._factor)


def _round_constant(wire: Any, fraction_bits: int, rounding: Rounding) -> float:
    format = FixedPoint(True, 40 - fraction_bits, fraction_bits)
    return float(format.dequantize(format.quantize(float(wire.low), rounding=rounding)))


def _saturated(wire: Any, format: FixedPoint) -> Any:
    low, high = (float(v) for v in format.dequantize([format.min_integer, format.max_integer]))
    if float(wire.low) >= 0 and float(wire.high) > high and not format.signed:
        # non-negative: any bit above the format means overflow, cheaper than a comparison
        above = wire.quantize(0, int(wire.kif[1]), -format.integer_bits, "WRAP", "TRN")
        below = wire.quantize(0, format.integer_bits, format.fraction_bits, "WRAP", "TRN")
        if sum(above.kif) == 1:
            # of one bit da4ml would test the top bit of `wire` itself, which its emulator gets wrong when unsigned
            return above.unary_bit_op("not").msb_mux(below, high)
        return above.unary_bit_op("any").msb_mux(high, below)
    return wire.max_of(low).min_of(high)


def _arg_max(wires: list[Any]) -> Any:
    """A tournament in which the earlier of two equal elements wins."""
    rounds: list[tuple[Any, Any]] = [(wire, float(i)) for i, wire in enumerate(wires)]
    while len(rounds) > 1:
        pairs = [_winner(*rounds[i : i + 2]) for i in range(0, len(rounds) - 1, 2)]
        rounds = pairs + (rounds[-1:] if len(rounds) % 2 else [])
    index = rounds[0][1]
    return wires[0].from_const(index, hwconf=HARDWARE) if isinstance(index, float) else index


def _winner(first: tuple[Any, Any], second: tuple[Any, Any]) -> tuple[Any, Any]:
    (a, index_a), (b, index_b) = first, second
    if a.low >= b.high:
        return first
    if b.low > a.high:
        return second
    difference = a - b
    return a.max_of(b), difference.msb_mux(index_b, index_a)
