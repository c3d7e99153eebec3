"""What all nodes share: the edge, the questions that a node answers, and the grid that numbers lie on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import ModelError, UnsupportedOperation
from gatesmith.fixed import FixedPoint

__all__ = ["Bounds", "Edge", "Node", "Real", "Shape", "grid_bits", "leading_to", "parameters"]

Real = NDArray[np.float64]
Shape = tuple[int, ...]
Bounds = tuple[Real, Real]
"""Lowest and highest value of each element of a sample, both of the edge's shape."""


def grid_bits(values: Real) -> int:
    """The fewest fraction bits with which every value is a whole number of steps (0 for all zeros)."""
    mantissa, exponent = np.frexp(np.asarray(values, dtype=np.float64)[np.asarray(values) != 0])
    if mantissa.size == 0:
        return 0
    whole = np.abs(np.ldexp(mantissa, 53)).astype(np.int64)
    trailing = np.log2((whole & -whole).astype(np.float64)).astype(np.int64)
    return int(np.max(53 - exponent.astype(np.int64) - trailing))


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """A value between nodes: its name, the shape of one sample, and in an integer graph its format."""

    name: str
    shape: Shape
    format: FixedPoint | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ModelError(f"an edge is called {self.name!r}, a name is needed")
        if any(type(size) is not int or size < 1 for size in self.shape):
            raise ModelError(f"edge {self.name!r} has the shape {list(self.shape)}, sizes of 1 or more are needed")

    @property
    def elements(self) -> int:
        """Numbers in one sample."""
        return math.prod(self.shape)

    @property
    def fixed(self) -> FixedPoint:
        """The format, where there has to be one."""
        if self.format is None:
            raise ModelError(f"edge {self.name!r} has no format; quantise the graph first", edge=self.name)
        return self.format


@dataclass(frozen=True, kw_only=True, slots=True)
class Node(ABC):
    """One operation.

    Parameters
    ----------
    name : str
        Unique in the graph; error messages use it.
    inputs : tuple of str
        Names of the edges it reads.
    output : Edge
        The edge it writes.
    """

    kind: ClassVar[str]
    arity: ClassVar[int | None] = 1  # number of inputs, None for one or more
    name: str
    inputs: tuple[str, ...]
    output: Edge

    @abstractmethod
    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """Shape of one output sample; raises UnsupportedOperation when the inputs do not go together."""

    @abstractmethod
    def evaluate(self, inputs: Sequence[Real], formats: Sequence[FixedPoint | None]) -> Real:
        """Values for batches of inputs, each of shape (batch, *shape)."""

    @abstractmethod
    def bounds(self, inputs: Sequence[Bounds]) -> Bounds:
        """Interval of each output element, given those of the inputs."""

    def fraction_bits(self, formats: Sequence[FixedPoint]) -> int:
        """Fraction bits that hold every output exactly."""
        return max(format.fraction_bits for format in formats)

    def magnitude(self, inputs: Sequence[Bounds]) -> float:
        """Largest absolute value of any partial sum, whatever the order of summation."""
        low, high = self.bounds(inputs)
        return float(max(np.max(np.abs(low)), np.max(np.abs(high))))

    def refuse(self, reason: str) -> UnsupportedOperation:
        """The error that names this node."""
        return UnsupportedOperation(f"node {self.name!r} ({self.kind}): {reason}", node=self.name, operation=self.kind)

    def _same_shape(self, inputs: Sequence[Shape]) -> Shape:
        if len(set(inputs)) != 1:
            raise self.refuse(f"inputs have the shapes {[list(s) for s in inputs]}, they have to be equal")
        return inputs[0]


def leading_to(nodes: Sequence[Node], edges: Iterable[str]) -> tuple[Node, ...]:
    """The nodes on which these edges depend, in their order."""
    wanted, found = set(edges), list[Node]()
    for node in reversed(nodes):
        if node.output.name in wanted:
            wanted.update(node.inputs)
            found.append(node)
    return tuple(reversed(found))


def parameters(node: Node) -> dict[str, Any]:
    """What a node has beside its name and edges, arrays as they are."""
    skip = {"name", "inputs", "output"}
    return {field.name: getattr(node, field.name) for field in fields(node) if field.name not in skip}
