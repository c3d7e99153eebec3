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

from gatesmith.fixed import FixedPoint, Overflow, Rounding
from gatesmith.model.layout import Concat, Gather, Reshape
from gatesmith.model.linear import Dense, Linear, Scale
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
    "Gather",
    "Linear",
    "LookupTable",
    "Max",
    "Node",
    "Quantize",
    "ReLU",
    "Requantize",
    "Reshape",
    "Scale",
    "grid_bits",
]

MAX_TABLE_BITS = 12
"""Widest input of a lookup table: 4096 entries."""


def _sigmoid(x: Real) -> Real:
    # exp of a negative number only: no overflow at either end
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, e) / (1.0 + e))


def _softplus(x: Real) -> Real:
    return np.asarray(np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))))


def _elu(x: Real) -> Real:
    return np.asarray(np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))))


def _gelu(x: Real) -> Real:
    erf = np.vectorize(math.erf, otypes=[np.float64])
    return np.asarray(0.5 * x * (1.0 + erf(x / math.sqrt(2.0))))


def _gelu_tanh(x: Real) -> Real:
    return np.asarray(0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))))


# Ref: Klambauer et al. 2017, "Self-Normalizing Neural Networks": alpha and the scale of SELU
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

FUNCTIONS: dict[str, Callable[[Real], Real]] = {
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "exp": np.exp,
    "square": np.square,
    "softplus": _softplus,
    "softsign": lambda x: np.asarray(x / (1.0 + np.abs(x))),
    "elu": _elu,
    "selu": lambda x: np.asarray(SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0.0)))),
    "silu": lambda x: np.asarray(x * _sigmoid(x)),
    "mish": lambda x: np.asarray(x * np.tanh(_softplus(x))),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "hard_swish": lambda x: np.asarray(x * np.clip(x / 6.0 + 0.5, 0.0, 1.0)),
}
"""Unary functions that a float graph's LookupTable may name; add to it to have more."""


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

    In a float graph ``function`` is a name in ``FUNCTIONS`` and ``table`` is None; ``inner`` and ``outer`` are a factor
    and an offset before and behind the function. In an integer graph ``table`` holds float64 values on the output's
    grid, one for each integer of the input's format: entry ``i`` is that for the input integer ``min_integer + i``.
    """

    kind: ClassVar[str] = "LookupTable"
    function: str
    table: Real | None = None
    inner: tuple[float, float] = (1.0, 0.0)
    outer: tuple[float, float] = (1.0, 0.0)

    def __post_init__(self) -> None:
        if self.table is None and self.function not in FUNCTIONS:
            raise self.refuse(f"function {self.function!r} is unknown; known are {', '.join(sorted(FUNCTIONS))}")
        if self.table is not None and not (self.table.ndim == 1 and self.table.size and np.isfinite(self.table).all()):
            raise self.refuse(f"table of shape {list(self.table.shape)}, a flat one of finite numbers is needed")

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def evaluate(self, inputs: Sequence[Real], formats: Sequence[FixedPoint | None]) -> Real:
        if self.table is None:
            return self.apply(inputs[0])
        format = formats[0]
        if format is None:
            raise self.refuse("has a table and its input has no format")
        index = np.ldexp(inputs[0], format.fraction_bits).astype(np.int64) - format.min_integer
        return np.asarray(self.table[index])

    def apply(self, values: Real) -> Real:
        """The function of a float graph, with what is before and behind it."""
        result = FUNCTIONS[self.function](values * self.inner[0] + self.inner[1])
        return np.asarray(result * self.outer[0] + self.outer[1])

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
class Max(Node):
    """The largest along the last axis."""

    kind: ClassVar[str] = "Max"

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        if not inputs[0]:
            raise self.refuse("input is a single number, an axis is needed")
        return inputs[0][:-1]

    def evaluate(self, inputs: Sequence[Real], formats: Sequence[FixedPoint | None]) -> Real:
        del formats
        return np.asarray(inputs[0].max(axis=-1))

    def bounds(self, inputs: Sequence[Bounds]) -> Bounds:
        low, high = inputs[0]
        return np.asarray(low.max(axis=-1)), np.asarray(high.max(axis=-1))


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantize(Node):
    """Rounding that the model was trained with; in float graphs only, the quantiser makes a Requantize of it."""

    kind: ClassVar[str] = "Quantize"
    format: FixedPoint
    rounding: Rounding = Rounding.HALF_EVEN
    overflow: Overflow = Overflow.SATURATE

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        if self.output.format is not None:
            raise self.refuse("is for float graphs; an integer graph has Requantize")
        return inputs[0]

    def evaluate(self, inputs: Sequence[Real], formats: Sequence[FixedPoint | None]) -> Real:
        del formats
        units = np.ldexp(inputs[0], self.format.fraction_bits)
        return self.format.dequantize(self.format.fit(units, rounding=self.rounding, overflow=self.overflow))

    def bounds(self, inputs: Sequence[Bounds]) -> Bounds:
        low, high = inputs[0]
        ends = self.format.dequantize([self.format.min_integer, self.format.max_integer])
        return np.full_like(low, ends[0]), np.full_like(high, ends[1])


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
