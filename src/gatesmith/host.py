"""What the host may compute around the gateware, in float64: a closed set, declared in the contract of a firmware."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import ManifestInvalid

__all__ = ["Bins", "HostOperation", "HostOperationKind"]

Real = NDArray[np.float64]

_COMPARED: Final = 1 << 15
"""Comparisons that numpy does at once in less time than a search for each element takes."""


class HostOperationKind(StrEnum):
    """What the run side may compute in float; everything else is gateware."""

    SCALE = "scale"  # x * scale + offset, per element
    FLOOR = "floor"  # the largest whole number that is not above x
    BIN = "bin"  # how many of its edges lie below x, per element
    FILL = "fill"  # a missing value (NaN) becomes a number, numbers are at most another; the last of an input
    SOFTMAX = "softmax"  # over the last axis
    MEDIAN = "median"  # one number in place of a flat sample, each element with its weight; of an output alone


@dataclass(frozen=True, kw_only=True, slots=True)
class HostOperation:
    """One float64 operation on the host, declared in the contract.

    ``scale`` and ``offset`` belong to SCALE: one number for each element of a sample, row-major. ``edges`` belong to
    BIN: for each element of a sample its numbers, ascending. ``missing`` and ``most`` belong to FILL. ``weights``
    belong to MEDIAN: one for each element, not negative.
    """

    kind: HostOperationKind
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    edges: tuple[tuple[float, ...], ...] = ()
    missing: float = 0.0
    most: float = 0.0
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind is HostOperationKind.SCALE and (len(self.scale) != len(self.offset) or not self.scale):
            raise ManifestInvalid(f"host scale has {len(self.scale)} factors and {len(self.offset)} offsets")
        if self.kind is HostOperationKind.BIN:
            self._check_edges()
        if self.kind is HostOperationKind.FILL and not np.isfinite([self.missing, self.most]).all():
            raise ManifestInvalid(f"host fill has the numbers {self.missing} and {self.most}, finite ones are needed")
        if self.kind is HostOperationKind.MEDIAN:
            self._check_weights()

    def _check_weights(self) -> None:
        total = sum(self.weights) if np.isfinite(self.weights).all() else np.inf
        if not 0 < total < np.finfo(np.float64).max or min(self.weights) < 0:
            raise ManifestInvalid(
                f"host median has {len(self.weights)} weights; finite ones are needed, none below 0 and one above"
            )

    def _check_edges(self) -> None:
        if not self.edges:
            raise ManifestInvalid("host bin has edges for no element")
        for place, edges in enumerate(self.edges):
            if not np.isfinite(edges).all() or np.any(np.diff(edges) <= 0):
                raise ManifestInvalid(f"host bin has edges for element {place} that do not ascend, or are not finite")

    def apply(self, values: Real) -> Real:
        """Apply to values of shape (batch, ...); NaN stays NaN until it is filled."""
        if self.kind is HostOperationKind.SCALE:
            shape = values.shape[1:]
            return np.asarray(values * np.reshape(self.scale, shape) + np.reshape(self.offset, shape))
        if self.kind is HostOperationKind.FLOOR:
            return np.asarray(np.floor(values))
        if self.kind is HostOperationKind.BIN:
            return np.where(np.isnan(values), values, Bins(self.edges).count(values))
        if self.kind is HostOperationKind.FILL:
            return np.where(np.isnan(values), self.missing, np.minimum(values, self.most))
        if self.kind is HostOperationKind.MEDIAN:
            return self._median(values)
        shifted = np.exp(values - values.max(axis=-1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))

    def _median(self, values: Real) -> Real:
        """The smallest element of which the weight, with those of all smaller ones, is half of the whole or more."""
        order = np.argsort(values, axis=1, kind="stable")
        below = np.cumsum(np.asarray(self.weights)[order], axis=1)
        place = np.argmax(below >= 0.5 * below[:, -1:], axis=1)[:, None]
        return np.take_along_axis(values, np.take_along_axis(order, place, axis=1), axis=1)

    @property
    def elements(self) -> int | None:
        """Numbers in a sample that the operation is for; None for any."""
        return len(self.scale) or len(self.edges) or len(self.weights) or None

    @property
    def leaves_one(self) -> bool:
        """Whether a sample has one number afterwards, whatever it had."""
        return self.kind is HostOperationKind.MEDIAN

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary that :meth:`from_json` reads back."""
        if self.kind is HostOperationKind.SCALE:
            return {"kind": self.kind.value, "scale": list(self.scale), "offset": list(self.offset)}
        if self.kind is HostOperationKind.BIN:
            return {"kind": self.kind.value, "edges": [list(edges) for edges in self.edges]}
        if self.kind is HostOperationKind.FILL:
            return {"kind": self.kind.value, "missing": self.missing, "most": self.most}
        if self.kind is HostOperationKind.MEDIAN:
            return {"kind": self.kind.value, "weights": list(self.weights)}
        return {"kind": self.kind.value}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> HostOperation:
        """Read back what :meth:`to_json` wrote."""
        return cls(
            kind=HostOperationKind(data["kind"]),
            scale=tuple(float(v) for v in data.get("scale", ())),
            offset=tuple(float(v) for v in data.get("offset", ())),
            edges=tuple(tuple(float(v) for v in edges) for edges in data.get("edges", ())),
            missing=float(data.get("missing", 0.0)),
            most=float(data.get("most", 0.0)),
            weights=tuple(float(v) for v in data.get("weights", ())),
        )


class Bins:
    """The edges of a BIN as an array to look values up in; NaN has any count."""

    def __init__(self, edges: tuple[tuple[float, ...], ...]) -> None:
        self._edges = [np.array(each, dtype=np.float64) for each in edges]
        self._table = np.full((len(edges), max(map(len, edges))), np.inf)
        for row, each in zip(self._table, self._edges, strict=True):
            row[: len(each)] = each

    def count(self, values: Real) -> Real:
        """For values of shape (batch, ...) the number of edges below each."""
        flat = values.reshape(len(values), -1)
        if len(flat) * self._table.size <= _COMPARED:
            below = np.count_nonzero(flat[:, :, None] > self._table, 2)
            counts = np.asarray(below, dtype=np.float64)
        else:
            counts = np.empty(flat.shape)
            for place, edges in enumerate(self._edges):
                counts[:, place] = np.searchsorted(edges, flat[:, place], "left")
        return np.reshape(counts, values.shape)
