"""Products with constants: a matrix on the last axis, or a factor for each element."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gatesmith.errors import ModelError
from gatesmith.fixed import FixedPoint
from gatesmith.model.node import Bounds, Node, Real, Shape, grid_bits

__all__ = ["Dense", "Linear", "Scale"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Linear(Node):
    """What both have: ``y = product(x, weight) + bias``, with finite float64 numbers."""

    weight: Real
    bias: Real

    def __post_init__(self) -> None:
        for label, values in (("weight", self.weight), ("bias", self.bias)):
            if not np.isfinite(values).all():
                where = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
                count = int(np.sum(~np.isfinite(values)))
                raise ModelError(
                    f"node {self.name!r} ({self.kind}): {label}{list(where)} is {values[where]}; "
                    f"{count} of {values.size} numbers are not finite",
                    node=self.name,
                    not_finite=count,
                )

    @abstractmethod
    def product(self, x: Real, weight: Real) -> Real:
        """Product of values of shape (batch, *input shape) with weights of this node's shape."""

    def evaluate(self, inputs: Sequence[Real], formats: Sequence[FixedPoint | None]) -> Real:
        del formats
        result = self.product(inputs[0], self.weight)
        result += self.bias
        return result

    def bounds(self, inputs: Sequence[Bounds]) -> Bounds:
        low, high = self.bounds_of_product(inputs[0])
        return low + self.bias, high + self.bias

    def bounds_of_product(self, given: Bounds) -> Bounds:
        """Interval of each output element without its bias."""
        low, high = (end[None] for end in given)
        up, down = np.maximum(self.weight, 0), np.minimum(self.weight, 0)
        return (
            (self.product(low, up) + self.product(high, down))[0],
            (self.product(high, up) + self.product(low, down))[0],
        )

    def fraction_bits(self, formats: Sequence[FixedPoint]) -> int:
        # zeros lie on every grid, so they ask for none
        needed = [formats[0].fraction_bits + grid_bits(self.weight)] if self.weight.any() else []
        needed += [grid_bits(self.bias)] if self.bias.any() else []
        return max(needed, default=formats[0].fraction_bits)

    def magnitude(self, inputs: Sequence[Bounds]) -> float:
        low, high = inputs[0]
        largest = np.maximum(np.abs(low), np.abs(high))
        return float(np.max(self.product(largest[None], np.abs(self.weight)) + np.abs(self.bias)))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Dense(Linear):
    """``y = x @ weight + bias`` on the last axis, whatever is before it.

    Parameters
    ----------
    weight : ndarray of float64, shape (inputs, outputs) or (groups, inputs, outputs)
        With groups, the axis before the last one counts them, and each has a matrix of its own.
    bias : ndarray of float64, shape (outputs,) or (groups, outputs)
    """

    kind: ClassVar[str] = "Dense"

    def __post_init__(self) -> None:
        super(Dense, self).__post_init__()
        shape = self.weight.shape
        if len(shape) not in {2, 3} or self.bias.shape != (*shape[:-2], shape[-1]) or 0 in shape:
            raise self.refuse(f"weight of shape {list(shape)} and bias of {list(self.bias.shape)}")

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        *ahead, rows, columns = self.weight.shape
        needed = (*ahead, rows)
        if inputs[0][-len(needed) :] != needed:
            raise self.refuse(f"input of shape {list(inputs[0])}, the weight needs {list(needed)}")
        return (*inputs[0][:-1], columns)

    def product(self, x: Real, weight: Real) -> Real:
        if weight.ndim == 2:
            # one large product is faster than one for each sample
            return (x.reshape(-1, len(weight)) @ weight).reshape(*x.shape[:-1], weight.shape[1])
        return np.asarray((x[..., None, :] @ weight)[..., 0, :])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scale(Linear):
    """``y = x * weight + bias``, element by element.

    Parameters
    ----------
    weight, bias : ndarray of float64
        Both broadcast to the shape of a sample, and do not widen it.
    """

    kind: ClassVar[str] = "Scale"

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        try:
            wide = np.broadcast_shapes(inputs[0], self.weight.shape, self.bias.shape)
        except ValueError:
            wide = ()
        if wide != inputs[0]:
            raise self.refuse(
                f"weight of shape {list(self.weight.shape)} and bias of {list(self.bias.shape)} for an input of "
                f"{list(inputs[0])}"
            )
        return inputs[0]

    def product(self, x: Real, weight: Real) -> Real:
        return x * weight
