"""How many bits each tensor may have; the rest of the quantiser decides what they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gatesmith.errors import AccuracyLost

__all__ = ["PRECISIONS", "Precision"]

PRECISIONS = range(2, 17)
"""Bits of weights and activations that are possible."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """Bits by tensor of the folded graph (:func:`gatesmith.quantize.fold`).

    Parameters
    ----------
    default : int
        Where nothing else is said.
    weights : mapping of str to int or tuple of int
        By name of a Dense node; a tuple has a number for each output column, which then has a scale of its own too.
    activations : mapping of str to int
        By name of an edge that a Dense node or a table reads, inputs included.
    outputs : int
        Most bits of an output element.
    bias_correction : bool
        Biases take back the mean error that rounding causes on the calibration data.

    Raises
    ------
    AccuracyLost
        When a number is out of range.
    """

    default: int = 8
    weights: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict)
    activations: Mapping[str, int] = field(default_factory=dict)
    outputs: int = 16
    bias_correction: bool = False

    def __post_init__(self) -> None:
        for what, bits in self._each():
            if not isinstance(bits, int) or bits not in PRECISIONS:
                raise AccuracyLost(f"precision{what} {bits} bits, {PRECISIONS[0]} to {PRECISIONS[-1]} are possible")

    def _each(self) -> Iterator[tuple[str, int]]:
        yield "", self.default
        yield " of outputs", self.outputs
        for name, bits in self.weights.items():
            for one in (bits,) if isinstance(bits, int) else bits:
                yield f" of the weights of {name!r}", one
        for name, bits in self.activations.items():
            yield f" of edge {name!r}", bits

    @classmethod
    def of(cls, bits: int | np.integer[Any] | Precision) -> Precision:
        """The same, or that many bits everywhere."""
        return bits if isinstance(bits, Precision) else cls(default=int(bits) if isinstance(bits, np.integer) else bits)

    def weight(self, node: str) -> int | tuple[int, ...]:
        """Bits of a node's weights."""
        return self.weights.get(node, self.default)

    def activation(self, edge: str) -> int:
        """Bits of what a node reads from this edge."""
        return self.activations.get(edge, self.default)
