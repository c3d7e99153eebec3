"""Changing a float graph node by node: who reads what, and a graph with some nodes replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.model.graph import Graph, Terminal
from gatesmith.model.node import Node, Real
from gatesmith.model.nodes import Dense, Quantize, grid_bits

__all__ = ["Rewriter", "holds_grid", "host_scale"]

GRID_BITS = 10
"""Weights of at most this width are whole numbers of a step that the model was trained with."""


def holds_grid(values: Real, bits: int = GRID_BITS) -> bool:
    """Whether the values are multiples of one power of two, with integers of at most so many bits."""
    largest = np.max(np.abs(values), initial=0.0)
    return bool(largest == 0 or np.log2(largest) + grid_bits(values) < bits - 1)


def host_scale(weight: Real, bias: Real) -> HostOperation:
    """The host's ``x * weight + bias``."""
    return HostOperation(
        kind=HostOperationKind.SCALE, scale=tuple(weight.ravel().tolist()), offset=tuple(bias.ravel().tolist())
    )


@dataclass
class Rewriter:
    """A graph, with what its nodes have to know of each other."""

    graph: Graph
    writers: dict[str, Node] = field(init=False)
    readers: dict[str, list[Node]] = field(init=False)
    outputs: set[str] = field(init=False)
    trained: bool = field(init=False)  # with rounding, so weights on a grid are to stay there

    def __post_init__(self) -> None:
        self.writers = {node.output.name: node for node in self.graph.nodes}
        self.readers = {name: [] for name in self.graph.edges}
        for node in self.graph.nodes:
            for name in node.inputs:
                self.readers[name].append(node)
        self.outputs = {terminal.edge.name for terminal in self.graph.outputs}
        self.trained = any(isinstance(node, Quantize) for node in self.graph.nodes)

    def is_inner(self, edge: str) -> bool:
        """Whether one node alone reads the edge."""
        return len(self.readers[edge]) == 1 and edge not in self.outputs

    def keeps(self, dense: Dense) -> bool:
        """Whether the weights are to stay as they are."""
        return self.trained and holds_grid(dense.weight)

    def input(self, edge: str) -> Terminal | None:
        """The input terminal of that edge."""
        return next((terminal for terminal in self.graph.inputs if terminal.edge.name == edge), None)

    def rebuilt(
        self,
        changes: Mapping[str, Sequence[Node]],
        *,
        inputs: tuple[Terminal, ...] | None = None,
        outputs: tuple[Terminal, ...] | None = None,
    ) -> Graph:
        """The graph with nodes replaced, by name, by none or several each."""
        nodes = [new for node in self.graph.nodes for new in changes.get(node.name, (node,))]
        return replace(
            self.graph, nodes=tuple(nodes), inputs=inputs or self.graph.inputs, outputs=outputs or self.graph.outputs
        )
