"""A model between the framework and the gateware: nodes joined by named edges, checked when it is made.

A *float graph* (no edge has a format) is what a frontend returns. An *integer graph* (every edge has one) is what the
quantiser returns; making one proves that no value, and no partial sum in any order, can leave its format or need more
than 52 bits, so neither the reference nor the gateware can overflow silently.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gatesmith.contract import Contract, HostOperation, HostOperationKind, Port, check_labels
from gatesmith.errors import AccuracyLost, ModelError, ModelUnreadable
from gatesmith.fixed import MAX_WIDTH, FixedPoint, Overflow, Rounding
from gatesmith.model import nodes as node_kinds
from gatesmith.model.ensemble import TreeEnsemble
from gatesmith.model.node import Bounds, Edge, Node, parameters
from gatesmith.tensor import Datatype, TensorSpec

__all__ = ["MAX_SCALE_BITS", "Graph", "Terminal"]

MAX_SCALE_BITS = 256
"""Most integer or fraction bits of a format in a graph: powers of two in between stay far inside float64."""

KINDS: dict[str, type[Node]] = {
    kind.kind: kind
    for kind in (
        node_kinds.Dense,
        node_kinds.Scale,
        node_kinds.Add,
        node_kinds.ReLU,
        node_kinds.Clip,
        node_kinds.LookupTable,
        node_kinds.Concat,
        node_kinds.Reshape,
        node_kinds.Gather,
        node_kinds.Max,
        node_kinds.Quantize,
        node_kinds.Requantize,
        node_kinds.ArgMax,
        TreeEnsemble,
    )
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Terminal:
    """Where the graph meets the world: an edge, the datatype a client sees, the host's work, and classes' names."""

    edge: Edge
    datatype: Datatype = Datatype.FP32
    host: tuple[HostOperation, ...] = ()
    labels: tuple[str, ...] = ()

    def check_host(self) -> None:
        """Refuse an operation of the host, or labels, that do not fit the edge."""
        edge = self.edge
        check_labels(edge.name, self.labels, math.prod(self.spec.shape[1:]))
        for operation in self.host:
            if operation.kind is HostOperationKind.SCALE and len(operation.scale) != edge.elements:
                raise ModelError(
                    f"the host's scale of edge {edge.name!r} has {len(operation.scale)} factors, the edge has "
                    f"{edge.elements} elements"
                )
            if not np.isfinite([*operation.scale, *operation.offset]).all():
                raise ModelError(f"the host's scale of edge {edge.name!r} holds a number that is not finite")
            if operation.kind is HostOperationKind.SOFTMAX and not edge.shape:
                raise ModelError(f"the host's softmax needs an axis, edge {edge.name!r} has none")
            if operation.leaves_one and edge.shape != (len(operation.weights),):
                raise ModelError(
                    f"the host's {operation.kind} of edge {edge.name!r} has {len(operation.weights)} weights, the edge "
                    f"has the shape {list(edge.shape)}"
                )

    @property
    def spec(self) -> TensorSpec:
        """The tensor as a client sees it."""
        shape = (1,) if any(operation.leaves_one for operation in self.host) else self.edge.shape
        return TensorSpec(name=self.edge.name, datatype=self.datatype, shape=(-1, *shape))

    def port(self) -> Port:
        """The same, for the contract of a firmware."""
        return Port(spec=self.spec, format=self.edge.fixed, host=self.host, labels=self.labels)


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """Nodes in an order in which every edge is written before it is read.

    Parameters
    ----------
    name : str
    inputs : tuple of Terminal
        Edges that no node writes.
    nodes : tuple of Node
    outputs : tuple of Terminal
        Edges that the graph gives out.

    Raises
    ------
    ModelError
        When edges, shapes or formats do not go together; the message names the node.
    AccuracyLost
        When a value may leave its format, or a sum may need more than 52 bits.
    """

    name: str
    inputs: tuple[Terminal, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Terminal, ...]

    def __post_init__(self) -> None:
        if not self.inputs or not self.outputs:
            raise ModelError(f"graph {self.name!r} has {len(self.inputs)} inputs and {len(self.outputs)} outputs")
        self._check_edges()
        formats = [edge.format for edge in self.edges.values()]
        if any(formats) and not all(formats):
            bare = next(edge.name for edge in self.edges.values() if edge.format is None)
            raise ModelError(f"graph {self.name!r}: edge {bare!r} has no format and others have", edge=bare)
        if self.is_integer:
            self._check_scales()
            self.bounds()

    def _check_edges(self) -> None:
        shapes = {terminal.edge.name: terminal.edge.shape for terminal in self.inputs}
        if len(shapes) < len(self.inputs):
            raise ModelError(f"graph {self.name!r} has an input twice: {[t.edge.name for t in self.inputs]}")
        names: set[str] = set()
        for node in self.nodes:
            if not node.inputs or node.arity not in {None, len(node.inputs)}:
                raise node.refuse(f"reads {len(node.inputs)} edges, {node.arity or '1 or more'} are needed")
            missing = [name for name in node.inputs if name not in shapes]
            if missing:
                raise ModelError(f"node {node.name!r} reads edge {missing[0]!r}, which nothing before it writes")
            if node.name in names or node.output.name in shapes:
                raise ModelError(f"node {node.name!r} or its edge {node.output.name!r} exists twice")
            shape = node.shape([shapes[name] for name in node.inputs])
            if shape != node.output.shape:
                raise node.refuse(f"gives the shape {list(shape)}, its edge has {list(node.output.shape)}")
            names.add(node.name)
            shapes[node.output.name] = shape
        self._check_terminals()

    def _check_terminals(self) -> None:
        edges = self.edges
        for terminal in self.outputs:
            name = terminal.edge.name
            if name not in edges:
                raise ModelError(f"graph {self.name!r} gives out edge {name!r}, which nothing writes")
            if terminal.edge != edges[name]:
                raise ModelError(f"graph {self.name!r} gives out edge {terminal.edge}, written is {edges[name]}")
        if len({terminal.edge.name for terminal in self.outputs}) < len(self.outputs):
            raise ModelError(f"graph {self.name!r} has an output twice: {[t.edge.name for t in self.outputs]}")
        for terminal in (*self.inputs, *self.outputs):
            terminal.check_host()
        for terminal in self.inputs:
            if any(operation.leaves_one for operation in terminal.host):
                raise ModelError(f"input {terminal.edge.name!r} has an operation of the host that is for outputs")

    def _check_scales(self) -> None:
        for edge in self.edges.values():
            if max(abs(edge.fixed.fraction_bits), abs(edge.fixed.integer_bits)) > MAX_SCALE_BITS:
                raise AccuracyLost(
                    f"edge {edge.name!r} has the format {edge.format}, {MAX_SCALE_BITS} bits before or after the point "
                    f"are possible",
                    edge=edge.name,
                )

    @property
    def edges(self) -> dict[str, Edge]:
        """Every edge by name, inputs first."""
        inputs = {terminal.edge.name: terminal.edge for terminal in self.inputs}
        return inputs | {node.output.name: node.output for node in self.nodes}

    @property
    def is_integer(self) -> bool:
        """Whether every edge has a format."""
        return self.inputs[0].edge.format is not None

    def bounds(self) -> dict[str, Bounds]:
        """Interval of every element of every edge; each one proved to fit its format.

        Raises
        ------
        AccuracyLost
            When one does not; the message names the node with the bits that are needed.
        """
        found: dict[str, Bounds] = {}
        for terminal in self.inputs:
            format = terminal.edge.fixed
            found[terminal.edge.name] = (
                np.full(terminal.edge.shape, float(format.dequantize(format.min_integer))),
                np.full(terminal.edge.shape, float(format.dequantize(format.max_integer))),
            )
        for node in self.nodes:
            given = [found[name] for name in node.inputs]
            found[node.output.name] = self._proved(node, given)
        return found

    def _proved(self, node: Node, given: list[Bounds]) -> Bounds:
        edges = self.edges
        formats = [edges[name].fixed for name in node.inputs]
        target = node.output.fixed
        fraction_bits = node.fraction_bits(formats)
        if fraction_bits > target.fraction_bits:
            raise AccuracyLost(
                f"node {node.name!r} ({node.kind}) needs {fraction_bits} fraction bits, its edge has "
                f"{target.fraction_bits}; requantise after it",
                node=node.name,
            )
        with np.errstate(over="ignore", invalid="ignore"):
            magnitude = node.magnitude(given)
        # a sum of signed terms: one bit for the sign, one for the carry
        magnitude_bits = (math.frexp(magnitude)[1] if math.isfinite(magnitude) else 1024) + fraction_bits + 2
        if magnitude > 0 and magnitude_bits > MAX_WIDTH:
            raise AccuracyLost(
                f"node {node.name!r} ({node.kind}) needs an accumulator of {magnitude_bits} bits, {MAX_WIDTH} are "
                f"possible; use fewer bits for its weights or its input",
                node=node.name,
                width_bits=magnitude_bits,
            )
        low, high = node.bounds(given)
        ends = target.dequantize([target.min_integer, target.max_integer])
        if low.min() < ends[0] or high.max() > ends[1]:
            raise AccuracyLost(
                f"node {node.name!r} ({node.kind}) gives values from {low.min():g} to {high.max():g}, its format "
                f"{target} holds {ends[0]:g} to {ends[1]:g}; requantise after it",
                node=node.name,
            )
        return low, high

    def contract(self) -> Contract:
        """The contract that a firmware of this integer graph keeps."""
        return Contract(
            inputs=tuple(terminal.port() for terminal in self.inputs),
            outputs=tuple(terminal.port() for terminal in self.outputs),
        )

    @property
    def digest(self) -> str:
        """``sha256:`` of the canonical JSON; equal graphs have equal digests."""
        return "sha256:" + hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, floats as Python prints them (exact)."""
        data = {
            "name": self.name,
            "inputs": [_terminal_to_json(t) for t in self.inputs],
            "nodes": [_node_to_json(n) for n in self.nodes],
            "outputs": [_terminal_to_json(t) for t in self.outputs],
        }
        return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Graph:
        """Read back what :meth:`to_bytes` wrote.

        Raises
        ------
        ModelUnreadable
            When it is not such JSON.
        """
        try:
            parsed = json.loads(data)
            return cls(
                name=parsed["name"],
                inputs=tuple(_terminal_from_json(t) for t in parsed["inputs"]),
                nodes=tuple(_node_from_json(n) for n in parsed["nodes"]),
                outputs=tuple(_terminal_from_json(t) for t in parsed["outputs"]),
            )
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise ModelUnreadable(f"not a gatesmith graph: {type(error).__name__} {error}") from error

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)


def _edge_to_json(edge: Edge) -> dict[str, Any]:
    return {
        "name": edge.name,
        "shape": list(edge.shape),
        "format": None if edge.format is None else edge.format.to_json(),
    }


def _edge_from_json(data: dict[str, Any]) -> Edge:
    format = data["format"]
    return Edge(
        name=data["name"],
        shape=tuple(data["shape"]),
        format=None if format is None else FixedPoint.from_json(format),
    )


def _terminal_to_json(terminal: Terminal) -> dict[str, Any]:
    return {
        "edge": _edge_to_json(terminal.edge),
        "datatype": terminal.datatype.value,
        "host": [operation.to_json() for operation in terminal.host],
        **({"labels": list(terminal.labels)} if terminal.labels else {}),
    }


def _terminal_from_json(data: dict[str, Any]) -> Terminal:
    return Terminal(
        edge=_edge_from_json(data["edge"]),
        datatype=Datatype(data["datatype"]),
        host=tuple(HostOperation.from_json(operation) for operation in data["host"]),
        labels=tuple(str(label) for label in data.get("labels", ())),
    )


def _node_to_json(node: Node) -> dict[str, Any]:
    given = {key: value for key, value in parameters(node).items() if not _is_unsaid(key, value)}
    values = {key: _WRITERS.get(key, lambda v: v)(value) for key, value in given.items()}
    return {
        "kind": node.kind,
        "name": node.name,
        "inputs": list(node.inputs),
        "output": _edge_to_json(node.output),
        "parameters": values,
    }


def _is_unsaid(key: str, value: Any) -> bool:
    return key in _UNSAID and (value is None if _UNSAID[key] is None else value == _UNSAID[key])


_WRITERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("weight", "bias", "threshold", "value"), lambda v: v.tolist()),
    **dict.fromkeys(("root", "feature", "left", "right", "missing", "index"), lambda v: v.tolist()),
    "table": lambda v: None if v is None else v.tolist(),
    **dict.fromkeys(("low", "high", "fill"), float),  # 0 and 0.0 are the same
    "format": FixedPoint.to_json,
}

_UNSAID: dict[str, Any] = {"missing": None, "inner": (1.0, 0.0), "outer": (1.0, 0.0)}
"""Parameters that are left out when they are this."""

_READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("weight", "bias", "threshold"), lambda v: np.array(v, dtype=np.float64)),
    **dict.fromkeys(("root", "feature", "left", "right", "index"), lambda v: np.array(v, dtype=np.int64)),
    "value": lambda v: np.array(v, dtype=np.float64),
    "missing": lambda v: np.array(v, dtype=np.bool_),
    "table": lambda v: None if v is None else np.array(v, dtype=np.float64),
    "rounding": Rounding,
    "overflow": Overflow,
    "format": FixedPoint.from_json,
    **dict.fromkeys(("inner", "outer"), lambda v: (float(v[0]), float(v[1]))),
}


def _node_from_json(data: dict[str, Any]) -> Node:
    given = {key: _READERS.get(key, lambda v: v)(value) for key, value in data["parameters"].items()}
    return KINDS[data["kind"]](
        name=data["name"], inputs=tuple(data["inputs"]), output=_edge_from_json(data["output"]), **given
    )
