"""Decision trees as one node: comparisons with thresholds choose a leaf in each tree, and the leaves are added.

Boosting, averaging and voting are all sums: the votes of a forest are leaves that hold a one for their class. The trees
lie in flat arrays, as in the libraries' own files. A number names a split when it is not negative and the leaf ``~n``
when it is; a split comes after the one that leads to it, so an ensemble cannot hold a cycle.

A missing value is NaN in a float graph, and in an integer graph the highest integer of the input's format: beyond every
number, as in a sorted array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import ModelError
from gatesmith.fixed import FixedPoint
from gatesmith.model.node import Bounds, Node, Real, Shape, grid_bits

__all__ = ["Integers", "TreeEnsemble"]

Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TreeEnsemble(Node):
    """``y = bias + sum over trees of value[the leaf that x reaches]``.

    Parameters
    ----------
    root : ndarray of int64, shape (trees,)
        Where each tree begins: a split, or a leaf where the tree is nothing else.
    feature : ndarray of int64, shape (splits,)
        Element of the flat input that a split looks at.
    threshold : ndarray of float64, shape (splits,)
        Finite. A sample goes left where ``x <= threshold``.
    left, right : ndarray of int64, shape (splits,)
        A later split, or ``~leaf``. Every split and every leaf is named exactly once.
    value : ndarray of float64, shape (leaves, outputs)
    bias : ndarray of float64, shape (outputs,)
    missing : ndarray of bool, shape (splits,), optional
        Whether a missing value goes left at a split. None where the model knows no missing values.
    """

    kind: ClassVar[str] = "TreeEnsemble"
    root: Integers
    feature: Integers
    threshold: Real
    left: Integers
    right: Integers
    value: Real
    bias: Real
    missing: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        for label, values in (("threshold", self.threshold), ("value", self.value), ("bias", self.bias)):
            count = int(np.sum(~np.isfinite(values)))
            if count:
                raise ModelError(
                    f"node {self.name!r} ({self.kind}): {count} of {values.size} numbers of its {label} are not finite",
                    node=self.name,
                    not_finite=count,
                )
        splits = len(self.feature)
        if self.root.ndim != 1 or not len(self.root):
            raise self.refuse("has no tree")
        if any(each.shape != (splits,) for each in (self.feature, self.threshold, self.left, self.right)):
            raise self.refuse("its arrays of splits have different lengths")
        if self.missing is not None and (self.missing.shape != (splits,) or self.missing.dtype != np.bool_):
            raise self.refuse(f"missing of shape {list(self.missing.shape)} and dtype {self.missing.dtype}")
        if self.value.ndim != 2 or 0 in self.value.shape or self.bias.shape != self.value.shape[1:]:
            raise self.refuse(f"values of shape {list(self.value.shape)} and bias of {list(self.bias.shape)}")
        self._check_order(splits)

    def _check_order(self, splits: int) -> None:
        # one side after the other: the arrays may be as large as the model's file
        total = splits + len(self.value)
        named = np.zeros(total, dtype=np.bool_)
        whole = len(self.root) + 2 * splits == total
        for side in (self.root, self.left, self.right):
            places = _places(side, splits)
            whole = whole and bool(np.all((places >= 0) & (places < total)))
            named[places if whole else []] = True
        if not (whole and named.all()):
            raise self.refuse(f"its {splits} splits and {len(self.value)} leaves are not each named exactly once")
        if any(np.any((side >= 0) & (side <= np.arange(splits))) for side in (self.left, self.right)):
            raise self.refuse("a split leads back to an earlier one")
        if splits and self.feature.min() < 0:
            raise self.refuse(f"a split looks at element {self.feature.min()}")

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        if len(inputs[0]) != 1:
            raise self.refuse(f"input has the shape {list(inputs[0])}, a flat one is needed")
        if len(self.feature) and self.feature.max() >= inputs[0][0]:
            raise self.refuse(f"a split looks at element {self.feature.max()}, the input has {inputs[0][0]}")
        return (self.value.shape[1],)

    def leaves(self, x: Real, format: FixedPoint | None = None) -> Integers:
        """The leaf that each sample reaches in each tree.

        Parameters
        ----------
        x : ndarray of float64, shape (batch, features)
        format : FixedPoint, optional
            The input's, in an integer graph.

        Returns
        -------
        ndarray of int64, shape (batch, trees)
        """
        splits, leaves = len(self.feature), len(self.value)
        ends = np.arange(splits, splits + leaves)  # a leaf is a split that leads to itself
        feature = np.concatenate([self.feature, np.zeros(leaves, dtype=np.int64)])
        threshold = np.concatenate([self.threshold, np.zeros(leaves)])
        left, right = (np.concatenate([_places(side, splits), ends]) for side in (self.left, self.right))
        place = np.repeat(_places(self.root, splits)[None], len(x), axis=0)
        rows = np.arange(len(x))[:, None]
        absent, missing = self._absent(x, format), None
        if self.missing is not None and absent.any():
            missing = np.concatenate([self.missing, np.zeros(leaves, dtype=bool)])
        while place.size and place.min() < splits:
            at = feature[place]
            goes_left = x[rows, at] <= threshold[place]
            if missing is not None:
                goes_left = np.where(absent[rows, at], missing[place], goes_left)
            place = np.where(goes_left, left[place], right[place])
        return place - splits

    @staticmethod
    def _absent(x: Real, format: FixedPoint | None) -> NDArray[np.bool_]:
        return np.isnan(x) if format is None else x == format.dequantize(format.max_integer)

    def evaluate(self, inputs: Sequence[Real], formats: Sequence[FixedPoint | None]) -> Real:
        total = np.repeat(self.bias[None], len(inputs[0]), axis=0)
        for leaf in self.leaves(inputs[0], formats[0]).T:
            total += self.value[leaf]
        return total

    def bounds(self, inputs: Sequence[Bounds]) -> Bounds:
        del inputs
        low, high = self._ends(np.minimum, self.value), self._ends(np.maximum, self.value)
        return self.bias + low.sum(axis=0), self.bias + high.sum(axis=0)

    def fraction_bits(self, formats: Sequence[FixedPoint]) -> int:
        del formats
        return max(grid_bits(self.value), grid_bits(self.bias))

    def magnitude(self, inputs: Sequence[Bounds]) -> float:
        del inputs
        return float(np.max(np.abs(self.bias) + self._ends(np.maximum, np.abs(self.value)).sum(axis=0)))

    def _ends(self, extreme: np.ufunc, value: Real) -> Real:
        """The extreme leaf of each tree; shape (trees, outputs)."""
        trees = self.trees
        order = np.argsort(trees, kind="stable")
        starts = np.searchsorted(trees[order], np.arange(len(self.root)))
        return np.asarray(extreme.reduceat(value[order], starts, axis=0))

    @property
    def trees(self) -> Integers:
        """The tree of each leaf; shape (leaves,)."""
        splits = len(self.feature)
        tree = np.zeros(splits + len(self.value), dtype=np.int64)
        tree[_places(self.root, splits)] = np.arange(len(self.root))
        for split, sides in enumerate(zip(_places(self.left, splits), _places(self.right, splits), strict=True)):
            for side in sides:
                tree[side] = tree[split]
        return tree[splits:]


def _places(named: Integers, splits: int) -> Integers:
    """Splits first, leaves after them."""
    return np.where(named < 0, splits + ~named, named)
