"""The seam of the frontends, and the builder with which each one makes a float graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gatesmith.contract import HostOperation
from gatesmith.errors import UnsupportedOperation
from gatesmith.fixed import FixedPoint, Overflow, Rounding
from gatesmith.model.graph import Graph, Terminal
from gatesmith.model.node import leading_to
from gatesmith.model.nodes import (
    Add,
    ArgMax,
    Clip,
    Concat,
    Dense,
    Edge,
    Gather,
    LookupTable,
    Max,
    Node,
    Quantize,
    ReLU,
    Reshape,
    Scale,
)
from gatesmith.tensor import Datatype

__all__ = ["SPLIT", "Frontend", "GraphBuilder"]

Real = NDArray[np.float64]

SPLIT = "give out what is before it, build that, and compute the rest on the host"
"""What to do about an operation that has no translation."""

MAX_GATHERED = 1 << 24
"""Elements that :meth:`GraphBuilder.gather` makes of a sample at most: 128 MiB of places."""


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
    """Nodes as they come, with names made unique; ``reserved`` are names of outputs, which no inner edge takes."""

    name: str
    reserved: frozenset[str] = frozenset()
    inputs: list[Terminal] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    outputs: list[Terminal] = field(default_factory=list)
    renamed: dict[str, Edge] = field(default_factory=dict)

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
        labels: Sequence[object] = (),
    ) -> None:
        """Give an edge out under this name, after the last node: the edge takes the name.

        An edge that has a client's name already, as an input or another output, is copied.
        """
        edge = self.renamed.get(edge.name, edge)
        taken = {terminal.edge.name for terminal in (*self.inputs, *self.outputs)}
        if edge.name in taken and edge.name != name:
            edge = self.append(
                Reshape(name=f"{name}/output", inputs=(edge.name,), output=Edge(name=name, shape=edge.shape))
            )
        elif edge.name != name:
            edge = self._rename(edge, name)
        self.outputs.append(Terminal(edge=edge, datatype=datatype, host=host, labels=tuple(map(str, labels))))

    def _rename(self, edge: Edge, name: str) -> Edge:
        renamed = self.renamed[edge.name] = replace(edge, name=name)
        for i, node in enumerate(self.nodes):
            inputs = tuple(name if given == edge.name else given for given in node.inputs)
            self.nodes[i] = replace(
                node, inputs=inputs, output=renamed if node.output.name == edge.name else node.output
            )
        return renamed

    def dense(self, name: str, x: Edge, weight: Real, bias: Real | None = None) -> Edge:
        """``x @ weight + bias`` on the last axis, with a matrix for each group where weight has three axes.

        x is flattened when its last axis does not fit and all its elements do.
        """
        weight = np.ascontiguousarray(weight, dtype=np.float64)
        shape = (*weight.shape[:-2], weight.shape[-1])
        bias = np.zeros(shape) if bias is None else np.asarray(bias, dtype=np.float64)
        if x.shape[-1:] != weight.shape[-2:-1] and x.elements == weight.shape[-2]:
            x = self.reshape(f"{name}/flatten", x, (x.elements,))
        output = self.edge(name, (*x.shape[:-1], weight.shape[-1]))
        return self.append(Dense(name=name, inputs=(x.name,), output=output, weight=weight, bias=bias))

    def scale(self, name: str, x: Edge, scale: Real, offset: Real) -> Edge:
        """``x * scale + offset``, element by element; both broadcast to the shape of x."""
        weight, bias = (np.asarray(values, dtype=np.float64) for values in (scale, offset))
        return self.append(
            Scale(name=name, inputs=(x.name,), output=self.edge(name, x.shape), weight=weight, bias=bias)
        )

    def quantize(
        self,
        name: str,
        x: Edge,
        format: FixedPoint,
        *,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow = Overflow.SATURATE,
    ) -> Edge:
        """The rounding to a format that the model was trained with."""
        output = self.edge(name, x.shape)
        return self.append(
            Quantize(name=name, inputs=(x.name,), output=output, format=format, rounding=rounding, overflow=overflow)
        )

    def gather(self, name: str, x: Edge, index: NDArray[np.int64], fill: float = 0.0) -> Edge:
        """Elements of x by their row-major places, in the shape of ``index``; -1 is ``fill``."""
        if index.size > MAX_GATHERED:
            raise UnsupportedOperation(
                f"node {name!r} makes {index.size} numbers of {x.elements}, {MAX_GATHERED} are possible", node=name
            )
        output = self.edge(name, index.shape)
        return self.append(Gather(name=name, inputs=(x.name,), output=output, index=index.astype(np.int64), fill=fill))

    def transpose(self, name: str, x: Edge, axes: Sequence[int]) -> Edge:
        """The axes of a sample in another order; the batch is none of them."""
        if tuple(axes) == tuple(range(len(x.shape))):
            return x
        return self.gather(name, x, np.arange(x.elements).reshape(x.shape).transpose(axes))

    def max(self, name: str, x: Edge) -> Edge:
        """The largest along the last axis."""
        return self.append(Max(name=name, inputs=(x.name,), output=self.edge(name, x.shape[:-1])))

    def relu(self, name: str, x: Edge) -> Edge:
        """``max(x, 0)``."""
        return self.append(ReLU(name=name, inputs=(x.name,), output=self.edge(name, x.shape)))

    def clip(self, name: str, x: Edge, low: float, high: float) -> Edge:
        """``min(max(x, low), high)``."""
        return self.append(Clip(name=name, inputs=(x.name,), output=self.edge(name, x.shape), low=low, high=high))

    def table(self, name: str, x: Edge, function: str) -> Edge:
        """A unary function by its name."""
        return self.append(LookupTable(name=name, inputs=(x.name,), output=self.edge(name, x.shape), function=function))

    def add(self, name: str, a: Edge, b: Edge) -> Edge:
        """``a + b``."""
        return self.append(Add(name=name, inputs=(a.name, b.name), output=self.edge(name, a.shape)))

    def concat(self, name: str, edges: Sequence[Edge]) -> Edge:
        """Flat edges side by side."""
        shape = (sum(edge.elements for edge in edges),)
        return self.append(Concat(name=name, inputs=tuple(edge.name for edge in edges), output=self.edge(name, shape)))

    def reshape(self, name: str, x: Edge, shape: tuple[int, ...]) -> Edge:
        """The same numbers in another shape; nothing when it has it already."""
        if x.shape == shape:
            return x
        return self.append(Reshape(name=name, inputs=(x.name,), output=self.edge(name, shape)))

    def arg_max(self, name: str, x: Edge, shape: tuple[int, ...] = ()) -> Edge:
        """Index of the largest element."""
        return self.append(ArgMax(name=name, inputs=(x.name,), output=self.edge(name, shape)))

    def drop_unread(self) -> None:
        """Remove the nodes on which no output depends."""
        self.nodes = list(leading_to(self.nodes, (terminal.edge.name for terminal in self.outputs)))

    def graph(self) -> Graph:
        """The finished float graph."""
        return Graph(name=self.name, inputs=tuple(self.inputs), nodes=tuple(self.nodes), outputs=tuple(self.outputs))

    def edge(self, name: str, shape: tuple[int, ...]) -> Edge:
        """A new edge for a node's output; its name is made unique."""
        edges = [terminal.edge for terminal in self.inputs] + [node.output for node in self.nodes]
        return Edge(name=_fresh(name, {edge.name for edge in edges} | self.reserved), shape=shape)

    def append(self, node: Node) -> Edge:
        """A node that has no method of its own here; its name is made unique."""
        name = _fresh(node.name, {other.name for other in self.nodes})
        self.nodes.append(node if node.name == name else replace(node, name=name))
        return node.output


def _fresh(name: str, taken: Set[str]) -> str:
    """The name, or the first of name/0, name/1, ... that is not taken."""
    if name not in taken:
        return name
    return next(f"{name}/{i}" for i in range(len(taken) + 1) if f"{name}/{i}" not in taken)
