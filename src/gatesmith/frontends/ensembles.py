"""Trees as the libraries keep them, gathered into one node of a float graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gatesmith.errors import ModelUnreadable, UnsupportedOperation
from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.model.ensemble import TreeEnsemble
from gatesmith.model.nodes import Edge

__all__ = ["MAX_NODES", "MAX_VALUES", "Forest", "Tree", "checked_features", "class_names", "column"]

Real = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

MAX_NODES = 1 << 24
"""Splits and leaves of all trees together."""

MAX_FEATURES = 1 << 20

MAX_LEVELS = 4096

MAX_VALUES = 1 << 26
"""Numbers in all leaves together: each leaf has one for each output."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """One tree, its nodes numbered from the root 0 in any order; ``left`` is negative at a leaf.

    ``value`` has the shape (nodes, outputs) and is read at leaves only. A sample goes left where ``x <= threshold``;
    ``missing`` says where NaN goes left, and is None in a model that knows no missing values.
    """

    feature: Sequence[int] | Integers
    threshold: Sequence[float] | Real
    left: Sequence[int] | Integers
    right: Sequence[int] | Integers
    value: Real
    missing: Flags | None = None


def column(values: Real, place: int, columns: int) -> Real:
    """Values of one output beside zeros for the others; shape (values, columns)."""
    if not 0 <= place < columns or len(values) * columns > MAX_VALUES:
        raise ModelUnreadable(f"a tree of {len(values)} nodes adds to output {place} of {columns}")
    whole = np.zeros((len(values), columns))
    whole[:, place] = values
    return whole


def checked_features(count: int) -> int:
    """The number of features of a model, where it is a possible one."""
    if not 0 < count <= MAX_FEATURES:
        raise ModelUnreadable(f"model has {count} features, 1 to {MAX_FEATURES} are possible")
    return count


def class_names(names: Iterable[object], count: int) -> list[str]:
    """Names of classes, where there is one for each output and they say more than their places."""
    found = [str(name) for name in names]
    return found if len(found) == count and found != [str(place) for place in range(count)] else []


@dataclass
class Forest:
    """Trees as they come; their leaves are added to ``bias``."""

    bias: ArrayLike
    splits: int = 0
    leaves: int = 0
    root: list[int] = field(default_factory=list)
    feature: list[Integers] = field(default_factory=list)
    threshold: list[Real] = field(default_factory=list)
    left: list[Integers] = field(default_factory=list)
    right: list[Integers] = field(default_factory=list)
    value: list[Real] = field(default_factory=list)
    missing: list[Flags | None] = field(default_factory=list)

    def add(self, tree: Tree) -> None:
        """Number the tree's splits and leaves after those that are here; each split before what it leads to.

        Raises
        ------
        ModelUnreadable
            When its nodes are no tree.
        """
        left, right, threshold = (np.asarray(each) for each in (tree.left, tree.right, tree.threshold))
        first, left, right = _shortened(left, right, threshold, tree.missing)
        reached = _breadth_first(first, left, right)
        splits, leaves = reached[left[reached] >= 0], reached[left[reached] < 0]
        names = np.zeros(len(left), dtype=np.int64)
        names[splits] = np.arange(self.splits, self.splits + len(splits))
        names[leaves] = ~np.arange(self.leaves, self.leaves + len(leaves))
        self.splits += len(splits)
        self.leaves += len(leaves)
        if self.splits + self.leaves > MAX_NODES:
            raise UnsupportedOperation(f"the trees have more than {MAX_NODES} nodes; use fewer or smaller ones")
        if self.leaves * tree.value.shape[1] > MAX_VALUES:
            raise UnsupportedOperation(f"the trees' leaves hold more than {MAX_VALUES} numbers; use fewer trees")
        self.root.append(int(names[first]))
        self.feature.append(np.asarray(tree.feature, dtype=np.int64)[splits])
        self.threshold.append(_finite(threshold[splits].astype(np.float64)))
        self.left.append(names[left[splits]])
        self.right.append(names[right[splits]])
        self.value.append(np.asarray(tree.value[leaves], dtype=np.float64))
        self.missing.append(None if tree.missing is None else tree.missing[splits])

    def merge(self, other: Forest, weight: float, features: Integers | None = None) -> None:
        """Add ``weight`` times another's output; its feature ``i`` is ``features[i]`` here."""

        def moved(names: Integers) -> Integers:
            return np.where(names < 0, names - self.leaves, names + self.splits)

        self.bias = np.asarray(self.bias, dtype=np.float64) + weight * np.asarray(other.bias, dtype=np.float64)
        self.root += moved(np.array(other.root, dtype=np.int64)).tolist()
        self.feature += [each if features is None else features[each] for each in other.feature]
        self.threshold += other.threshold
        self.left += [moved(each) for each in other.left]
        self.right += [moved(each) for each in other.right]
        self.value += [weight * each for each in other.value]
        self.missing += other.missing
        self.splits += other.splits
        self.leaves += other.leaves

    def place(self, builder: GraphBuilder, name: str, x: Edge, places: Integers | None = None) -> Edge:
        """The node, at the end of the builder's graph; feature ``i`` is element ``places[i]`` of x. Only once."""
        if not self.root:
            raise ModelUnreadable("the model has no trees")
        x = builder.reshape(f"{name}/flatten", x, (x.elements,))
        missing, feature, value = self._directions(), _joined(self.feature), _joined(self.value)
        return builder.append(
            TreeEnsemble(
                name=name,
                inputs=(x.name,),
                output=builder.edge(name, value.shape[1:]),
                root=np.array(self.root, dtype=np.int64),
                missing=missing,
                feature=feature if places is None else places[feature],
                threshold=_joined(self.threshold),
                left=_joined(self.left),
                right=_joined(self.right),
                value=value,
                bias=np.broadcast_to(np.asarray(self.bias, dtype=np.float64), value.shape[1:]).copy(),
            )
        )

    def _directions(self) -> Flags | None:
        if all(each is None for each in self.missing):
            return None
        pairs = zip(self.missing, self.feature, strict=True)
        return _joined([np.zeros(len(splits), dtype=bool) if m is None else m for m, splits in pairs])


def _joined(parts: list[Any]) -> NDArray[Any]:
    """The parts in one, and nothing left of them: an ensemble may be large."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def _finite(threshold: Real) -> Real:
    """A split that only missing values see keeps a threshold that no number passes."""
    return np.clip(threshold, -np.finfo(np.float32).max, np.finfo(np.float32).max)


def _shortened(
    left: Integers, right: Integers, threshold: Real, missing: Flags | None
) -> tuple[int, Integers, Integers]:
    """The root and the children without splits at infinity, which send every number the same way."""
    count = len(left)
    inner = left >= 0
    for side in (left, right):
        wrong = inner & ((side < 0) | (side >= count))
        if np.any(wrong):
            raise ModelUnreadable(f"a tree leads to its node {side[wrong][0]}, it has {count}")
    goes_left = threshold > 0
    idle = inner & np.isinf(threshold)
    if missing is not None:
        idle &= missing == goes_left
    if not idle.any():
        return 0, left, right
    ends = np.where(idle, np.where(goes_left, left, right), np.arange(count))
    for _ in range(count.bit_length()):
        ends = ends[ends]
    if idle[ends].any():
        raise ModelUnreadable("a tree leads back to one of its nodes")
    return int(ends[0]), np.where(inner, ends[left], left), np.where(inner, ends[right], right)


def _breadth_first(root: int, left: Integers, right: Integers) -> Integers:
    """The nodes below the root, level by level."""
    if not len(left):
        raise ModelUnreadable("a tree has no nodes")
    level, levels = np.array([root]), []
    seen = np.zeros(len(left), dtype=np.int64)
    while level.size:
        np.add.at(seen, level, 1)
        if seen[level].max() > 1:
            raise ModelUnreadable(f"a tree leads to its node {level[seen[level] > 1][0]} twice")
        levels.append(level)
        if len(levels) > MAX_LEVELS:
            raise UnsupportedOperation(f"a tree has more than {MAX_LEVELS} levels; use shallower ones")
        inner = level[left[level] >= 0]
        level = np.stack([left[inner], right[inner]], axis=1).ravel()
    return np.concatenate(levels)
