"""The seam of the frontends, and the builder with which each one makes a float graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gatesmith.contract import HostOperation
from gatesmith.model.graph import Graph, Terminal
from gatesmith.model.nodes import Add, ArgMax, Clip, Concat, Dense, Edge, LookupTable, Node, ReLU, Reshape
from gatesmith.tensor import Datatype

__all__ = ["Frontend", "GraphBuilder"]

Real = NDArray[np.float64]


class Frontend(ABC):
    """Reads the models of one library."""

    name: str

    @abstractmethod
    def accepts(self, source: object) -> bool:
        """Whether this is a model of this library: an object, or a path whose content says so."""

    @abstractmethod
    def read(self, source: object, *, name: str, trust_pickle: bool) -> Graph:
        """A float graph of the model.

        Parameters
        ----------
        name : str
            Name of the graph.
        trust_pickle : bool
            Whether a file that runs code when it is read may be read.

        Raises
        ------
        ModelUnreadable
            When the file is damaged, or would run code and is not trusted.
        UnsupportedOperation
            When a part of the model has no exact translation; the message names it.
        """


@dataclass
class GraphBuilder:
    """Nodes as they come, with names made unique."""

    name: str
    inputs: list[Terminal] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    outputs: list[Terminal] = field(default_factory=list)

    def input(self, name: str, shape: tuple[int, ...], datatype: Datatype = Datatype.FP32) -> Edge:
        """A new input edge."""
        edge = Edge(name=name, shape=shape)
        self.inputs.append(Terminal(edge=edge, datatype=datatype))
        return edge

    def output(
        self,
        edge: Edge,
        name: str,
        *,
        datatype: Datatype = Datatype.FP32,
        host: tuple[HostOperation, ...] = (),
    ) -> None:
        """Give an edge out under this name."""
        taken = {e.name for e in self._edges()}
        if edge.name != name and name not in taken and self.nodes and self.nodes[-1].output is edge:
            edge = replace(edge, name=name)
            self.nodes[-1] = replace(self.nodes[-1], output=edge)
        elif edge.name != name or any(edge.name == t.edge.name for t in (*self.inputs, *self.outputs)):
            edge = self._append(
                Reshape(name=f"{name}/output", inputs=(edge.name,), output=Edge(name=name, shape=edge.shape))
            )
        self.outputs.append(Terminal(edge=edge, datatype=datatype, host=host))

    def dense(self, name: str, x: Edge, weight: Real, bias: Real | None = None) -> Edge:
        """``x @ weight + bias``; x is flattened when it is not flat."""
        weight = np.asarray(weight, dtype=np.float64)
        bias = np.zeros(weight.shape[1]) if bias is None else np.asarray(bias, dtype=np.float64)
        x = self.reshape(f"{name}/flatten", x, (x.elements,))
        return self._append(
            Dense(name=name, inputs=(x.name,), output=self._edge(name, (weight.shape[1],)), weight=weight, bias=bias)
        )

    def scale(self, name: str, x: Edge, scale: Real, offset: Real) -> Edge:
        """``x * scale + offset``, element by element; both broadcast to the shape of x."""
        scale = np.broadcast_to(np.asarray(scale, dtype=np.float64), x.shape).ravel()
        offset = np.broadcast_to(np.asarray(offset, dtype=np.float64), x.shape).ravel()
        return self.reshape(f"{name}/shape", self.dense(name, x, np.diag(scale), offset), x.shape)

    def relu(self, name: str, x: Edge) -> Edge:
        """``max(x, 0)``."""
        return self._append(ReLU(name=name, inputs=(x.name,), output=self._edge(name, x.shape)))

    def clip(self, name: str, x: Edge, low: float, high: float) -> Edge:
        """``min(max(x, low), high)``."""
        return self._append(Clip(name=name, inputs=(x.name,), output=self._edge(name, x.shape), low=low, high=high))

    def table(self, name: str, x: Edge, function: str) -> Edge:
        """A unary function by its name."""
        return self._append(
            LookupTable(name=name, inputs=(x.name,), output=self._edge(name, x.shape), function=function)
        )

    def add(self, name: str, a: Edge, b: Edge) -> Edge:
        """``a + b``."""
        return self._append(Add(name=name, inputs=(a.name, b.name), output=self._edge(name, a.shape)))

    def concat(self, name: str, edges: Sequence[Edge]) -> Edge:
        """Flat edges side by side."""
        shape = (sum(edge.elements for edge in edges),)
        return self._append(
            Concat(name=name, inputs=tuple(edge.name for edge in edges), output=self._edge(name, shape))
        )

    def reshape(self, name: str, x: Edge, shape: tuple[int, ...]) -> Edge:
        """The same numbers in another shape; nothing when it has it already."""
        if x.shape == shape:
            return x
        return self._append(Reshape(name=name, inputs=(x.name,), output=self._edge(name, shape)))

    def arg_max(self, name: str, x: Edge, shape: tuple[int, ...] = ()) -> Edge:
        """Index of the largest element."""
        return self._append(ArgMax(name=name, inputs=(x.name,), output=self._edge(name, shape)))

    def graph(self) -> Graph:
        """The finished float graph."""
        return Graph(name=self.name, inputs=tuple(self.inputs), nodes=tuple(self.nodes), outputs=tuple(self.outputs))

    def _edges(self) -> list[Edge]:
        return [terminal.edge for terminal in self.inputs] + [node.output for node in self.nodes]

    def _edge(self, name: str, shape: tuple[int, ...]) -> Edge:
        taken = {edge.name for edge in self._edges()}
        unique = (
            name
            if name not in taken
            else next(f"{name}/{i}" for i in range(len(taken) + 1) if f"{name}/{i}" not in taken)
        )
        return Edge(name=unique, shape=shape)

    def _append(self, node: Node) -> Edge:
        taken = {other.name for other in self.nodes}
        if node.name in taken:
            node = replace(
                node, name=next(f"{node.name}/{i}" for i in range(len(taken) + 1) if f"{node.name}/{i}" not in taken)
            )
        self.nodes.append(node)
        return node.output
