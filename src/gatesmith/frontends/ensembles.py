"""Trees as the libraries keep them, gathered into one node of a float graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gatesmith.errors import ModelUnreadable, UnsupportedOperation
from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.model.ensemble import TreeEnsemble
from gatesmith.model.nodes import Edge

__all__ = ["Forest", "Tree"]

Real = NDArray[np.float64]

MAX_NODES = 4_000_000
"""Splits and leaves of all trees together."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """One tree, its nodes numbered from the root 0 in any order; ``left`` is negative at a leaf.

    ``value`` has the shape (nodes, outputs) and is read at leaves only. A sample goes left where ``x <= threshold``.
    """

    feature: Sequence[int] | NDArray[np.int64]
    threshold: Sequence[float] | Real
    left: Sequence[int] | NDArray[np.int64]
    right: Sequence[int] | NDArray[np.int64]
    value: Real


@dataclass
class Forest:
    """Trees as they come; their leaves are added to ``bias``."""

    bias: ArrayLike
    root: list[int] = field(default_factory=list)
    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    value: list[Real] = field(default_factory=list)

    def add(self, tree: Tree) -> None:
        """Number the tree's splits and leaves after those that are here; each split before what it leads to.

        Raises
        ------
        ModelUnreadable
            When its nodes are no tree.
        """
        count = len(tree.left)
        seen = np.zeros(count, dtype=bool)
        todo: list[tuple[int, list[int], int]] = [(0, self.root, len(self.root))]
        self.root.append(0)
        while todo:
            node, names, place = todo.pop()
            # a threshold at infinity sends every number the same way
            while 0 <= node < count and tree.left[node] >= 0 and np.isinf(tree.threshold[node]):
                self._see(seen, node)
                node = int((tree.left if tree.threshold[node] > 0 else tree.right)[node])
            if not 0 <= node < count:
                raise ModelUnreadable(f"a tree leads to its node {node}, it has {count}")
            self._see(seen, node)
            if tree.left[node] < 0:
                names[place] = ~len(self.value)
                self.value.append(tree.value[node])
                continue
            names[place] = split = len(self.feature)
            self.feature.append(int(tree.feature[node]))
            self.threshold.append(float(tree.threshold[node]))
            for side, children in ((self.left, tree.left), (self.right, tree.right)):
                side.append(0)
                todo.append((int(children[node]), side, split))
        if len(self.feature) + len(self.value) > MAX_NODES:
            raise UnsupportedOperation(f"the trees have more than {MAX_NODES} nodes; use fewer or smaller ones")

    @staticmethod
    def _see(seen: NDArray[np.bool_], node: int) -> None:
        if seen[node]:
            raise ModelUnreadable(f"a tree leads to its node {node} twice")
        seen[node] = True

    def place(self, builder: GraphBuilder, name: str, x: Edge) -> Edge:
        """The node, at the end of the builder's graph."""
        x = builder.reshape(f"{name}/flatten", x, (x.elements,))
        value = np.array(self.value, dtype=np.float64)
        return builder.append(
            TreeEnsemble(
                name=name,
                inputs=(x.name,),
                output=builder.edge(name, value.shape[1:]),
                root=np.array(self.root, dtype=np.int64),
                feature=np.array(self.feature, dtype=np.int64),
                threshold=np.array(self.threshold, dtype=np.float64),
                left=np.array(self.left, dtype=np.int64),
                right=np.array(self.right, dtype=np.int64),
                value=value,
                bias=np.broadcast_to(np.asarray(self.bias, dtype=np.float64), value.shape[1:]).copy(),
            )
        )
