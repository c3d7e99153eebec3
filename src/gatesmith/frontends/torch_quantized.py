"""Rounding that a model was trained with: fake quantisation, and pairs of quantize and dequantize (PT2E)."""
# Ref: PyTorch API: fake_quantize_per_tensor_affine: (clamp(round(x / scale) + zero_point, min, max) - zero_point)
# Ref: * scale; quantized_decomposed (torch/ao/quantization/fx/_decomposed.py); fused_moving_avg_obs_fake_quant

from __future__ import annotations

from typing import Any

import numpy as np

from gatesmith.frontends.rounding import Grid, Span, is_power_of_two
from gatesmith.frontends.torch_call import Array, Call, Operator, Value
from gatesmith.model.node import Edge, Real

__all__ = ["QUANTIZED_OPERATORS"]

MAX_BITS = 32


def _span(call: Call, value: Edge | Array, scale: Real, zero: Real) -> Span:
    low, high = int(call.option("quant_min")), int(call.option("quant_max"))
    if not low < high or high - low >= 1 << MAX_BITS or abs(low) > 1 << MAX_BITS:
        raise call.refuse(f"rounds to whole numbers from {low} to {high}; {MAX_BITS} bits are possible")
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise call.refuse(f"has a scale of {scale.ravel()[:3].tolist()}, positive numbers are needed")
    axes = len(value.shape) + int(isinstance(value, Edge))
    scale, zero = (_along(call, given, axes) for given in (scale, zero))
    if isinstance(value, Edge):
        scale, zero = call.aligned(scale, value.shape), call.aligned(zero, value.shape)
    return Span(low=low, high=high, scale=scale, zero=zero)


def _along(call: Call, values: Real, axes: int) -> Real:
    """Scales of one axis, broadcast to all."""
    if values.size == 1:
        return values.reshape(())
    axis = call.option("axis", call.option("ch_axis"))
    if values.ndim != 1 or axis is None:
        raise call.refuse(f"has scales of shape {list(values.shape)}; one, or one for each place of an axis, is needed")
    return values.reshape([-1 if i == axis % axes else 1 for i in range(axes)])


def _numbers(call: Call, key: str, default: float | None = None) -> Real:
    if not call.has(key) and default is not None:
        return np.array(default)
    return call.weights(key)


def _fake(scale: str = "scale", zero: str = "zero_point") -> Operator:
    def run(call: Call) -> list[Value]:
        value = call.value("self")
        if call.has("fake_quant_enabled") and not call.constant("fake_quant_enabled").any():
            return [value, None]
        span = _span(call, value, _numbers(call, scale), _numbers(call, zero))
        if not isinstance(value, Edge):
            whole = span.integers(value.astype(np.float64)) - span.zero
            return [_remembered(call, whole, span.scale), None]
        return [span.real(call.builder, call.name, span.rounded(call.builder, call.name, call.real())), None]

    return run


def _remembered(call: Call, whole: Real, scale: Real) -> Array:
    if not is_power_of_two(scale):  # a product with such a scale loses nothing
        call.reader.grids[call.step.outputs[0]] = Grid(integers=whole, scale=scale)
    return np.asarray(whole * scale)


def _observed(call: Call) -> Any:
    if call.constant("observer_on").any():
        raise call.refuse("still observes; export the model after model.apply(disable_observer)")
    if not call.constant("fake_quant_on").any():
        return call.value("self")
    return _fake()(call)


def _quantize(scale: str, zero: str) -> Operator:
    def run(call: Call) -> Value:
        value = call.value("input")
        span = _span(call, value, _numbers(call, scale), _numbers(call, zero))
        if not isinstance(value, Edge):
            return span.integers(value.astype(np.float64))
        rounded = span.rounded(call.builder, call.name, value)
        if not span.is_format:
            return rounded
        # the integers themselves, which are what this operator gives
        return call.builder.scale(f"{call.name}/integers", rounded, 1.0 / span.scale, np.array(0.0))

    return run


def _dequantize(scale: str, zero: str) -> Operator:
    def run(call: Call) -> Value:
        value = call.value("input")
        span = _span(call, value, _numbers(call, scale), _numbers(call, zero, 0.0))
        if not isinstance(value, Edge):
            return _remembered(call, value.astype(np.float64) - span.zero, span.scale)
        return call.builder.scale(call.name, value, span.scale, -span.zero * span.scale)

    return run


TENSOR, CHANNEL = ("scale", "zero_point"), ("scales", "zero_points")

QUANTIZED_OPERATORS: dict[str, Operator] = {
    "aten.fake_quantize_per_tensor_affine.default": _fake(),
    "aten.fake_quantize_per_tensor_affine.tensor_qparams": _fake(),
    "aten.fake_quantize_per_tensor_affine_cachemask.default": _fake(),
    "aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams.default": _fake(),
    "aten.fake_quantize_per_channel_affine.default": _fake(),
    "aten.fake_quantize_per_channel_affine_cachemask.default": _fake(),
    "aten.fused_moving_avg_obs_fake_quant.default": _observed,
    **{
        f"quantized_decomposed.{name}.{kind}": operator(*keys)
        for operator, verb in ((_quantize, "quantize"), (_dequantize, "dequantize"))
        for name, kind, keys in (
            (f"{verb}_per_tensor", "default", TENSOR),
            (f"{verb}_per_tensor", "tensor", TENSOR),
            (f"{verb}_per_channel", "default", CHANNEL),
        )
    },
}
"""Every operator of this module."""
