"""From the bytes of an ONNX file to a checked ModelProto; weights in other files only from the model's own folder.

Large weights are taken out of the model before it is checked: the checker copies it twice, and protobuf frees nothing
that a message once held.
"""

# Ref: ONNX external data: keys location (relative to the model's file), offset and length
# Ref: qonnx 1.0: the domain of its operators has been renamed twice

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import ModelUnreadable, NotInstalled

__all__ = ["QONNX_DOMAINS", "array", "in_one_file", "load", "may_be_divided"]

EXTERNAL = 1  # TensorProto.DataLocation
MAX_BYTES = 1 << 30
"""Of all weights in other files."""
LARGE = 1 << 16
"""Bytes of a weight from which it is taken out of the model."""

Weights = dict[str, NDArray[Any]]

# Ref: ONNX external data: an entry whose key is "location"; here as protobuf writes it, with the value's tag behind it
_ELSEWHERE = b"\x0a\x08location\x12"

QONNX_DOMAINS = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas")


def load(source: Any) -> tuple[Any, Weights]:
    """The checked ModelProto of a path or a ModelProto, and its large weights, which are empty there.

    Raises
    ------
    ModelUnreadable
        When it is no valid model, or its weights are outside its folder.
    """
    try:
        import onnx
    except ImportError as error:
        raise NotInstalled("onnx", "pip install 'gatesmith[onnx]'") from error
    what = repr(str(source)) if isinstance(source, Path) else "the ModelProto"
    try:
        whole = onnx.ModelProto()
        if isinstance(source, Path):
            whole.ParseFromString(source.read_bytes())
        else:
            whole.CopyFrom(source)
        _bring_in(whole, source.parent if isinstance(source, Path) else None, what)
        weights = _taken_out(whole)
        model = onnx.ModelProto()
        model.CopyFrom(whole)
        del whole
        _declare_domains(model)
        onnx.checker.check_model(model, full_check=False)
    except ModelUnreadable:
        raise
    except Exception as error:
        raise ModelUnreadable(f"{what} is not a valid ONNX model: {_first_line(error)}") from error
    return model, weights


def may_be_divided(content: bytes) -> bool:
    """Whether a file's content may be a model whose weights are, in part, in other files."""
    return _ELSEWHERE in content


def in_one_file(path: Path, content: bytes) -> bytes:
    """The content of a model's file, with the weights of other files in it; any other content as it is.

    Raises
    ------
    ModelUnreadable
        When the weights are not where the model says.
    """
    try:
        import onnx
    except ImportError:  # then it cannot be read either
        return content
    model, what = onnx.ModelProto(), repr(str(path))
    try:
        model.ParseFromString(content)
        if all(tensor.data_location != EXTERNAL for tensor in model.graph.initializer):
            return content
    except Exception:  # told when it is read
        return content
    try:
        _bring_in(model, path.parent, what)
        return bytes(model.SerializeToString(deterministic=True))
    except ModelUnreadable:
        raise
    except Exception as error:
        raise ModelUnreadable(f"{what} is not a valid ONNX model: {_first_line(error)}") from error


def array(tensor: Any) -> NDArray[Any]:
    """The numbers of a TensorProto.

    Raises
    ------
    ModelUnreadable
        When they are not as many as it says.
    """
    from onnx import numpy_helper

    if any(size < 0 for size in tensor.dims):
        raise ModelUnreadable(f"weights {tensor.name!r} have the shape {list(tensor.dims)}")
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:
        raise ModelUnreadable(f"weights {tensor.name!r} cannot be read: {error}") from error


def _taken_out(model: Any) -> Weights:
    found: Weights = {}
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) >= LARGE and tensor.data_location != EXTERNAL:
            found[tensor.name] = array(tensor)
            tensor.ClearField("raw_data")
            tensor.ClearField("dims")
            tensor.dims.append(0)
    return found


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _declare_domains(model: Any) -> None:
    """Exporters of QONNX forget it, and a checker that does not know the operators asks for it."""
    declared = {one.domain for one in model.opset_import}
    for domain in sorted({node.domain for node in model.graph.node} & set(QONNX_DOMAINS) - declared):
        model.opset_import.add(domain=domain, version=1)


def _inner_tensors(model: Any) -> Iterator[Any]:
    """Tensors that are not weights: in attributes, of subgraphs too, and in functions."""
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while nodes:
        for attribute in nodes.pop().attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from graph.initializer
                nodes += graph.node


def _bring_in(model: Any, folder: Path | None, what: str) -> None:
    """Weights in other files become weights in the model."""
    inner = [tensor.name for tensor in _inner_tensors(model) if tensor.data_location == EXTERNAL]
    outside = [tensor for tensor in model.graph.initializer if tensor.data_location == EXTERNAL]
    if inner or (outside and folder is None):
        names = inner or [tensor.name for tensor in outside]
        raise ModelUnreadable(
            f"{what} has {len(names)} tensors in other files that it may not have there, the first is {names[0]!r}; "
            f"save the model in one file"
        )
    left = MAX_BYTES
    for tensor in outside:
        data = _outside_bytes(tensor, Path(folder or "."), left, what)
        left -= len(data)
        tensor.raw_data = data
        tensor.ClearField("data_location")
        del tensor.external_data[:]


def _outside_bytes(tensor: Any, folder: Path, most: int, what: str) -> bytes:
    from onnx import helper

    told = {entry.key: entry.value for entry in tensor.external_data}
    location, offset = told.get("location", ""), int(told.get("offset", 0))
    path = (folder / location).resolve()
    if not location or not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise ModelUnreadable(
            f"{what} has the weights {tensor.name!r} in the file {location!r}, which is not one in the model's folder"
        )
    itemsize = int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    count = math.prod(int(n) for n in tensor.dims) * itemsize
    length, size = int(told.get("length", count)), path.stat().st_size
    if not (offset >= 0 and 0 <= length <= min(size - offset, most)) or length != count:
        raise ModelUnreadable(
            f"{what} has the weights {tensor.name!r} at {length} bytes from {offset} in {location!r}, which has {size} "
            f"bytes; {count} are needed, {most} are possible"
        )
    with path.open("rb") as file:
        file.seek(offset)
        return bytes(file.read(length))
