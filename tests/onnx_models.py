"""Small ONNX models for tests, and what onnxruntime says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from gatesmith.frontends import read_model
from gatesmith.model import reference

__all__ = ["OPSETS", "compare", "model", "node", "random_inputs", "run", "value"]

OPSETS = (9, 11, 13, 17, 22)
IR_VERSION = 8
"""One that onnxruntime reads whatever the onnx package writes by itself."""


def value(name: str, *sizes: int | str | None, dtype: Any = np.float32) -> Any:
    """An input or output; a free size is None or a name."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), sizes)


def node(kind: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    """A node without a name; names of edges are separated by spaces, ``_`` leaves an optional input out."""
    names = ["" if name == "_" else name for name in inputs.split()]
    return helper.make_node(kind, names, outputs.split(), **attributes)


def model(
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    *,
    opset: int = 17,
    **constants: Any,
) -> Any:
    """A checked-to-be ModelProto; constants become initializers, lists become float32."""
    tensors = [
        numpy_helper.from_array(
            np.asarray(given) if isinstance(given, np.ndarray) else np.asarray(given, np.float32), name
        )
        for name, given in constants.items()
    ]
    graph = helper.make_graph(list(nodes), "test", list(inputs), list(outputs), tensors)
    domains = {n.domain for n in nodes} - {""}
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 3) for domain in domains)]
    made = helper.make_model(graph, opset_imports=imports)
    made.ir_version = IR_VERSION if opset < 22 else 10
    return made


def random_inputs(made: Any, samples: int = 5, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Normal numbers for every input, free batches filled up; a fixed batch as it is."""
    generator = np.random.default_rng(seed)
    initial = {tensor.name for tensor in made.graph.initializer}
    arrays = {}
    for given in made.graph.input:
        if given.name in initial:
            continue
        sizes = [d.dim_value for d in given.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type)
        arrays[given.name] = (generator.normal(size=(sizes[0] or samples, *sizes[1:])) * 2).astype(dtype)
    return arrays


def run(made: Any, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """What onnxruntime computes, by output name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(arrays)), strict=True))


def compare(made: Any, *, atol: float = 1e-5, samples: int = 5) -> Any:
    """Assert that the float graph gives what onnxruntime gives; returns the graph."""
    onnx.checker.check_model(made)
    graph = read_model(made, name="test")
    arrays = random_inputs(made, samples)
    wanted, given = run(made, arrays), reference.infer_real(graph, arrays)
    assert list(wanted) == [terminal.edge.name for terminal in graph.outputs] == list(given)
    for terminal in graph.outputs:
        name = terminal.edge.name
        assert terminal.datatype.dtype == wanted[name].dtype, name
        assert given[name].shape == wanted[name].shape, name
        assert np.allclose(given[name], wanted[name], rtol=1e-4, atol=atol), name
    return graph
