"""What each ONNX operator becomes: constants are computed here, edges become nodes.

Sums and products with constants become Dense nodes, which the quantiser merges or, at an input, hands to the host as
scaling. Arithmetic on whole numbers is refused: there ONNX wraps and truncates, and the graph would not.
"""

# Ref: ONNX operator specification (onnx.ai/onnx/operators): Gemm, MatMul, Clip (attributes before opset 11), Softmax
# Ref: (axis 1 and flattening before opset 13), ArgMax, Reshape (0 copies a size, -1 is inferred), Div (whole numbers
# Ref: truncate), BatchNormalization

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import GatesmithError, ModelUnreadable, UnsupportedOperation
from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.model.nodes import Edge

__all__ = ["KEEP_VALUES", "OPERATORS", "Call", "Operator", "Value"]

Value = Edge | NDArray[Any]
Constant = NDArray[Any]

FLOAT_MAX = float(np.finfo(np.float32).max)
MAX_CONSTANT = 1 << 24
"""Numbers in a constant that is computed here."""

KEEP_VALUES = frozenset({"Cast", "Dropout", "Flatten", "Identity", "Normalizer", "Reshape", "ZipMap"})
"""Operators after which a softmax may still be the last one."""


class Reader(Protocol):
    """What an operator needs of the graph around it."""

    builder: GraphBuilder
    values: dict[str, Value]
    dtypes: dict[str, np.dtype[Any]]
    softmax: set[str]
    labels: dict[str, tuple[str, ...]]
    class_names: set[str]
    opset: int
    batch: int | None


Operator = Callable[["Call"], "Value | None"]


class Call:
    """One ONNX node with its inputs and attributes at hand."""

    def __init__(self, reader: Reader, node: Any) -> None:
        self.reader = reader
        self.node = node
        self.name: str = node.name or (node.output[0] if node.output else node.op_type)
        self.builder = reader.builder
        self.dtype = next((reader.dtypes[n] for n in node.input if n in reader.dtypes), np.dtype(np.float32))

    def give(self, index: int, value: Value, dtype: np.dtype[Any]) -> None:
        """The output of that index; for operators with several, which return None."""
        if index < len(self.node.output) and self.node.output[index]:
            self.reader.values[self.node.output[index]] = value
            self.reader.dtypes[self.node.output[index]] = dtype

    def run(self, operator: Operator) -> Value | None:
        """The operator's only output, or None when it gave its outputs itself."""
        try:
            return operator(self)
        except GatesmithError:
            raise
        except Exception as error:
            # attributes and sizes that the checker lets through and numpy does not
            raise ModelUnreadable(
                f"node {self.name!r} ({self.node.op_type}) is not valid: {type(error).__name__} {error}", node=self.name
            ) from error

    def refuse(self, reason: str) -> UnsupportedOperation:
        """The error that names this node."""
        return UnsupportedOperation(
            f"node {self.name!r} ({self.node.op_type}) {reason}", node=self.name, operation=self.node.op_type
        )

    def attribute(self, key: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        from onnx import helper

        found = next((attribute for attribute in self.node.attribute if attribute.name == key), None)
        return default if found is None else helper.get_attribute_value(found)

    def has(self, index: int) -> bool:
        """Whether the optional input is given."""
        return index < len(self.node.input) and self.node.input[index] != ""

    def value(self, index: int) -> Value:
        """Input of that index."""
        if not self.has(index):
            raise self.refuse(f"has no input {index}")
        name = self.node.input[index]
        if name not in self.reader.values:
            raise self.refuse(f"reads {name!r}, which is neither an input, a dense initializer nor computed before")
        return self.reader.values[name]

    def edge(self, index: int = 0) -> Edge:
        """An input that has to depend on the model's inputs."""
        value = self.value(index)
        if not isinstance(value, Edge):
            raise self.refuse(f"has a constant for input {index}, where the data is needed")
        return value

    def real(self, index: int = 0) -> Edge:
        """The same, of a float type."""
        edge = self.edge(index)
        dtype = self.reader.dtypes[self.node.input[index]]
        if dtype.kind in "iub":
            raise self.refuse(f"computes with {dtype} data; cast it to a float type before")
        return edge

    def flat(self, index: int = 0) -> Edge:
        """The same, with one axis beside the batch."""
        edge = self.real(index)
        if len(edge.shape) != 1:
            raise self.refuse(f"has data of shape {[-1, *edge.shape]}, a flat sample is needed; flatten it before")
        return edge

    def constant(self, index: int) -> Constant:
        """An input that has to be constant."""
        value = self.value(index)
        if isinstance(value, Edge):
            raise self.refuse(f"has data for input {index}, where a constant is needed")
        return value

    def number(self, index: int) -> float:
        """A constant with one number."""
        values = self.constant(index)
        if values.size != 1:
            raise self.refuse(f"has {values.size} numbers for input {index}, one is needed")
        return float(values.item())

    def for_sample(self, constant: Constant, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """A constant that is broadcast over the batch, for one sample of this shape."""
        real = np.asarray(constant, dtype=np.float64)
        if real.ndim > len(shape) + 1:
            raise self.refuse(f"has a constant of shape {list(real.shape)} for data of {[-1, *shape]}: more axes")
        if real.ndim > len(shape):
            if real.shape[0] != 1:
                raise self.refuse(f"has a constant of shape {list(real.shape)} that differs over the batch")
            real = real[0]
        try:
            return np.broadcast_to(real, shape)
        except ValueError:
            raise self.refuse(f"has a constant of shape {list(real.shape)} for data of {[-1, *shape]}") from None


def _gemm(call: Call) -> Value:
    if call.attribute("transA", 0):
        raise call.refuse("transposes its data (transA), which mixes samples")
    x, weight = call.flat(), call.constant(1).astype(np.float64)
    if call.attribute("transB", 0):
        weight = weight.T
    bias = np.zeros(weight.shape[1])
    if call.has(2):
        bias = call.for_sample(call.constant(2), bias.shape) * call.attribute("beta", 1.0)
    return call.builder.dense(call.name, x, weight * call.attribute("alpha", 1.0), bias)


def _matmul(call: Call) -> Value:
    x, weight = call.flat(), call.constant(1)
    if weight.ndim != 2:
        raise call.refuse(f"has a weight of shape {list(weight.shape)}, a matrix is needed")
    return call.builder.dense(call.name, x, weight.astype(np.float64))


def _batch_normalization(call: Call) -> Value:
    if call.attribute("training_mode", 0):
        raise call.refuse("is in training mode")
    x = call.flat()
    scale, bias, mean, variance = (call.for_sample(call.constant(i), x.shape) for i in (1, 2, 3, 4))
    factor = scale / np.sqrt(variance + call.attribute("epsilon", 1e-5))
    return call.builder.scale(call.name, x, factor, bias - mean * factor)


def _add(call: Call) -> Value:
    a, b = call.value(0), call.value(1)
    if isinstance(a, Edge) and isinstance(b, Edge):
        return _two_edges(call, call.real(0), call.real(1))
    if isinstance(a, Edge):
        return call.builder.scale(call.name, call.real(0), np.array(1.0), call.for_sample(np.asarray(b), a.shape))
    if isinstance(b, Edge):
        return call.builder.scale(call.name, call.real(1), np.array(1.0), call.for_sample(a, b.shape))
    return _computed(call, np.add, a, b)


def _sub(call: Call) -> Value:
    a, b = call.value(0), call.value(1)
    if isinstance(a, Edge) and isinstance(b, Edge):
        negated = call.builder.scale(f"{call.name}/negated", call.real(1), np.array(-1.0), np.array(0.0))
        return _two_edges(call, call.real(0), negated)
    if isinstance(a, Edge):
        return call.builder.scale(call.name, call.real(0), np.array(1.0), -call.for_sample(np.asarray(b), a.shape))
    if isinstance(b, Edge):
        return call.builder.scale(call.name, call.real(1), np.array(-1.0), call.for_sample(a, b.shape))
    return _computed(call, np.subtract, a, b)


def _two_edges(call: Call, a: Edge, b: Edge) -> Edge:
    if a.shape != b.shape:
        raise call.refuse(f"has data of shapes {[-1, *a.shape]} and {[-1, *b.shape]}, they have to be equal")
    return call.builder.add(call.name, a, b)


def _mul(call: Call) -> Value:
    a, b = call.value(0), call.value(1)
    if isinstance(a, Edge) and isinstance(b, Edge):
        raise call.refuse("multiplies two values that both depend on the data; a constant factor is possible")
    if isinstance(a, Edge):
        return call.builder.scale(call.name, call.real(0), call.for_sample(np.asarray(b), a.shape), np.array(0.0))
    if isinstance(b, Edge):
        return call.builder.scale(call.name, call.real(1), call.for_sample(a, b.shape), np.array(0.0))
    return _computed(call, np.multiply, a, b)


def _div(call: Call) -> Value:
    divisor = call.constant(1)
    if np.any(divisor == 0):
        raise call.refuse("divides by zero")
    a = call.value(0)
    if isinstance(a, Edge):
        factor = call.for_sample(1.0 / divisor.astype(np.float64), a.shape)
        return call.builder.scale(call.name, call.real(0), factor, np.array(0.0))
    if a.dtype.kind in "iu":
        return _computed(call, lambda x, y: np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y)), a, divisor)
    return _computed(call, np.divide, a, divisor)


def _computed(call: Call, operation: Callable[[Constant, Constant], Any], a: Constant, b: Constant) -> Constant:
    size = math.prod(np.broadcast_shapes(a.shape, b.shape))
    if size > MAX_CONSTANT:
        raise call.refuse(f"makes a constant of {size} numbers, {MAX_CONSTANT} are possible")
    with np.errstate(all="ignore"):
        return np.asarray(operation(a, b))


def _clip(call: Call) -> Value:
    low, high = call.attribute("min", -FLOAT_MAX), call.attribute("max", FLOAT_MAX)
    if call.has(1):
        low = call.number(1)
    if call.has(2):
        high = call.number(2)
    ends = np.clip([low, high], -FLOAT_MAX, FLOAT_MAX)  # infinite ends are none
    return call.builder.clip(call.name, call.edge(), float(ends[0]), float(ends[1]))


def _softmax(call: Call) -> Value:
    edge = call.real()
    axis = call.attribute("axis", -1 if call.reader.opset >= 13 else 1)
    if len(edge.shape) != 1 or axis not in {-1, 1}:
        raise call.refuse(f"works on axis {axis} of {[-1, *edge.shape]}, the last axis of a flat sample is possible")
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


def _concat(call: Call) -> Value:
    edges = [call.edge(i) for i in range(len(call.node.input))]
    axis = call.attribute("axis")
    if any(len(edge.shape) != 1 for edge in edges) or axis not in {-1, 1}:
        shapes = [[-1, *edge.shape] for edge in edges]
        raise call.refuse(f"joins axis {axis} of {shapes}, the last axis of flat samples is possible")
    return edges[0] if len(edges) == 1 else call.builder.concat(call.name, edges)


def _flatten(call: Call) -> Value:
    edge = call.edge()
    axis = call.attribute("axis", 1)
    if axis not in {1, -len(edge.shape)} or not edge.shape:
        raise call.refuse(f"flattens from axis {axis}, 1 is possible: the batch stays")
    return call.builder.reshape(call.name, edge, (edge.elements,))


def _reshape(call: Call) -> Value:
    target = [int(n) for n in call.constant(1).ravel()]
    value = call.value(0)
    if 0 in target and call.attribute("allowzero", 0):
        raise call.refuse(f"reshapes to {target} with sizes of 0 (allowzero)")
    if not isinstance(value, Edge):
        return value.reshape([value.shape[i] if n == 0 else n for i, n in enumerate(target)])
    possible = {-1, 0} if call.reader.batch is None else {-1, 0, call.reader.batch}
    if target[:1] == [1] and call.reader.batch is None:
        possible |= {1}  # a model traced with one sample and then given a free batch
    if not target or target[0] not in possible or target.count(-1) > 1:
        raise call.refuse(
            f"reshapes to {target}; the batch has to stay first ({', '.join(map(str, sorted(possible)))})"
        )
    sizes = [value.shape[i] if n == 0 and i < len(value.shape) else n for i, n in enumerate(target[1:])]
    if -1 in sizes:
        known = math.prod(n for n in sizes if n != -1)
        sizes[sizes.index(-1)] = value.elements // max(known, 1)
    if any(n < 1 for n in sizes) or math.prod(sizes) != value.elements:
        raise call.refuse(f"reshapes {[-1, *value.shape]} to {target}, which has other sizes")
    return call.builder.reshape(call.name, value, tuple(sizes))


def _cast(call: Call) -> Value:
    from onnx import helper

    value = call.value(0)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(call.attribute("to")))
    if not isinstance(value, Edge):
        return value.astype(dtype)
    before, call.dtype = call.dtype, dtype
    # the index of an ArgMax is small, whatever its type; other whole numbers may only get wider types
    is_index = any(n.kind == "ArgMax" and n.output.name == value.name for n in call.builder.nodes)
    if dtype.kind == "f" or (is_index and dtype.kind in "iu") or np.can_cast(before, dtype, "safe"):
        return value
    raise call.refuse(f"casts {before} data to {dtype}, which changes it; a float type is possible")


def _dropout(call: Call) -> Value:
    if call.has(2) and np.any(call.constant(2)):
        raise call.refuse("is in training mode")
    if len(call.node.output) > 1 and call.node.output[1]:
        raise call.refuse("gives out its mask")
    return call.value(0)


def _constant(call: Call) -> Value:
    from onnx import numpy_helper

    value = call.attribute("value")
    if value is not None:
        return np.asarray(numpy_helper.to_array(value))
    for key, dtype in (("value_float", "f4"), ("value_floats", "f4"), ("value_int", "i8"), ("value_ints", "i8")):
        if (given := call.attribute(key)) is not None:
            return np.asarray(given, dtype=dtype)
    raise call.refuse("holds a value that is no number")


OPERATORS: dict[str, Operator] = {
    "Add": _add,
    "ArgMax": _arg_max,
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "Div": _div,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "Identity": lambda call: call.value(0),
    "MatMul": _matmul,
    "Mul": _mul,
    "Neg": lambda call: call.builder.scale(call.name, call.real(), np.array(-1.0), np.array(0.0)),
    "Relu": lambda call: call.builder.relu(call.name, call.edge()),
    "Reshape": _reshape,
    "Sigmoid": lambda call: call.builder.table(call.name, call.real(), "sigmoid"),
    "Softmax": _softmax,
    "Sub": _sub,
    "Tanh": lambda call: call.builder.table(call.name, call.real(), "tanh"),
}
"""Every operator that is read; each takes the call and returns its only output, or gives them all."""
