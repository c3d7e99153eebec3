"""Models that were trained with rounding: QONNX's operators, and pairs of QuantizeLinear and DequantizeLinear.

A rounded constant keeps its integers and its scale apart, so that a product can be one of integers with the scale
behind it. A rounded edge becomes a Quantize node: with a power of two for a scale its format is the scale; else it
counts in whole numbers between a division and a product.
"""
# Ref: QONNX operator definitions (fastmachinelearning/qonnx docs/qonnx-custom-ops): Quant, BipolarQuant, Trunc;
# Ref: narrow leaves out the lowest integer of a signed range and the highest of an unsigned one
# Ref: ONNX QuantizeLinear (rounds half to even, saturates), DequantizeLinear, attribute axis 1

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gatesmith.fixed import FixedPoint, Rounding
from gatesmith.frontends.onnx_call import Call, Operator, Value
from gatesmith.frontends.rounding import Grid, Span, is_power_of_two
from gatesmith.model.node import Real
from gatesmith.model.nodes import Edge

__all__ = ["QDQ_OPERATORS", "QONNX_OPERATORS"]

MAX_BITS = 32

ROUNDINGS = {
    "ROUND": Rounding.HALF_EVEN,
    "HALF_EVEN": Rounding.HALF_EVEN,
    "FLOOR": Rounding.TRUNCATE,
}
"""Those that a graph has too."""


def _quant(call: Call) -> Value:
    bits = call.number(3)
    if bits != round(bits) or not 1 <= bits <= MAX_BITS:
        raise call.refuse(f"has {bits:g} bits, a whole number from 1 to {MAX_BITS} is needed")
    count, signed, narrow = int(bits), bool(call.attribute("signed", 1)), bool(call.attribute("narrow", 0))
    mode = call.attribute("rounding_mode", b"ROUND").decode().upper()
    if mode not in ROUNDINGS:
        raise call.refuse(f"rounds in the mode {mode}; possible are {', '.join(sorted(ROUNDINGS))}")
    if signed:
        low, high = -(1 << (count - 1)) + int(narrow), (1 << (count - 1)) - 1
    else:
        low, high = 0, (1 << count) - 1 - int(narrow)
    return _rounded(call, low, high, ROUNDINGS[mode])


def _rounded(call: Call, low: int, high: int, rounding: Rounding) -> Value:
    value, scale, zero = call.value(0), _scale(call, 1), call.constant(2).astype(np.float64)
    if not isinstance(value, Edge):
        span = Span(low=low, high=high, rounding=rounding, scale=scale, zero=zero)
        whole = span.integers(value.astype(np.float64)) - zero
        _remember(call, whole, scale)
        return np.asarray(whole * scale)
    x = call.real()
    span = Span(
        low=low, high=high, rounding=rounding, scale=call.aligned(scale, x.shape), zero=call.aligned(zero, x.shape)
    )
    return span.real(call.builder, call.name, span.rounded(call.builder, call.name, x))


def _scale(call: Call, index: int) -> Real:
    scale = call.constant(index).astype(np.float64)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise call.refuse(f"has a scale of {scale.ravel()[:3].tolist()}, positive numbers are needed")
    return scale


def _remember(call: Call, whole: Real, scale: Real) -> None:
    if not is_power_of_two(scale):  # a product with such a scale loses nothing
        call.reader.grids[call.node.output[0]] = Grid(integers=whole, scale=scale)


def _bipolar(call: Call) -> Value:
    value, scale = call.value(0), _scale(call, 1)
    if not isinstance(value, Edge):
        whole = np.where(value >= 0, 1.0, -1.0)
        _remember(call, whole, scale)
        return np.asarray(whole * scale)
    # the sign bit alone: -1 or 0
    sign = call.builder.quantize(call.name, call.real(), FixedPoint(True, 0, 0), rounding=Rounding.TRUNCATE)
    factor = call.aligned(scale, value.shape)
    return call.builder.scale(f"{call.name}/scale", sign, 2 * factor, factor)


def _trunc(call: Call) -> Value:
    x, scale, zero = call.real(), call.number(1), call.number(2)
    before, after = int(call.number(3)), int(call.number(4))
    mode = call.attribute("rounding_mode", b"FLOOR").decode().upper()
    signed = bool(call.attribute("signed", 1))
    if mode not in ROUNDINGS or zero or scale <= 0 or not 1 <= after <= before <= MAX_BITS:
        raise call.refuse(f"drops bits from {before} to {after}, scale {scale:g}, zero {zero:g}, mode {mode}")
    factor = scale * 2.0 ** (before - after)
    format = FixedPoint(signed, after - int(signed), 0)
    units = call.builder.scale(f"{call.name}/units", x, np.array(1 / factor), np.array(0.0))
    whole = call.builder.quantize(call.name, units, format, rounding=ROUNDINGS[mode])
    return call.builder.scale(f"{call.name}/scale", whole, np.array(scale), np.array(0.0))


def _along(call: Call, values: Real, axes: int) -> Real:
    """Scales of one axis of the batch's data, or of a constant, broadcast to all its axes."""
    if values.size == 1:
        return values.reshape(())
    axis = call.attribute("axis", 1) % axes
    if values.ndim != 1 or call.attribute("block_size", 0):
        raise call.refuse(f"has scales of shape {list(values.shape)}; one, or one for each place of an axis, is needed")
    return values.reshape([-1 if i == axis else 1 for i in range(axes)])


def _linear(call: Call, value: Value) -> tuple[Real, Real, np.dtype[Any]]:
    axes = len(value.shape) + 1 if isinstance(value, Edge) else value.ndim
    point = call.constant(2) if call.has(2) else np.zeros((), np.uint8)
    scale, zero = _scale(call, 1), np.broadcast_to(point.astype(np.float64), call.constant(1).shape)
    return _along(call, scale, axes), _along(call, zero, axes), point.dtype


def _quantize_linear(call: Call) -> Value:
    value = call.value(0)
    scale, zero, dtype = _linear(call, value)
    if dtype.kind not in "iu":
        raise call.refuse(f"rounds to {dtype}, whole numbers are possible")
    info = np.iinfo(dtype)
    span = Span(low=int(info.min), high=int(info.max), rounding=Rounding.HALF_EVEN, scale=scale, zero=zero)
    if not isinstance(value, Edge):
        return span.integers(value.astype(np.float64)).astype(dtype)
    x = call.real()
    span = replace(span, scale=call.aligned(scale, x.shape), zero=call.aligned(zero, x.shape))
    rounded = span.rounded(call.builder, call.name, x)
    call.dtype = dtype
    if not span.is_format:
        return rounded
    # the integers themselves, which are what this operator gives
    return call.builder.scale(f"{call.name}/integers", rounded, 1.0 / span.scale, np.array(0.0))


def _dequantize_linear(call: Call) -> Value:
    value = call.value(0)
    scale, zero, _ = _linear(call, value)
    if not isinstance(value, Edge):
        whole = value.astype(np.float64) - zero
        _remember(call, whole, scale)
        return np.asarray(whole * scale)
    shape = value.shape
    call.dtype = np.dtype(np.float32)
    factor, offset = call.aligned(scale, shape), call.aligned(-zero * scale, shape)
    return call.builder.scale(call.name, value, factor, offset)


QDQ_OPERATORS: dict[str, Operator] = {
    "DequantizeLinear": _dequantize_linear,
    "QuantizeLinear": _quantize_linear,
}
"""Operators of the default domain."""

QONNX_OPERATORS: dict[str, Operator] = {
    "BipolarQuant": _bipolar,
    "IntQuant": _quant,
    "Quant": _quant,
    "Trunc": _trunc,
}
"""Operators of QONNX's domains."""
