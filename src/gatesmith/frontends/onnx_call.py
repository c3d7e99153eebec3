"""One ONNX node at a time: its inputs as constants or edges, its attributes, and the error that names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import GatesmithError, ModelUnreadable, UnsupportedOperation
from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.frontends.rounding import Grid
from gatesmith.model.nodes import Edge

__all__ = ["KEEP_VALUES", "MAX_CONSTANT", "Call", "Constant", "Operator", "Value"]

Value = Edge | NDArray[Any]
Constant = NDArray[Any]

MAX_CONSTANT = 1 << 24
"""Numbers in a constant that is computed here."""

KEEP_VALUES = frozenset(
    {"Cast", "Dropout", "Flatten", "Identity", "Normalizer", "Reshape", "Squeeze", "Unsqueeze", "ZipMap"}
)
"""Operators after which a softmax may still be the last one."""


class Reader(Protocol):
    """What an operator needs of the graph around it."""

    builder: GraphBuilder
    values: dict[str, Value]
    grids: dict[str, Grid]
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

    def aligned(self, constant: Constant, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """A constant that broadcasts with the batch's data of this shape, without the batch's axis."""
        real = np.asarray(constant, dtype=np.float64)
        if real.ndim > len(shape) + 1:
            raise self.refuse(f"has a constant of shape {list(real.shape)} for data of {[-1, *shape]}: more axes")
        if real.ndim > len(shape):
            if real.shape[0] != 1:
                raise self.refuse(f"has a constant of shape {list(real.shape)} that differs over the batch")
            real = real[0]
        return real

    def widened(self, shape: tuple[int, ...], *constants: Constant) -> tuple[int, ...]:
        """The shape that a sample has together with constants."""
        shapes = [self.aligned(constant, shape).shape for constant in constants]
        try:
            return np.broadcast_shapes(shape, *shapes)
        except ValueError:
            listed = ", ".join(str(list(one)) for one in shapes)
            raise self.refuse(f"has constants of shape {listed} for data of {[-1, *shape]}") from None

    def for_sample(self, constant: Constant, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """A constant that is broadcast over the batch, for one sample of this shape."""
        real = self.aligned(constant, shape)
        try:
            return np.broadcast_to(real, shape)
        except ValueError:
            raise self.refuse(f"has a constant of shape {list(real.shape)} for data of {[-1, *shape]}") from None

    def grid(self, index: int) -> Grid | None:
        """What a constant input is made of, where the model says so."""
        return self.reader.grids.get(self.node.input[index]) if self.has(index) else None

    def axis(self, edge: Edge, axis: int) -> int:
        """An axis of the batch's data as an axis of the sample."""
        count = len(edge.shape) + 1
        if not -count <= axis < count or axis % count == 0:
            raise self.refuse(f"works on axis {axis} of {[-1, *edge.shape]}; the batch, axis 0, stays as it is")
        return axis % count - 1

    def whole(self, index: int, attribute: str) -> list[int] | None:
        """Whole numbers that are an attribute before some opset and an input after it."""
        if self.has(index):
            return [int(n) for n in self.constant(index).ravel()]
        found = self.attribute(attribute)
        return None if found is None else [int(n) for n in np.atleast_1d(found)]
