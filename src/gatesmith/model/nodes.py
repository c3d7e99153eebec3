"""The closed set of nodes and what each one means; ``docs/graph.md`` says the same in words.

A node computes on real numbers. In a float graph they are whatever float64 gives. In an integer graph every edge has a
format, every value is a whole number of its format's steps, and each node here is exact: float64 holds all sums and
products because the graph proves their widths below 53 bits. Only Requantize rounds, and it rounds by
:meth:`gatesmith.fixed.FixedPoint.fit`.

Each node answers four questions: its output shape (`shape`), its values (`evaluate`), the interval its values lie in
(`bounds`), and how fine a grid they need (`fraction_bits`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gatesmith.errors import ModelError
from gatesmith.fixed import FixedPoint, Overflow, Rounding
from gatesmith.model.node import Bounds, Edge, Node, Real, Shape, grid_bits

__all__ = [
    "FUNCTIONS",
    "Add",
    "ArgMax",
    "Bounds",
    "Clip",
    "Concat",
    "Dense",
    "Edge",
    "LookupTable",
    "Node",
    "ReLU",
    "Requantize",
    "Reshape",
    "grid_bits",
]

MAX_TABLE_BITS = 12
"""Widest input of a lookup table: 4096 entries."""


def _sigmoid(x: Real) -> Real:
    # exp of a negative number only: no overflow at either end
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, e) / (1.0 + e))


FUNCTIONS: dict[str, Callable[[Real], Real]] = {
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "exp": np.exp,
    "square": np.square,
}
"""Unary functions that a float graph's LookupTable may name; add to it to have more."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Dense(Node):
    """``y = x @ weight + bias``: weight is float64 of shape (inputs, outputs), bias of shape (outputs,)."""

    kind: ClassVar[str] = "Dense"
    weight: Real
    bias: Real

    def __post_init__(self) -> None:
        for label, values in (("weight", self.weight), ("bias", self.bias)):
            if not np.isfinite(values).all():
                where = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
                count = int(np.sum(~np.isfinite(values)))
                raise ModelError(
                    f"node {self.name!r} (Dense): {label}{list(where)} is {values[where]}; "
                    f"{count} of {values.size} numbers are not finite",
                    node=self.name,
                    not_finite=count,
                )
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[1:] or 0 in self.weight.shape:
            raise self.refuse(f"weight of shape {list(self.weight.shape)} and bias of {list(self.bias.shape)}")

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        if inputs[0] != (len(self.weight),):
            raise self.refuse(f"input of shape {list(inputs[0])}, the weight needs [{len(self.weight)}]")
        return (self.weight.shape[1],)

    def evaluate(self, inputs: Sequence[Real], formats: Sequence[FixedPoint | None]) -> Real:
        del formats
        result = inputs[0] @ self.weight
        result += self.bias
        return result

    def bounds(self, inputs: Sequence[Bounds]) -> Bounds:
        low, high = inputs[0]
        positive, negative = np.maximum(self.weight, 0), np.minimum(self.weight, 0)
        return low @ positive + high @ negative + self.bias, high @ positive + low @ negative + self.bias

    def fraction_bits(self, formats: Sequence[FixedPoint]) -> int:
        # zeros lie on every grid, so they ask for none
        needed = [formats[0].fraction_bits + grid_bits(self.weight)] if self.weight.any() else []
        needed += [grid_bits(self.bias)] if self.bias.any() else []
        return max(needed, default=formats[0].fraction_bits)

    def magnitude(self, inputs: Sequence[Bounds]) -> float:
        low, high = inputs[0]
        return float(np.max(np.maximum(np.abs(low), np.abs(high)) @ np.abs(self.weight) + np.abs(self.bias)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Add(Node):
    """``y = a + b``, element by element."""

    kind: ClassVar[str] = "Add"
    arity: ClassVar[int | None] = 2

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return self._same_shape(inputs)

    def evaluate(self, inputs: Sequence[Real], formats: Sequence[FixedPoint | None]) -> Real:
        del formats
        return inputs[0] + inputs[1]

    def bounds(self, inputs: Sequence[Bounds]) -> Bounds:
        (low_a, high_a), (low_b, high_b) = inputs
        return low_a + low_b, high_a + high_b


@dataclass(frozen=True, kw_only=True, slots=True)
class ReLU(Node):
    """``y = max(x, 0)``."""

    kind: ClassVar[str] = "ReLU"

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def evaluate(self, inputs: Sequence[Real], formats: Sequence[FixedPoint | None]) -> Real:
        del formats
        return np.maximum(inputs[0], 0.0)

    def bounds(self, inputs: Sequence[Bounds]) -> Bounds:
        low, high = inputs[0]
        return np.maximum(low, 0.0), np.maximum(high, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip(Node):
    """``y = min(max(x, low), high)``; in an integer graph both ends lie on the output's grid."""

    kind: ClassVar[str] = "Clip"
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise self.refuse(f"clips to [{self.low}, {self.high}]")

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def evaluate(self, inputs: Sequence[Real], formats: Sequence[FixedPoint | None]) -> Real:
        del formats
        return np.asarray(np.clip(inputs[0], self.low, self.high))

    def bounds(self, inputs: Sequence[Bounds]) -> Bounds:
        low, high = inputs[0]
        return np.clip(low, self.low, self.high), np.clip(high, self.low, self.high)

    def fraction_bits(self, formats: Sequence[FixedPoint]) -> int:
        return max(formats[0].fraction_bits, grid_bits(np.array([self.low, self.high])))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LookupTable(Node):
    """Any unary function, element by element.

    In a float graph ``function`` is a name in ``FUNCTIONS`` and ``table`` is None. In an integer graph ``table`` holds
    float64 values on the output's grid, one for each integer of the input's format: entry ``i`` is the value for the
    input integer ``min_integer + i``.
    """

    kind: ClassVar[str] = "LookupTable"
    function: str
    table: Real | None = None

    def __post_init__(self) -> None:
        if self.table is None and self.function not in FUNCTIONS:
            raise self.refuse(f"function {self.function!r} is unknown; known are {', '.join(sorted(FUNCTIONS))}")
        if self.table is not None and not (self.table.ndim == 1 and self.table.size and np.isfinite(self.table).all()):
            raise self.refuse(f"table of shape {list(self.table.shape)}, a flat one of finite numbers is needed")

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def evaluate(self, inputs: Sequence[Real], formats: Sequence[FixedPoint | None]) -> Real:
        if self.table is None:
            return FUNCTIONS[self.function](inputs[0])
        format = formats[0]
        if format is None:
            raise self.refuse("has a table and its input has no format")
        index = np.ldexp(inputs[0], format.fraction_bits).astype(np.int64) - format.min_integer
        return np.asarray(self.table[index])

    def bounds(self, inputs: Sequence[Bounds]) -> Bounds:
        low, high = inputs[0]
        if self.table is None:
            raise self.refuse("has no table yet; quantise the graph first")
        return np.full_like(low, self.table.min()), np.full_like(high, self.table.max())

    def fraction_bits(self, formats: Sequence[FixedPoint]) -> int:
        if formats[0].width > MAX_TABLE_BITS:
            raise self.refuse(f"input has {formats[0].width} bits, {MAX_TABLE_BITS} are possible; requantise it before")
        if self.table is None:
            raise self.refuse("has no table yet; quantise the graph first")
        if len(self.table) != 1 << formats[0].width:
            raise self.refuse(
                f"table has {len(self.table)} entries, its input's format {formats[0]} needs {1 << formats[0].width}"
            )
        return grid_bits(self.table)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Requantize(Node):
    """The output's format, reached by this rounding and overflow: the only node that loses anything."""

    kind: ClassVar[str] = "Requantize"
    rounding: Rounding = Rounding.HALF_EVEN
    overflow: Overflow = Overflow.SATURATE

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        if self.output.format is None:
            raise self.refuse("rounds to the format of its edge, which has none")
        return inputs[0]

    def evaluate(self, inputs: Sequence[Real], formats: Sequence[FixedPoint | None]) -> Real:
        del formats
        return self._fit(inputs[0])

    def bounds(self, inputs: Sequence[Bounds]) -> Bounds:
        low, high = inputs[0]
        if self.overflow is Overflow.WRAP:
            # rounding alone moves the ends by less than a step; beyond the format anything may come out
            format = self.output.fixed
            ends = np.rint(np.ldexp(np.stack([low, high]), format.fraction_bits))
            if ends.min() - 1 < format.min_integer or ends.max() + 1 > format.max_integer:
                return (
                    np.full_like(low, format.dequantize(format.min_integer)),
                    np.full_like(high, format.dequantize(format.max_integer)),
                )
        return self._fit(low), self._fit(high)

    def fraction_bits(self, formats: Sequence[FixedPoint]) -> int:
        del formats
        return self.output.fixed.fraction_bits

    def _fit(self, values: Real) -> Real:
        format = self.output.fixed
        units = format.fit(
            values * math.ldexp(1.0, format.fraction_bits), rounding=self.rounding, overflow=self.overflow
        )
        units *= format.step
        return units


@dataclass(frozen=True, kw_only=True, slots=True)
class ArgMax(Node):
    """Index of the largest element of a flat sample; of equal ones the first."""

    kind: ClassVar[str] = "ArgMax"

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        if len(inputs[0]) != 1:
            raise self.refuse(f"input has the shape {list(inputs[0])}, a flat one is needed")
        if self.output.shape not in {(), (1,)}:
            raise self.refuse(f"output has the shape {list(self.output.shape)}, [] or [1] is possible")
        return self.output.shape

    def evaluate(self, inputs: Sequence[Real], formats: Sequence[FixedPoint | None]) -> Real:
        del formats
        index: Real = np.argmax(inputs[0], axis=1).astype(np.float64)
        return index.reshape(len(inputs[0]), *self.output.shape)

    def bounds(self, inputs: Sequence[Bounds]) -> Bounds:
        count = len(inputs[0][0])
        return np.zeros(self.output.shape), np.full(self.output.shape, float(count - 1))

    def fraction_bits(self, formats: Sequence[FixedPoint]) -> int:
        del formats
        return 0
