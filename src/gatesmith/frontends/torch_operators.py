"""What each ATen operator becomes: constants are computed here, edges become nodes.

Both forms of a program are read: as it was exported, and decomposed to the core operators. Where PyTorch has written an
activation out as a product of data with a function of the same data, the product is recognised.
"""
# Ref: ATen operators (pytorch.org/docs/stable): linear and addmm (beta, alpha), batch_norm, hardtanh, hardsigmoid
# Ref: relu6(x + 3) / 6, hardswish x * relu6(x + 3) / 6, softplus (beta; linear above a threshold of 20), elu (alpha,
# Ref: scale, input_scale), celu, prelu (a slope for each channel, axis 1)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gatesmith.frontends.rounding import Grid, product
from gatesmith.frontends.torch_arrays import ARRAY_OPERATORS
from gatesmith.frontends.torch_call import Array, Call, Operator, Value
from gatesmith.frontends.torch_gates import gated, softsigned
from gatesmith.frontends.torch_quantized import QUANTIZED_OPERATORS
from gatesmith.frontends.torch_windows import WINDOW_OPERATORS
from gatesmith.model.node import Edge, Real

__all__ = ["OPERATORS"]

FLOAT_MAX = float(np.finfo(np.float32).max)
ZERO, ONE = np.array(0.0), np.array(1.0)


def _linear(call: Call) -> Value:
    weight = _grid(call, "weight")
    turned = Grid(integers=weight.integers.T, scale=np.atleast_2d(weight.scale).T)
    bias = call.weights("bias") if call.has("bias") else np.zeros(turned.integers.shape[1])
    return _times(call, call.real("input"), turned, bias)


def _addmm(call: Call) -> Value:
    weight, beta, alpha = _grid(call, "mat2"), call.option("beta", 1), call.option("alpha", 1)
    bias = np.broadcast_to(call.aligned(call.constant("self"), weight.integers.shape[1:]), weight.integers.shape[1:])
    return _times(call, call.real("mat1"), Grid(integers=weight.integers, scale=weight.scale * alpha), bias * beta)


def _matmul(key: str) -> Operator:
    def run(call: Call) -> Value:
        a, b = call.value("self"), call.value(key)
        if isinstance(a, Edge) and isinstance(b, Edge):
            raise call.refuse("multiplies two values that both depend on the data; a constant matrix is possible")
        if not isinstance(a, Edge) and not isinstance(b, Edge):
            call.check_size((a.size, b.shape[-1]))
            return np.asarray(a @ b)
        if isinstance(a, Edge):
            weight = _grid(call, key)
            return _times(call, call.real(), weight, np.zeros(weight.integers.shape[-1]))
        return _from_the_left(call, call.real(key))

    return run


def _from_the_left(call: Call, x: Edge) -> Value:
    weight = _grid(call, "self")
    if len(x.shape) != 2:
        raise call.refuse(f"multiplies a constant with data of shape {[-1, *x.shape]}, two axes of a sample are needed")
    turned = Grid(integers=weight.integers.T, scale=np.atleast_2d(weight.scale).T)
    columns = call.builder.transpose(f"{call.name}/columns", x, (1, 0))
    rows = _times(call, columns, turned, np.zeros(len(weight.integers)))
    return call.builder.transpose(f"{call.name}/rows", rows, (1, 0))


def _grid(call: Call, key: str) -> Grid:
    """A constant matrix, in whole numbers and a scale where the model rounded it."""
    weight, grid = call.weights(key), call.grid(key)
    if weight.ndim == 3 and len(weight) == 1:
        weight, grid = weight[0], None
    if weight.ndim != 2:
        raise call.refuse(f"has a weight of shape {list(weight.shape)}, a matrix is needed")
    return grid or Grid(integers=weight, scale=ONE)


def _times(call: Call, x: Edge, weight: Grid, bias: Real) -> Edge:
    if x.shape[-1:] != weight.integers.shape[:1] or bias.shape != weight.integers.shape[1:]:
        raise call.refuse(f"multiplies data of shape {[-1, *x.shape]} with a matrix of {list(weight.integers.shape)}")
    return product(call.builder, call.name, x, weight, bias)


def _batch_norm(call: Call) -> list[Value]:
    x = call.real("input")
    if call.option("training", False):
        raise call.refuse("is in training mode; export the model after model.eval()")
    channels = (-1, *[1] * (len(x.shape) - 1))
    mean, variance = call.weights("running_mean"), call.weights("running_var")
    factor = (call.weights("weight") if call.has("weight") else ONE) / np.sqrt(variance + call.option("eps"))
    offset = (call.weights("bias") if call.has("bias") else ZERO) - mean * factor
    return [call.builder.scale(call.name, x, factor.reshape(channels), offset.reshape(channels)), None, None]


def _sum(sign: float, *, turned: bool = False) -> Operator:
    """``self + sign * alpha * other``, or with both in the other's place."""

    def run(call: Call) -> Value:
        a, b = call.value("self"), call.value("other")
        left, right = 1.0, sign * call.option("alpha", 1)
        if turned:
            left, right = right, left
        if not isinstance(a, Edge) and not isinstance(b, Edge):
            return _computed(call, lambda x, y: left * x + right * y, a, b)
        if isinstance(a, Edge) and isinstance(b, Edge):
            shape = _same(call, a, b)
            call.real(), call.real("other")
            one, other = (_multiple(call, call.expanded(x, shape), by) for x, by in ((a, left), (b, right)))
            return call.builder.add(call.name, one, other)
        if isinstance(a, Edge):
            return _scaled(call, call.real(), np.array(left), right * np.asarray(b).astype(np.float64))
        return _scaled(call, call.real("other"), np.array(right), left * np.asarray(a).astype(np.float64))

    return run


def _multiple(call: Call, x: Edge, factor: float) -> Edge:
    return x if factor == 1 else call.builder.scale(f"{call.name}/multiple", x, np.array(factor), ZERO)


def _same(call: Call, a: Edge, b: Edge) -> tuple[int, ...]:
    if len(a.shape) != len(b.shape):
        raise call.refuse(f"has data of shapes {[-1, *a.shape]} and {[-1, *b.shape]}; as many axes are needed")
    return call.common(a.shape, b.shape)


def _scaled(call: Call, x: Edge, factor: Array, offset: Array) -> Edge:
    """``x * factor + offset``, where the constants may widen x."""
    aligned = [call.aligned(constant, x.shape) for constant in (factor, offset)]
    x = call.expanded(x, call.common(x.shape, *(constant.shape for constant in aligned)))
    return call.builder.scale(call.name, x, *aligned)


def _mul(call: Call) -> Value:
    a, b = call.value("self"), call.value("other")
    if isinstance(a, Edge) and isinstance(b, Edge):
        call.real(), call.real("other")
        return gated(call, a, b)
    if isinstance(a, Edge):
        return _scaled(call, call.real(), np.asarray(b), ZERO)
    if isinstance(b, Edge):
        return _scaled(call, call.real("other"), a, ZERO)
    return _computed(call, np.multiply, a, b)


def _div(call: Call) -> Value:
    a, b = call.value("self"), call.value("other")
    if isinstance(b, Edge):
        return softsigned(call, a, call.real("other"))
    if np.any(b == 0):
        raise call.refuse("divides by zero")
    if isinstance(a, Edge):
        return _scaled(call, call.real(), 1.0 / b.astype(np.float64), ZERO)
    return _computed(call, np.true_divide, a, b)


def _computed(call: Call, operation: Callable[[Array, Array], Any], a: Array, b: Array) -> Array:
    call.check_size(call.common(a.shape, b.shape))
    with np.errstate(all="ignore"):
        return np.asarray(operation(a, b))


def _pow(call: Call) -> Value:
    value, exponent = call.value("self"), call.option("exponent")
    if not isinstance(value, Edge):
        return _computed(call, np.power, value, np.array(exponent))
    if exponent != 2:
        raise call.refuse(f"raises data to the power {exponent}, 2 is possible")
    return call.builder.table(call.name, call.real(), "square")


def _clip(low: str | float | None, high: str | float | None) -> Operator:
    def run(call: Call) -> Value:
        ends = [call.option(end) if isinstance(end, str) else end for end in (low, high)]
        bounds = [default if end is None else end for end, default in zip(ends, (-FLOAT_MAX, FLOAT_MAX), strict=True)]
        value = call.value("self")
        if not isinstance(value, Edge):
            return np.clip(value, float(bounds[0]), float(bounds[1]))
        if bounds[0] == 0 and bounds[1] >= FLOAT_MAX:
            return call.builder.relu(call.name, value)
        return call.builder.clip(call.name, value, *(min(max(float(end), -FLOAT_MAX), FLOAT_MAX) for end in bounds))

    return run


def _hardtanh(call: Call) -> Value:
    return call.builder.clip(
        call.name, call.edge(), float(call.option("min_val", -1)), float(call.option("max_val", 1))
    )


def _leaky(call: Call, x: Edge, slope: Real) -> Value:
    """``slope * x`` below zero: ``slope * x + (1 - slope) * max(x, 0)``."""
    builder = call.builder
    below = builder.scale(f"{call.name}/slope", x, slope, ZERO)
    above = builder.scale(f"{call.name}/rest", builder.relu(f"{call.name}/relu", x), 1.0 - slope, ZERO)
    return builder.add(call.name, below, above)


def _prelu(call: Call) -> Value:
    x, slope = call.real(), call.weights("weight")
    if slope.ndim == 1 and slope.size > 1:
        slope = slope.reshape(-1, *[1] * (len(x.shape) - 1))
    return _leaky(call, x, slope if slope.size > 1 else slope.reshape(()))


def _hard_sigmoid(call: Call) -> Value:
    line = call.builder.scale(f"{call.name}/line", call.real(), ONE / 6.0, ONE / 2.0)
    return call.builder.clip(call.name, line, 0.0, 1.0)


def _elu(call: Call) -> Value:
    alpha, scale, inner = (call.option(key, 1) for key in ("alpha", "scale", "input_scale"))
    builder, x = call.builder, call.real()
    if inner != 1 or min(alpha, scale) <= 0:
        raise call.refuse(f"has alpha {alpha}, scale {scale}, input_scale {inner}; input_scale 1 is possible")
    if alpha == scale == 1:
        return builder.table(call.name, x, "elu")
    curve = builder.scale(f"{call.name}/alpha", builder.table(f"{call.name}/elu", x, "elu"), ONE * alpha * scale, ZERO)
    rest = builder.scale(f"{call.name}/rest", builder.relu(f"{call.name}/relu", x), ONE * (1 - alpha) * scale, ZERO)
    return builder.add(call.name, curve, rest)


def _stretched(function: str, by: Callable[[Call], float]) -> Operator:
    """``function(x * by) / by``."""

    def run(call: Call) -> Value:
        factor, builder, x = by(call), call.builder, call.real()
        if factor == 1:
            return builder.table(call.name, x, function)
        inner = builder.scale(f"{call.name}/inner", x, ONE * factor, ZERO)
        return builder.scale(call.name, builder.table(f"{call.name}/{function}", inner, function), ONE / factor, ZERO)

    return run


def _beta(call: Call) -> float:
    if call.option("threshold", 20) < 20:
        raise call.refuse(f"is linear from {call.option('threshold')} on, 20 and more are possible")
    return float(call.option("beta", 1))


def _softmax(call: Call) -> Value:
    x, axis = call.real(), call.option("dim")
    if axis not in {-1, len(x.shape)}:
        raise call.refuse(f"works on axis {axis} of {[-1, *x.shape]}, the last axis is possible")
    call.reader.softmax.add(call.step.outputs[0])
    return x


def _log_softmax(call: Call) -> Value:
    raise call.refuse("has no translation; give out the scores before it, or a softmax")


def _table(function: str) -> Operator:
    return lambda call: call.builder.table(call.name, call.real(), function)


def _function(constant: Callable[[Array], Any], edge: Operator) -> Operator:
    """An operator that is computed here where it reads a constant."""

    def run(call: Call) -> Value:
        value = call.value("self")
        if isinstance(value, Edge):
            made: Value = edge(call)
            return made
        with np.errstate(all="ignore"):
            return np.asarray(constant(value))

    return run


def _constant_only(call: Call) -> Value:
    raise call.refuse("reads data, constants are possible")


def _absolute(call: Call) -> Value:
    """``2 * max(x, 0) - x``; a division by one more than it is recognised as softsign."""
    x = call.real()
    twice = call.builder.scale(f"{call.name}/twice", call.builder.relu(f"{call.name}/relu", x), ONE * 2.0, ZERO)
    return call.builder.add(call.name, twice, call.builder.scale(f"{call.name}/negated", x, -ONE, ZERO))


def _negated_table(function: str) -> Operator:
    """``-function(-x)``."""

    def run(call: Call) -> Value:
        turned = call.builder.scale(f"{call.name}/turned", call.real(), -ONE, ZERO)
        return call.builder.scale(
            call.name, call.builder.table(f"{call.name}/{function}", turned, function), -ONE, ZERO
        )

    return run


def _extreme(sign: float) -> Operator:
    """The larger, or the smaller, of two values: ``a + max(b - a, 0)``."""

    def run(call: Call) -> Value:
        a, b = call.real(), call.real("other")
        shape, builder = _same(call, a, b), call.builder
        a, b = call.expanded(a, shape), call.expanded(b, shape)
        less = builder.scale(f"{call.name}/negated", a, -ONE, ZERO)
        more = builder.add(f"{call.name}/difference", b, less)
        if sign < 0:
            more = builder.scale(f"{call.name}/turned", more, -ONE, ZERO)
        rest = builder.relu(f"{call.name}/relu", more)
        if sign < 0:
            rest = builder.scale(f"{call.name}/back", rest, -ONE, ZERO)
        return builder.add(call.name, a, rest)

    return run


def _gelu(call: Call) -> Value:
    kind = call.option("approximate", "none")
    return call.builder.table(call.name, call.real(), "gelu_tanh" if kind == "tanh" else "gelu")


OPERATORS: dict[str, Operator] = {
    "aten.linear.default": _linear,
    "aten.addmm.default": _addmm,
    "aten.mm.default": _matmul("mat2"),
    "aten.bmm.default": _matmul("mat2"),
    "aten.matmul.default": _matmul("other"),
    "aten.batch_norm.default": _batch_norm,
    "aten.native_batch_norm.default": _batch_norm,
    "aten._native_batch_norm_legit.default": _batch_norm,
    "aten._native_batch_norm_legit_no_training.default": _batch_norm,
    **dict.fromkeys(("aten.add.Tensor", "aten.add.Scalar"), _sum(1.0)),
    **dict.fromkeys(("aten.sub.Tensor", "aten.sub.Scalar"), _sum(-1.0)),
    **dict.fromkeys(("aten.rsub.Tensor", "aten.rsub.Scalar"), _sum(-1.0, turned=True)),
    **dict.fromkeys(("aten.mul.Tensor", "aten.mul.Scalar"), _mul),
    **dict.fromkeys(("aten.div.Tensor", "aten.div.Scalar"), _div),
    "aten.neg.default": _function(np.negative, lambda call: call.builder.scale(call.name, call.real(), -ONE, ZERO)),
    "aten.abs.default": _function(np.abs, _absolute),
    "aten.maximum.default": _extreme(1.0),
    "aten.minimum.default": _extreme(-1.0),
    "aten.pow.Tensor_Scalar": _pow,
    "aten.square.default": _function(np.square, _table("square")),
    "aten.exp.default": _function(np.exp, _table("exp")),
    "aten.sqrt.default": _function(np.sqrt, _constant_only),
    "aten.rsqrt.default": _function(lambda x: 1.0 / np.sqrt(x), _constant_only),
    "aten.reciprocal.default": _function(lambda x: 1.0 / x, _constant_only),
    "aten.relu.default": _clip(0.0, None),
    "aten.relu6.default": _clip(0.0, 6.0),
    "aten.clamp.default": _clip("min", "max"),
    "aten.clamp_min.default": _clip("min", None),
    "aten.clamp_max.default": _clip(None, "max"),
    "aten.hardtanh.default": _hardtanh,
    "aten.leaky_relu.default": lambda call: _leaky(call, call.real(), np.array(call.option("negative_slope", 0.01))),
    **dict.fromkeys(("aten.prelu.default", "aten._prelu_kernel.default"), _prelu),
    "aten.sigmoid.default": _table("sigmoid"),
    "aten.tanh.default": _table("tanh"),
    "aten.silu.default": _table("silu"),
    "aten.mish.default": _table("mish"),
    "aten.selu.default": _table("selu"),
    "aten.gelu.default": _gelu,
    "aten.elu.default": _elu,
    "aten.celu.default": _stretched("elu", lambda call: 1.0 / call.option("alpha", 1.0)),
    "aten.softplus.default": _stretched("softplus", _beta),
    "aten.log_sigmoid.default": _negated_table("softplus"),
    "aten.hardsigmoid.default": _hard_sigmoid,
    "aten.hardswish.default": _table("hard_swish"),
    **dict.fromkeys(("aten.softmax.int", "aten._softmax.default"), _softmax),
    **dict.fromkeys(("aten.log_softmax.int", "aten._log_softmax.default"), _log_softmax),
    **ARRAY_OPERATORS,
    **QUANTIZED_OPERATORS,
    **WINDOW_OPERATORS,
}
"""Every operator that is read; each takes the call and returns its output, or a list of them."""
