"""Nodes that only arrange numbers; in gateware they are wires."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import ModelError
from gatesmith.fixed import FixedPoint
from gatesmith.model.node import Bounds, Node, Real, Shape, grid_bits

__all__ = ["Concat", "Gather", "Reshape"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Concat(Node):
    """Flat samples side by side, in the order of the inputs; their formats may differ, the output's holds them all."""

    kind: ClassVar[str] = "Concat"
    arity: ClassVar[int | None] = None

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        if any(len(shape) != 1 for shape in inputs):
            raise self.refuse(
                f"inputs have the shapes {[list(s) for s in inputs]}, flat ones are joined; flatten before"
            )
        return (sum(shape[0] for shape in inputs),)

    def evaluate(self, inputs: Sequence[Real], formats: Sequence[FixedPoint | None]) -> Real:
        del formats
        return np.concatenate(inputs, axis=1)

    def bounds(self, inputs: Sequence[Bounds]) -> Bounds:
        return np.concatenate([low for low, _ in inputs]), np.concatenate([high for _, high in inputs])


@dataclass(frozen=True, kw_only=True, slots=True)
class Reshape(Node):
    """The same numbers, row-major, in the output edge's shape."""

    kind: ClassVar[str] = "Reshape"

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        if math.prod(inputs[0]) != self.output.elements:
            raise self.refuse(f"{list(inputs[0])} has not as many numbers as {list(self.output.shape)}")
        return self.output.shape

    def evaluate(self, inputs: Sequence[Real], formats: Sequence[FixedPoint | None]) -> Real:
        del formats
        return inputs[0].reshape(len(inputs[0]), *self.output.shape)

    def bounds(self, inputs: Sequence[Bounds]) -> Bounds:
        low, high = inputs[0]
        return low.reshape(self.output.shape), high.reshape(self.output.shape)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Gather(Node):
    """Elements of the input, each as often as wanted, and a constant where there is none.

    Transposing, slicing, padding and the windows of a convolution are all this.

    Parameters
    ----------
    index : ndarray of int64, shape of the output
        Place in the row-major input; -1 is ``fill``.
    fill : float
    """

    kind: ClassVar[str] = "Gather"
    index: NDArray[np.int64]
    fill: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.fill):
            raise ModelError(f"node {self.name!r} ({self.kind}) fills with {self.fill}", node=self.name)
        if not self.index.size or self.index.min() < -1:
            raise self.refuse(f"picks {self.index.size} elements, the first wrong one is {self.index.min(initial=0)}")

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        if self.index.max() >= math.prod(inputs[0]):
            raise self.refuse(f"picks element {self.index.max()} of {math.prod(inputs[0])}")
        return self.index.shape

    def evaluate(self, inputs: Sequence[Real], formats: Sequence[FixedPoint | None]) -> Real:
        del formats
        flat = inputs[0].reshape(len(inputs[0]), -1)
        if self.index.min() >= 0:
            return flat[:, self.index]
        return np.where(self.index < 0, self.fill, flat[:, self.index])

    def bounds(self, inputs: Sequence[Bounds]) -> Bounds:
        low, high = (self.evaluate([end[None]], [None])[0] for end in inputs[0])
        return low, high

    def fraction_bits(self, formats: Sequence[FixedPoint]) -> int:
        needed = [grid_bits(np.array(self.fill))] if self.fill and self.index.min() < 0 else []
        return max(formats[0].fraction_bits, *needed) if needed else formats[0].fraction_bits
