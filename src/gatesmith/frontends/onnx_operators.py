"""What each ONNX operator becomes: constants are computed here, edges become nodes.

Sums and products with constants become Dense and Scale nodes, which the quantiser merges or, at an input, hands to the
host. Arithmetic on whole numbers is refused: there ONNX wraps and truncates, and the graph would not.
"""

# Ref: ONNX operator specification (onnx.ai/onnx/operators): Gemm, MatMul, Clip (attributes before opset 11), Softmax
# Ref: (axis 1 and flattening before opset 13), ArgMax, Div (whole numbers truncate), BatchNormalization, PRelu,
# Ref: HardSigmoid (alpha 0.2, beta 0.5)

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gatesmith.frontends.onnx_arrays import ARRAY_OPERATORS, expanded
from gatesmith.frontends.onnx_call import KEEP_VALUES, MAX_CONSTANT, Call, Constant, Operator, Value
from gatesmith.frontends.onnx_quantized import QDQ_OPERATORS
from gatesmith.frontends.onnx_windows import WINDOW_OPERATORS
from gatesmith.frontends.rounding import Grid, product
from gatesmith.model.node import Edge, Real
from gatesmith.model.nodes import LookupTable

__all__ = ["KEEP_VALUES", "OPERATORS", "Call", "Operator", "Value"]

FLOAT_MAX = float(np.finfo(np.float32).max)
ZERO, ONE = np.array(0.0), np.array(1.0)


def _gemm(call: Call) -> Value:
    if call.attribute("transA", 0):
        raise call.refuse("transposes its data (transA), which mixes samples")
    x, weight = call.flat(), call.constant(1).astype(np.float64)
    grid = call.grid(1)
    integers, scale = (weight, ONE) if grid is None else (grid.integers, grid.scale)
    if call.attribute("transB", 0):
        integers, scale = integers.T, np.atleast_2d(scale).T
    bias = np.zeros(integers.shape[1])
    if call.has(2):
        bias = call.for_sample(call.constant(2), bias.shape) * call.attribute("beta", 1.0)
    return _product(call, x, integers, scale * call.attribute("alpha", 1.0), bias)


def _matmul(call: Call) -> Value:
    a, b = call.value(0), call.value(1)
    if isinstance(a, Edge) and isinstance(b, Edge):
        raise call.refuse("multiplies two values that both depend on the data; a constant matrix is possible")
    if not isinstance(a, Edge) and not isinstance(b, Edge):
        return _computed(call, np.matmul, a, b, size=a.size * b.shape[-1])
    left = not isinstance(a, Edge)
    x, weight, grid = call.real(1 if left else 0), call.constant(0 if left else 1), call.grid(0 if left else 1)
    if weight.ndim != 2:
        raise call.refuse(f"has a weight of shape {list(weight.shape)}, a matrix is needed")
    integers, scale = (weight.astype(np.float64), ONE) if grid is None else (grid.integers, grid.scale)
    if not left:
        return _product(call, x, integers, scale, np.zeros(integers.shape[1]))
    if len(x.shape) != 2:
        raise call.refuse(f"multiplies a constant with data of shape {[-1, *x.shape]}, two axes of a sample are needed")
    x = call.builder.transpose(f"{call.name}/columns", x, (1, 0))
    result = _product(call, x, integers.T, np.atleast_2d(scale).T, np.zeros(len(integers)))
    return call.builder.transpose(f"{call.name}/rows", result, (1, 0))


def _product(call: Call, x: Edge, weight: Real, scale: Real, bias: Real) -> Edge:
    """``x @ (weight * scale) + bias``, the scale apart where it is the same for each column."""
    if x.shape[-1] != len(weight):
        raise call.refuse(f"multiplies data of shape {[-1, *x.shape]} with a matrix of {list(weight.shape)}")
    return product(call.builder, call.name, x, Grid(integers=weight, scale=scale), bias)


def _batch_normalization(call: Call) -> Value:
    if call.attribute("training_mode", 0):
        raise call.refuse("is in training mode")
    x = call.real()
    channels = (-1, *[1] * (len(x.shape) - 1))
    scale, bias, mean, variance = (call.constant(i).astype(np.float64).reshape(channels) for i in (1, 2, 3, 4))
    factor = scale / np.sqrt(variance + call.attribute("epsilon", 1e-5))
    return call.builder.scale(call.name, x, factor, bias - mean * factor)


def _add(call: Call) -> Value:
    a, b = call.value(0), call.value(1)
    if isinstance(a, Edge) and isinstance(b, Edge):
        return _two_edges(call, call.real(0), call.real(1))
    if isinstance(a, Edge):
        return _scaled(call, call.real(0), ONE, np.asarray(b))
    if isinstance(b, Edge):
        return _scaled(call, call.real(1), ONE, a)
    return _computed(call, np.add, a, b)


def _sub(call: Call) -> Value:
    a, b = call.value(0), call.value(1)
    if isinstance(a, Edge) and isinstance(b, Edge):
        return _two_edges(call, call.real(0), call.builder.scale(f"{call.name}/negated", call.real(1), -ONE, ZERO))
    if isinstance(a, Edge):
        return _scaled(call, call.real(0), ONE, -np.asarray(b).astype(np.float64))
    if isinstance(b, Edge):
        return _scaled(call, call.real(1), -ONE, a)
    return _computed(call, np.subtract, a, b)


def _scaled(call: Call, x: Edge, factor: Constant, offset: Constant) -> Edge:
    """``x * factor + offset``, where the constants may widen x."""
    x = expanded(call, x, call.widened(x.shape, factor, offset))
    return call.builder.scale(call.name, x, call.aligned(factor, x.shape), call.aligned(offset, x.shape))


def _two_edges(call: Call, a: Edge, b: Edge) -> Edge:
    if len(a.shape) != len(b.shape):
        raise call.refuse(f"has data of shapes {[-1, *a.shape]} and {[-1, *b.shape]}; as many axes are needed")
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise call.refuse(f"has data of shapes {[-1, *a.shape]} and {[-1, *b.shape]}, which do not fit") from None
    return call.builder.add(call.name, expanded(call, a, shape), expanded(call, b, shape))


def _sum(call: Call) -> Value:
    edges = [call.real(i) for i in range(len(call.node.input))]
    total = edges[0]
    for edge in edges[1:]:
        total = _two_edges(call, total, edge)
    return total


def _mul(call: Call) -> Value:
    a, b = call.value(0), call.value(1)
    if isinstance(a, Edge) and isinstance(b, Edge):
        return _gated(call, call.real(0), call.real(1))
    if isinstance(a, Edge):
        return _scaled(call, call.real(0), np.asarray(b), ZERO)
    if isinstance(b, Edge):
        return _scaled(call, call.real(1), a, ZERO)
    return _computed(call, np.multiply, a, b)


def _gated(call: Call, a: Edge, b: Edge) -> Edge:
    """A number times itself, or times its own sigmoid or tanh, is a function of one number."""
    if a == b:
        return call.builder.table(call.name, a, "square")
    for x, gate in ((a, b), (b, a)):
        writer = next((node for node in call.builder.nodes if node.output == gate), None)
        if isinstance(writer, LookupTable) and writer.function == "sigmoid" and writer.inputs == (x.name,):
            return call.builder.table(call.name, x, "silu")
    raise call.refuse("multiplies two values that both depend on the data; a constant factor is possible")


def _div(call: Call) -> Value:
    divisor = call.constant(1)
    if np.any(divisor == 0):
        raise call.refuse("divides by zero")
    a = call.value(0)
    if isinstance(a, Edge):
        return _scaled(call, call.real(0), 1.0 / divisor.astype(np.float64), ZERO)
    if a.dtype.kind in "iu":
        return _computed(call, lambda x, y: np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y)), a, divisor)
    return _computed(call, np.divide, a, divisor)


def _pow(call: Call) -> Value:
    if isinstance(call.value(0), Edge):
        if call.number(1) != 2:
            raise call.refuse(f"raises data to the power {call.number(1):g}, 2 is possible")
        return call.builder.table(call.name, call.real(), "square")
    return _computed(call, np.power, call.constant(0), call.constant(1))


def _computed(
    call: Call, operation: Callable[[Constant, Constant], Any], a: Constant, b: Constant, *, size: int | None = None
) -> Constant:
    size = math.prod(np.broadcast_shapes(a.shape, b.shape)) if size is None else size
    if size > MAX_CONSTANT:
        raise call.refuse(f"makes a constant of {size} numbers, {MAX_CONSTANT} are possible")
    with np.errstate(all="ignore"):
        return np.asarray(operation(a, b))


def _constant_function(function: Callable[[Constant], Any]) -> Operator:
    def run(call: Call) -> Value:
        with np.errstate(all="ignore"):
            return np.asarray(function(call.constant(0)))

    return run


def _clip(call: Call) -> Value:
    low, high = call.attribute("min", -FLOAT_MAX), call.attribute("max", FLOAT_MAX)
    if call.has(1):
        low = call.number(1)
    if call.has(2):
        high = call.number(2)
    ends = np.clip([low, high], -FLOAT_MAX, FLOAT_MAX)  # infinite ends are none
    return call.builder.clip(call.name, call.edge(), float(ends[0]), float(ends[1]))


def _leaky(call: Call, x: Edge, slope: Constant) -> Value:
    """``slope * x`` below zero: ``slope * x + (1 - slope) * max(x, 0)``."""
    builder, slope = call.builder, call.aligned(slope, x.shape)
    below = builder.scale(f"{call.name}/slope", x, slope, ZERO)
    above = builder.scale(f"{call.name}/rest", builder.relu(f"{call.name}/relu", x), 1.0 - slope, ZERO)
    return builder.add(call.name, below, above)


def _hard_sigmoid(call: Call) -> Value:
    alpha, beta = np.array(call.attribute("alpha", 0.2)), np.array(call.attribute("beta", 0.5))
    return call.builder.clip(call.name, call.builder.scale(f"{call.name}/line", call.real(), alpha, beta), 0.0, 1.0)


def _softmax(call: Call) -> Value:
    edge = call.real()
    axis = call.attribute("axis", -1 if call.reader.opset >= 13 else 1)
    last = len(edge.shape)
    if axis not in {-1, last} or (call.reader.opset < 13 and last != 1):
        raise call.refuse(f"works on axis {axis} of {[-1, *edge.shape]}, the last axis is possible")
    if call.node.input[0] not in call.reader.softmax:  # softmax of a softmax is refused by the reader
        call.reader.softmax.add(call.node.output[0])
    return edge


def _arg_max(call: Call) -> Value:
    edge = call.edge()  # softmax keeps the order, so the value before it serves as well
    axis = call.attribute("axis", 0)
    if len(edge.shape) != 1 or axis not in {-1, 1}:
        raise call.refuse(f"works on axis {axis} of {[-1, *edge.shape]}, the last of two is possible")
    if call.attribute("select_last_index", 0):
        raise call.refuse("takes the last of equal elements (select_last_index), the first is possible")
    call.dtype = np.dtype(np.int64)
    return call.builder.arg_max(call.name, edge, (1,) if call.attribute("keepdims", 1) else ())


def _dropout(call: Call) -> Value:
    if call.has(2) and np.any(call.constant(2)):
        raise call.refuse("is in training mode")
    if len(call.node.output) > 1 and call.node.output[1]:
        raise call.refuse("gives out its mask")
    return call.value(0)


def _table(function: str) -> Operator:
    return lambda call: call.builder.table(call.name, call.real(), function)


def _gelu(call: Call) -> Value:
    kind = call.attribute("approximate", b"none").decode()
    return call.builder.table(call.name, call.real(), "gelu_tanh" if kind == "tanh" else "gelu")


def _elu(call: Call) -> Value:
    if call.attribute("alpha", 1.0) != 1.0:
        raise call.refuse(f"has alpha {call.attribute('alpha')}, 1 is possible")
    return call.builder.table(call.name, call.real(), "elu")


OPERATORS: dict[str, Operator] = {
    "Add": _add,
    "ArgMax": _arg_max,
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Div": _div,
    "Dropout": _dropout,
    "Elu": _elu,
    "Exp": _table("exp"),
    "Gelu": _gelu,
    "Gemm": _gemm,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _table("hard_swish"),
    "LeakyRelu": lambda call: _leaky(call, call.real(), np.array(call.attribute("alpha", 0.01))),
    "MatMul": _matmul,
    "Mul": _mul,
    "Neg": lambda call: call.builder.scale(call.name, call.real(), -ONE, ZERO),
    "PRelu": lambda call: _leaky(call, call.real(), call.constant(1)),
    "Pow": _pow,
    "Relu": lambda call: call.builder.relu(call.name, call.edge()),
    "Sigmoid": _table("sigmoid"),
    "Softmax": _softmax,
    "Softplus": _table("softplus"),
    "Softsign": _table("softsign"),
    "Sqrt": _constant_function(np.sqrt),
    "Sub": _sub,
    "Sum": _sum,
    "Tanh": _table("tanh"),
    **ARRAY_OPERATORS,
    **QDQ_OPERATORS,
    **WINDOW_OPERATORS,
}
"""Every operator of the default domain that is read; each takes the call and returns its only output."""
