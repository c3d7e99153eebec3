"""ONNX files: the operators of multi-layer perceptrons, opset 8 to current.

Every value is a constant (a numpy array) or an edge; ``onnx_operators`` has one function for each operator. A softmax
stays out of the gateware: its value is the edge before it, marked, and only an output may carry the mark to the host.
Names of classes stay out too: an output that is nothing else is left out, and the scores carry the names.
"""

# Ref: ONNX intermediate representation: initializers that are also inputs, opset_import

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.errors import ModelUnreadable, UnsupportedOperation
from gatesmith.frontends.frontend import SPLIT, Frontend, GraphBuilder
from gatesmith.frontends.onnx_file import QONNX_DOMAINS, array, load
from gatesmith.frontends.onnx_ml_operators import ML_OPERATORS
from gatesmith.frontends.onnx_operators import KEEP_VALUES, OPERATORS, Call, Value
from gatesmith.frontends.onnx_quantized import QONNX_OPERATORS
from gatesmith.frontends.rounding import Grid
from gatesmith.model.graph import Graph
from gatesmith.model.nodes import Edge
from gatesmith.tensor import Datatype

__all__ = ["OnnxFrontend"]

MIN_OPSET = 8

SUPPORTED = {
    "": OPERATORS,
    "ai.onnx": OPERATORS,
    "ai.onnx.ml": ML_OPERATORS,
    **dict.fromkeys(QONNX_DOMAINS, QONNX_OPERATORS),
}
"""Operators by domain."""


class OnnxFrontend(Frontend):
    """``.onnx`` files, with the weights inside or beside them, and ``onnx.ModelProto`` objects."""

    name = "onnx"

    def accepts(self, source: object) -> bool:
        if not isinstance(source, Path):
            return type(source).__name__ == "ModelProto"
        with source.open("rb") as file:
            head = file.read(1)
        # a ModelProto starts with its first field, ir_version: tag 0x08
        return head == b"\x08" or source.suffix == ".onnx"

    def read(self, source: object, *, name: str, trust_pickle: bool) -> Graph:
        del trust_pickle  # nothing in an ONNX file runs
        return _Reader(*load(source), name).run()


class _Reader:
    """Walks the nodes of one ONNX graph in order."""

    def __init__(self, model: Any, weights: dict[str, NDArray[Any]], name: str) -> None:
        self.graph = model.graph
        self.builder = GraphBuilder(name, reserved=frozenset(value.name for value in self.graph.output))
        self.values: dict[str, Value] = dict(weights)
        self.dtypes: dict[str, np.dtype[Any]] = {}  # of the values that are edges
        self.softmax: set[str] = set()  # values whose edge is the one before a softmax
        self.grids: dict[str, Grid] = {}  # constants that are integers times a scale
        self.labels: dict[str, tuple[str, ...]] = {}  # names of the classes whose scores an edge holds
        self.class_names: set[str] = set()  # values that are the name of a class and not its index
        self.opset = max((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), default=MIN_OPSET)
        self.batch: int | None = None  # None when it is free
        if self.opset < MIN_OPSET:
            raise UnsupportedOperation(f"model has opset {self.opset}, {MIN_OPSET} or newer is read; convert it")

    def run(self) -> Graph:
        for tensor in self.graph.initializer:
            if tensor.name not in self.values:
                self.values[tensor.name] = array(tensor)
        inputs = [value for value in self.graph.input if value.name not in self.values]
        batches = {value.name: self._input(value) for value in inputs}
        if len(set(batches.values())) > 1:
            raise UnsupportedOperation(f"inputs have different batches: {batches} (0 is free); they have to be equal")
        self.batch = next(iter(batches.values()), 0) or None
        last = {name: place for place, node in enumerate(self.graph.node) for name in node.input}
        for place, node in enumerate(self.graph.node):
            self._node(node)
            for name in node.input:
                # a constant that nothing more reads may be as large as the file
                if last[name] == place and isinstance(self.values.get(name), np.ndarray):
                    del self.values[name]
        for value in self.graph.output:
            self._output(value)
        if not self.builder.outputs:
            raise UnsupportedOperation("the only output is the name of a class; give out the scores too")
        self.builder.drop_unread()
        return self.builder.graph()

    def _input(self, value: Any) -> int:
        """A new edge; returns the size of its batch, 0 when that is free."""
        sizes = [d.dim_value if d.HasField("dim_value") else 0 for d in value.type.tensor_type.shape.dim]
        if len(sizes) < 2 or any(size <= 0 for size in sizes[1:]) or sizes[0] < 0:
            raise UnsupportedOperation(
                f"input {value.name!r} has the shape {sizes} (0 is free); a batch first, then fixed sizes are needed",
                node=value.name,
            )
        dtype = _dtype(value)
        self.dtypes[value.name] = dtype
        self.values[value.name] = self.builder.input(value.name, tuple(sizes[1:]), _datatype(value.name, dtype))
        return int(sizes[0])

    def _output(self, value: Any) -> None:
        if value.name in self.class_names:
            return
        edge = self.values.get(value.name)
        if not isinstance(edge, Edge):
            raise UnsupportedOperation(f"output {value.name!r} does not depend on the input", node=value.name)
        dtype = self.dtypes[value.name]
        is_tensor = value.type.WhichOneof("value") == "tensor_type"  # what ZipMap gives is none, and its scores are
        if is_tensor and _dtype(value) != dtype:
            raise ModelUnreadable(f"output {value.name!r} is declared as {_dtype(value)} and computed as {dtype}")
        host = (HostOperation(kind=HostOperationKind.SOFTMAX),) if value.name in self.softmax else ()
        labels = self.labels.get(edge.name, ())
        if len(labels) != edge.elements or labels == tuple(map(str, range(len(labels)))):
            labels = ()
        self.builder.output(edge, value.name, datatype=_datatype(value.name, dtype), host=host, labels=labels)

    def _node(self, node: Any) -> None:
        call = Call(self, node)
        operator = SUPPORTED.get(node.domain, {}).get(node.op_type)
        if operator is None:
            names = sorted({name for operators in SUPPORTED.values() for name in operators})
            raise call.refuse(f"is not supported; supported are {', '.join(names)}; {SPLIT}")
        if any(given in self.class_names for given in node.input):
            if node.op_type not in KEEP_VALUES:
                raise call.refuse("reads the name of a class, which must be last")
            self.class_names.add(node.output[0])
            return
        after_softmax = next((given for given in node.input if given in self.softmax), None)
        result = call.run(operator)
        if result is None:
            return
        if after_softmax is not None and node.op_type != "ArgMax":
            if node.op_type not in KEEP_VALUES or result is not self.values[after_softmax]:
                raise call.refuse(
                    f"reads the softmax {after_softmax!r}, which the host computes after the gateware; it must be last"
                )
            self.softmax.add(node.output[0])
        self.values[node.output[0]] = result
        if isinstance(result, Edge):
            self.dtypes[node.output[0]] = call.dtype


def _dtype(value: Any) -> np.dtype[Any]:
    from onnx import helper

    kind = value.type.tensor_type.elem_type
    try:
        return np.dtype(helper.tensor_dtype_to_np_dtype(kind))
    except (KeyError, TypeError):
        raise UnsupportedOperation(f"tensor {value.name!r} has the ONNX element type {kind}", node=value.name) from None


def _datatype(name: str, dtype: np.dtype[Any]) -> Datatype:
    found = Datatype.of(dtype)
    if found is None:
        raise UnsupportedOperation(f"tensor {name!r} holds {dtype}, numbers are needed", node=name)
    return found
