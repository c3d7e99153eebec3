"""scikit-learn's transformers: scalers, selections and projections of numeric columns.

Scaling and selecting are noted, not done, until something needs the numbers: a product takes them into its weights,
and trees look at the columns where they are.
"""

# Ref: scikit-learn 1.9 API reference: StandardScaler (mean_, scale_), MinMaxScaler (scale_, min_), MaxAbsScaler,
# Ref: RobustScaler (center_, scale_), PCA (mean_, components_, explained_variance_, whiten), TruncatedSVD,
# Ref: SelectorMixin.get_support, ColumnTransformer (transformers_, in the order of the output's columns)

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import ModelError, UnsupportedOperation
from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.model.nodes import Edge

__all__ = ["TRANSFORMERS", "Columns", "class_of", "feature_count", "is_sklearn", "opened", "transformed"]

Real = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Column ``i`` is ``edge[place[i]] * scale[i] + offset[i]``."""

    builder: GraphBuilder
    edge: Edge
    place: Integers
    scale: Real
    offset: Real
    name: str = "scaler"

    @classmethod
    def of(cls, builder: GraphBuilder, edge: Edge) -> Columns:
        """An edge's elements as they are."""
        count = edge.elements
        return cls(builder=builder, edge=edge, place=np.arange(count), scale=np.ones(count), offset=np.zeros(count))

    def scaled(self, name: str, scale: Real | float, offset: Real | float) -> Columns:
        """Each column ``* scale + offset``."""
        return replace(self, name=name, scale=self.scale * scale, offset=self.offset * scale + offset)

    def picked(self, places: Integers) -> Columns:
        """Some columns, in this order."""
        return replace(self, place=self.place[places], scale=self.scale[places], offset=self.offset[places])

    def made(self) -> Edge:
        """An edge that holds the columns."""
        edge, places = self.in_place()
        if np.array_equal(places, np.arange(edge.elements)):
            return edge
        return self.product(f"{self.name}/columns", np.eye(len(places)), np.zeros(len(places)))

    def product(self, name: str, weight: Real, bias: Real) -> Edge:
        """``columns @ weight + bias``; the scale stays by itself, because the host can take it over."""
        edge, places = self.in_place()
        whole = np.zeros((edge.elements, weight.shape[1]))
        np.add.at(whole, places, weight)
        return self.builder.dense(name, edge, whole, bias)

    def in_place(self) -> tuple[Edge, Integers]:
        """An edge whose elements are scaled one by one, and the columns' places in it."""
        used, first = np.unique(self.place, return_index=True)
        if len(used) < len(self.place):
            selection = np.zeros((self.edge.elements, len(self.place)))
            selection[self.place, np.arange(len(self.place))] = self.scale
            return self.builder.dense(self.name, self.edge, selection, self.offset), np.arange(len(self.place))
        if (self.scale == 1).all() and not self.offset.any():
            return self.edge, self.place
        scale, offset = np.ones(self.edge.elements), np.zeros(self.edge.elements)
        scale[used], offset[used] = self.scale[first], self.offset[first]
        return self.builder.scale(self.name, self.edge, scale, offset), self.place


def is_sklearn(source: object) -> bool:
    """Whether an object is one of scikit-learn's own."""
    return type(source).__module__.split(".")[0] == "sklearn"


def class_of(estimator: object) -> str:
    """The name of its class."""
    return type(estimator).__name__


def feature_count(estimator: Any) -> int:
    """How many columns a fitted estimator takes."""
    try:
        return int(estimator.n_features_in_)
    except AttributeError:
        raise ModelError(f"{class_of(estimator)} is not fitted; call its fit method first") from None


def opened(estimator: Any) -> list[Any]:
    """The steps of a pipeline, nested ones opened; a single estimator is its own."""
    if not is_sklearn(estimator):
        kind = f"{type(estimator).__module__}.{type(estimator).__qualname__}"
        raise UnsupportedOperation(f"an object of {kind} is no estimator of scikit-learn", operation=kind)
    if class_of(estimator) != "Pipeline":
        return [estimator]
    steps = [step for _, step in estimator.steps if step is not None and not isinstance(step, str)]
    return [inner for step in steps for inner in opened(step)]


def transformed(columns: Columns, transformer: Any, name: str) -> Columns:
    """What a transformer makes of the columns.

    Raises
    ------
    UnsupportedOperation
        When it has no exact translation.
    """
    if isinstance(transformer, str) or transformer is None:  # "passthrough"
        return columns
    for step in opened(transformer):
        kind = class_of(step)
        feature_count(step)
        if kind in TRANSFORMERS:
            columns = TRANSFORMERS[kind](columns, step, name)
        elif hasattr(step, "get_support"):
            columns = columns.picked(step.get_support(indices=True))
        else:
            raise UnsupportedOperation(
                f"pipeline step {name!r} ({kind}) has no translation{WHY.get(kind, '')}; supported are "
                f"{', '.join(sorted(TRANSFORMERS))}, and selections of features",
                node=name,
                operation=kind,
            )
    return columns


def _standard(columns: Columns, scaler: Any, name: str) -> Columns:
    scale = 1.0 / scaler.scale_ if scaler.scale_ is not None else np.ones(len(columns.place))
    mean = scaler.mean_ if scaler.with_mean else np.zeros(len(columns.place))
    return columns.scaled(name, scale, -mean * scale)


def _min_max(columns: Columns, scaler: Any, name: str) -> Columns:
    columns = columns.scaled(name, scaler.scale_, scaler.min_)
    return _clipped(columns, scaler, name, *map(float, scaler.feature_range))


def _max_abs(columns: Columns, scaler: Any, name: str) -> Columns:
    return _clipped(columns.scaled(name, 1.0 / scaler.scale_, 0.0), scaler, name, -1.0, 1.0)


def _clipped(columns: Columns, scaler: Any, name: str, low: float, high: float) -> Columns:
    if not getattr(scaler, "clip", False):
        return columns
    return Columns.of(columns.builder, columns.builder.clip(f"{name}/clip", columns.made(), low, high))


def _robust(columns: Columns, scaler: Any, name: str) -> Columns:
    scale = 1.0 / scaler.scale_ if scaler.scale_ is not None else np.ones(len(columns.place))
    center = scaler.center_ if scaler.center_ is not None else np.zeros(len(columns.place))
    return columns.scaled(name, scale, -center * scale)


def _projected(columns: Columns, projection: Any, name: str) -> Columns:
    weight = np.asarray(projection.components_, dtype=np.float64).T
    if getattr(projection, "whiten", False):
        variance = np.asarray(projection.explained_variance_, dtype=np.float64)
        weight = weight / np.maximum(np.sqrt(variance), np.finfo(variance.dtype).eps)
    mean = getattr(projection, "mean_", None)
    bias = np.zeros(weight.shape[1]) if mean is None else -np.asarray(mean, dtype=np.float64) @ weight
    return Columns.of(columns.builder, columns.product(name, weight, bias))


def _by_columns(columns: Columns, transformer: Any, name: str) -> Columns:
    parts = []
    for key, step, _ in transformer.transformers_:
        places = np.asarray(transformer._transformer_to_input_indices[key], dtype=np.int64)
        if places.size and not (isinstance(step, str) and step == "drop"):
            parts.append(transformed(columns.picked(places), step, f"{name}/{key}"))
    return _joined(columns, parts, name)


def _union(columns: Columns, union: Any, name: str) -> Columns:
    weights = union.transformer_weights or {}
    parts = []
    for key, step in union.transformer_list:
        if not (isinstance(step, str) and step == "drop"):
            part = transformed(columns, step, f"{name}/{key}")
            parts.append(part.scaled(f"{name}/{key}", float(weights.get(key, 1.0)), 0.0))
    return _joined(columns, parts, name)


def _joined(columns: Columns, parts: Sequence[Columns], name: str) -> Columns:
    if not parts:
        raise UnsupportedOperation(f"pipeline step {name!r} drops every column", node=name)
    if any(part.edge is not parts[0].edge for part in parts):
        return Columns.of(columns.builder, columns.builder.concat(name, [part.made() for part in parts]))
    place, scale, offset = (
        np.concatenate([getattr(part, key) for part in parts]) for key in ("place", "scale", "offset")
    )
    return replace(parts[0], name=name, place=place, scale=scale, offset=offset)


def _function(columns: Columns, transformer: Any, name: str) -> Columns:
    if transformer.func is not None:
        raise UnsupportedOperation(f"pipeline step {name!r} (FunctionTransformer) runs a function", node=name)
    return columns


TRANSFORMERS: dict[str, Callable[[Columns, Any, str], Columns]] = {
    "ColumnTransformer": _by_columns,
    "FeatureUnion": _union,
    "FunctionTransformer": _function,
    "IncrementalPCA": _projected,
    "MaxAbsScaler": _max_abs,
    "MinMaxScaler": _min_max,
    "PCA": _projected,
    "RobustScaler": _robust,
    "StandardScaler": _standard,
    "TruncatedSVD": _projected,
}
"""Transformers that scale, choose or project numbers."""

WHY = {"Normalizer": ", because it divides a sample by a length of its own"}
