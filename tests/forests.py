"""Random tree ensembles as integer graphs, with every shape that a tree can have."""

from __future__ import annotations

import numpy as np

from gatesmith.fixed import FixedPoint
from gatesmith.model.ensemble import TreeEnsemble
from gatesmith.model.graph import Graph, Terminal
from gatesmith.model.nodes import ArgMax, Edge, Node

__all__ = ["ensemble", "forest_graph"]


def ensemble(
    generator: np.random.Generator,
    *,
    trees: int,
    depth: int,
    features: int,
    outputs: int,
    input: FixedPoint,
    missing: bool = False,
    votes: bool = False,
) -> TreeEnsemble:
    """Trees that end early now and then; leaves are quarters, thresholds lie on and off the input's grid.

    With votes a leaf is one for a single output.
    """
    feature: list[int] = []
    threshold: list[float] = []
    sides: tuple[list[int], list[int]] = ([], [])
    value: list[np.ndarray] = []

    def grown(left: int) -> int:
        if left == 0 or generator.random() < 0.1:
            vote = np.eye(outputs)[generator.integers(outputs)]
            value.append(vote if votes else generator.integers(-9, 10, size=outputs) / 4)
            return ~(len(value) - 1)
        here = len(feature)
        feature.append(int(generator.integers(features)))
        low, high = input.min_integer - 1, input.max_integer + 2
        threshold.append(float(generator.integers(2 * low, 2 * high)) / 2 * input.step)
        for side in sides:
            side.append(0)
        for side in sides:
            side[here] = grown(left - 1)
        return here

    root = [grown(depth) for _ in range(trees)]
    return TreeEnsemble(
        name="trees",
        inputs=("x",),
        output=Edge(name="scores", shape=(outputs,), format=FixedPoint(True, 11, 2)),
        root=np.array(root),
        feature=np.array(feature, dtype=np.int64),
        threshold=np.array(threshold),
        left=np.array(sides[0], dtype=np.int64),
        right=np.array(sides[1], dtype=np.int64),
        value=np.array(value),
        bias=generator.integers(-99, 100, size=outputs) / 4,
        missing=generator.random(len(feature)) < 0.5 if missing else None,
    )


def forest_graph(
    seed: int = 0,
    *,
    trees: int = 6,
    depth: int = 3,
    features: int = 3,
    outputs: int = 3,
    input: FixedPoint | None = None,
    arg_max: bool = True,
    missing: bool = False,
    votes: bool = False,
) -> Graph:
    """An integer graph of one random ensemble, its scores and the index of the largest."""
    format = input or FixedPoint(True, 2, 3)
    generator = np.random.default_rng(seed)
    node = ensemble(
        generator,
        trees=trees,
        depth=depth,
        features=features,
        outputs=outputs,
        input=format,
        missing=missing,
        votes=votes,
    )
    nodes: list[Node] = [node]
    edges = [node.output]
    if arg_max:
        edges.append(Edge(name="class", shape=(), format=FixedPoint(False, 4, 0)))
        nodes.append(ArgMax(name="argmax", inputs=("scores",), output=edges[-1]))
    return Graph(
        name="forest",
        inputs=(Terminal(edge=Edge(name="x", shape=(features,), format=format)),),
        nodes=tuple(nodes),
        outputs=tuple(Terminal(edge=edge) for edge in edges),
    )
