"""ONNX files: the operators of multi-layer perceptrons, opset 9 to current.

Every value is a constant (a numpy array) or an edge; constants are computed here, edges become nodes. Sums and products
with constants become Dense nodes, which the quantiser merges or, at an input, hands to the host as scaling.
"""

# Ref: ONNX operator specification (onnx.ai/onnx/operators): Gemm, MatMul, Clip (attributes before opset 11), Softmax
# Ref: (axis 1 and flattening before opset 13), ArgMax, Reshape (0 copies a size, -1 is inferred)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.errors import ModelUnreadable, NotInstalled, UnsupportedOperation
from gatesmith.frontends.frontend import Frontend, GraphBuilder
from gatesmith.model.graph import Graph
from gatesmith.model.nodes import Edge
from gatesmith.tensor import Datatype

__all__ = ["OnnxFrontend"]

Value = Edge | NDArray[Any]
FLOAT_MAX = float(np.finfo(np.float32).max)
MIN_OPSET = 9


class OnnxFrontend(Frontend):
    """``.onnx`` files with the weights inside."""

    name = "onnx"

    def accepts(self, source: object) -> bool:
        if not isinstance(source, Path):
            return type(source).__module__.startswith("onnx")
        with source.open("rb") as file:
            head = file.read(1)
        # a ModelProto starts with its first field, ir_version: tag 0x08
        return head == b"\x08" or source.suffix == ".onnx"

    def read(self, source: object, *, name: str, trust_pickle: bool) -> Graph:
        del trust_pickle  # nothing in an ONNX file runs
        return _Reader(_load(source), name).run()


def _load(source: Any) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise NotInstalled("onnx", "pip install 'gatesmith[onnx]'") from error
    try:
        model = onnx.load(str(source), load_external_data=False) if isinstance(source, Path) else source
        onnx.checker.check_model(model, full_check=False)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelUnreadable(f"{str(source)!r} is not a valid ONNX model: {first}", path=str(source)) from error
    return model


class _Reader:
    """Walks the nodes of one ONNX graph in order."""

    def __init__(self, model: Any, name: str) -> None:
        from onnx import helper, numpy_helper

        self.graph = model.graph
        self.builder = GraphBuilder(name)
        self.values: dict[str, Value] = {}
        self.softmax: dict[str, str] = {}  # edge after a softmax -> the value before it
        self.opset = max((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), default=0)
        if self.opset < MIN_OPSET:
            raise UnsupportedOperation(f"model has opset {self.opset}, {MIN_OPSET} or newer is read; convert it")
        self.attribute = helper.get_attribute_value
        self.to_array = numpy_helper.to_array

    def run(self) -> Graph:
        for tensor in self.graph.initializer:
            if tensor.data_location == 1:
                raise ModelUnreadable(f"weights {tensor.name!r} lie in another file; save the model in one file")
            self.values[tensor.name] = self.to_array(tensor)
        for value in self.graph.input:
            if value.name not in self.values:
                self.values[value.name] = self._input(value)
        for node in self.graph.node:
            self._node(node)
        for value in self.graph.output:
            self._output(value)
        return self.builder.graph()

    def _input(self, value: Any) -> Edge:
        sizes = [d.dim_value if d.HasField("dim_value") else 0 for d in value.type.tensor_type.shape.dim]
        if len(sizes) < 2 or any(size <= 0 for size in sizes[1:]):
            raise UnsupportedOperation(
                f"input {value.name!r} has the shape {sizes} (0 is free); a batch first, then fixed sizes are needed",
                node=value.name,
            )
        return self.builder.input(value.name, tuple(sizes[1:]), _datatype(value))

    def _output(self, value: Any) -> None:
        before = self.softmax.get(value.name)
        edge = self.values.get(before or value.name)
        if not isinstance(edge, Edge):
            raise UnsupportedOperation(f"output {value.name!r} does not depend on the input", node=value.name)
        host = (HostOperation(kind=HostOperationKind.SOFTMAX),) if before else ()
        self.builder.output(edge, value.name, datatype=_datatype(value), host=host)

    def _node(self, node: Any) -> None:
        name = node.name or (node.output[0] if node.output else node.op_type)
        call = _Call(self, node, name)
        if node.domain not in {"", "ai.onnx"} or node.op_type not in OPERATORS:
            raise call.refuse(f"is not supported; supported are {', '.join(sorted(OPERATORS))}")
        for given in node.input:
            if given in self.softmax and node.op_type not in {"ArgMax", "Identity"}:
                raise call.refuse(
                    f"reads the softmax {given!r}, which the host computes after the gateware; it must be last"
                )
        result = OPERATORS[node.op_type](call)
        self.values[node.output[0]] = result


class _Call:
    """One ONNX node with its inputs and attributes at hand."""

    def __init__(self, reader: _Reader, node: Any, name: str) -> None:
        self.reader = reader
        self.builder = reader.builder
        self.node = node
        self.name = name

    def refuse(self, reason: str) -> UnsupportedOperation:
        """The error that names this node."""
        return UnsupportedOperation(
            f"node {self.name!r} ({self.node.op_type}) {reason}", node=self.name, operation=self.node.op_type
        )

    def attribute(self, key: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        for attribute in self.node.attribute:
            if attribute.name == key:
                return self.reader.attribute(attribute)
        return default

    def value(self, index: int) -> Value:
        """Input of that index."""
        try:
            return self.reader.values[self.node.input[index]]
        except (IndexError, KeyError):
            raise self.refuse(f"has no input {index}") from None

    def has(self, index: int) -> bool:
        """Whether the optional input is given."""
        return index < len(self.node.input) and self.node.input[index] != ""

    def edge(self, index: int) -> Edge:
        """An input that has to depend on the model's inputs."""
        value = self.value(index)
        if not isinstance(value, Edge):
            raise self.refuse(f"has a constant for input {index}, where the data is needed")
        return value

    def constant(self, index: int) -> NDArray[Any]:
        """An input that has to be constant."""
        value = self.value(index)
        if isinstance(value, Edge):
            raise self.refuse(f"has data for input {index}, where a constant is needed")
        return value

    def for_sample(self, constant: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
        """A constant that is broadcast over the batch, for one sample of this shape."""
        real = np.asarray(constant, dtype=np.float64)
        if real.ndim > len(shape):
            if any(size != 1 for size in real.shape[: real.ndim - len(shape)]):
                raise self.refuse(f"has a constant of shape {list(real.shape)} that differs over the batch")
            real = real.reshape(real.shape[real.ndim - len(shape) :])
        try:
            return np.broadcast_to(real, shape)
        except ValueError:
            raise self.refuse(f"has a constant of shape {list(real.shape)} for data of {[-1, *shape]}") from None


def _datatype(value: Any) -> Datatype:
    from onnx import helper

    kind = value.type.tensor_type.elem_type
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind))
        return next(d for d in Datatype if d is not Datatype.BYTES and d.dtype == dtype)
    except (KeyError, TypeError, StopIteration):
        raise UnsupportedOperation(f"tensor {value.name!r} has the ONNX element type {kind}", node=value.name) from None


def _gemm(call: _Call) -> Value:
    if call.attribute("transA", 0):
        raise call.refuse("transposes its data (transA), which mixes samples")
    weight = call.constant(1).astype(np.float64)
    if call.attribute("transB", 0):
        weight = weight.T
    weight = weight * call.attribute("alpha", 1.0)
    bias = np.zeros(weight.shape[1])
    if call.has(2):
        bias = call.for_sample(call.constant(2), (weight.shape[1],)) * call.attribute("beta", 1.0)
    return call.builder.dense(call.name, _flat(call, call.edge(0)), weight, bias)


def _matmul(call: _Call) -> Value:
    weight = call.constant(1)
    if weight.ndim != 2:
        raise call.refuse(f"has a weight of shape {list(weight.shape)}, a matrix is needed")
    return call.builder.dense(call.name, _flat(call, call.edge(0)), weight.astype(np.float64))


def _flat(call: _Call, edge: Edge) -> Edge:
    if len(edge.shape) != 1:
        raise call.refuse(f"has data of shape {[-1, *edge.shape]}, a flat sample is needed; flatten it before")
    return edge


def _add(call: _Call) -> Value:
    return _sum(call, 1.0)


def _sub(call: _Call) -> Value:
    return _sum(call, -1.0)


def _sum(call: _Call, sign: float) -> Value:
    a, b = call.value(0), call.value(1)
    if isinstance(a, Edge) and isinstance(b, Edge):
        if a.shape != b.shape:
            raise call.refuse(f"has data of shapes {[-1, *a.shape]} and {[-1, *b.shape]}, they have to be equal")
        if sign < 0:
            b = call.builder.scale(f"{call.name}/negated", b, np.array(-1.0), np.array(0.0))
        return call.builder.add(call.name, a, b)
    if isinstance(a, Edge):
        return call.builder.scale(call.name, a, np.array(1.0), sign * call.for_sample(np.asarray(b), a.shape))
    if isinstance(b, Edge):
        return call.builder.scale(call.name, b, np.array(sign), call.for_sample(a, b.shape))
    return np.asarray(a + sign * b)


def _mul(call: _Call) -> Value:
    a, b = call.value(0), call.value(1)
    if isinstance(a, Edge) and isinstance(b, Edge):
        raise call.refuse("multiplies two values that both depend on the data; a constant factor is possible")
    if isinstance(a, Edge):
        return call.builder.scale(call.name, a, call.for_sample(np.asarray(b), a.shape), np.array(0.0))
    if isinstance(b, Edge):
        return call.builder.scale(call.name, b, call.for_sample(a, b.shape), np.array(0.0))
    return np.asarray(a * b)


def _div(call: _Call) -> Value:
    divisor = call.constant(1)
    if np.any(divisor == 0):
        raise call.refuse("divides by zero")
    a = call.value(0)
    if not isinstance(a, Edge):
        return np.asarray(a / divisor)
    return call.builder.scale(call.name, a, call.for_sample(1.0 / divisor.astype(np.float64), a.shape), np.array(0.0))


def _clip(call: _Call) -> Value:
    low, high = call.attribute("min", -FLOAT_MAX), call.attribute("max", FLOAT_MAX)
    if call.has(1):
        low = call.constant(1).item()
    if call.has(2):
        high = call.constant(2).item()
    return call.builder.clip(call.name, call.edge(0), float(low), float(high))


def _softmax(call: _Call) -> Value:
    edge = call.edge(0)
    axis = call.attribute("axis", -1 if call.reader.opset >= 13 else 1)
    if len(edge.shape) != 1 or axis not in {-1, 1}:
        raise call.refuse(f"works on axis {axis} of {[-1, *edge.shape]}, the last axis of a flat sample is possible")
    call.reader.softmax[call.node.output[0]] = call.node.input[0]
    return edge


def _arg_max(call: _Call) -> Value:
    edge = call.edge(0)  # softmax keeps the order, so the value before it serves as well
    if len(edge.shape) != 1 or call.attribute("axis", 0) not in {-1, 1}:
        raise call.refuse(
            f"works on axis {call.attribute('axis', 0)} of {[-1, *edge.shape]}, the last of two is possible"
        )
    if call.attribute("select_last_index", 0):
        raise call.refuse("takes the last of equal elements (select_last_index), the first is possible")
    return call.builder.arg_max(call.name, edge, (1,) if call.attribute("keepdims", 1) else ())


def _flatten(call: _Call) -> Value:
    edge = call.edge(0)
    if call.attribute("axis", 1) not in {1, -len(edge.shape)}:
        raise call.refuse(f"flattens from axis {call.attribute('axis', 1)}, 1 is possible: the batch stays")
    return call.builder.reshape(call.name, edge, (edge.elements,))


def _reshape(call: _Call) -> Value:
    target = [int(n) for n in call.constant(1).ravel()]
    value = call.value(0)
    if not isinstance(value, Edge):
        return value.reshape([value.shape[i] if n == 0 else n for i, n in enumerate(target)])
    if len(target) < 2 or target[0] not in {-1, 0, 1} or target[1:].count(-1) > 1:
        raise call.refuse(f"reshapes to {target}; the batch has to stay first (-1, 0 or 1)")
    sizes = [value.shape[i] if n == 0 and i < len(value.shape) else n for i, n in enumerate(target[1:])]
    if -1 in sizes:
        known = int(np.prod([n for n in sizes if n != -1]))
        sizes[sizes.index(-1)] = value.elements // max(known, 1)
    if int(np.prod(sizes)) != value.elements:
        raise call.refuse(f"reshapes {[-1, *value.shape]} to {target}, which has other sizes")
    return call.builder.reshape(call.name, value, tuple(sizes))


def _identity(call: _Call) -> Value:
    if call.node.input[0] in call.reader.softmax:
        call.reader.softmax[call.node.output[0]] = call.reader.softmax[call.node.input[0]]
    return call.value(0)


def _cast(call: _Call) -> Value:
    from onnx import helper

    value = call.value(0)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(call.attribute("to")))
    if not isinstance(value, Edge):
        return value.astype(dtype)
    whole = {n.output.name for n in call.builder.nodes if n.kind == "ArgMax"}
    if dtype.kind == "f" or value.name in whole:
        return value
    raise call.refuse(f"casts data to {dtype}, which truncates; a float type is possible")


def _constant(call: _Call) -> Value:
    value = call.attribute("value")
    if value is not None:
        return np.asarray(call.reader.to_array(value))
    for key in ("value_float", "value_floats", "value_int", "value_ints"):
        if (given := call.attribute(key)) is not None:
            return np.asarray(given)
    raise call.refuse("holds a value that is no number")


OPERATORS: dict[str, Callable[[_Call], Value]] = {
    "Add": _add,
    "ArgMax": _arg_max,
    "Cast": _cast,
    "Clip": _clip,
    "Constant": _constant,
    "Div": _div,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "Identity": _identity,
    "MatMul": _matmul,
    "Mul": _mul,
    "Relu": lambda call: call.builder.relu(call.name, call.edge(0)),
    "Reshape": _reshape,
    "Sigmoid": lambda call: call.builder.table(call.name, call.edge(0), "sigmoid"),
    "Softmax": _softmax,
    "Sub": _sub,
    "Tanh": lambda call: call.builder.table(call.name, call.edge(0), "tanh"),
}
"""Every operator that is read; each takes the call and returns its only output."""
