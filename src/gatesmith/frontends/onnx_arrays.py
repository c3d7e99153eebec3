"""ONNX operators that arrange numbers, change their type, or make constants."""

# Ref: ONNX operator specification: Reshape (0 copies a size, -1 is inferred), Slice (negative ends count from behind),
# Ref: Split (equal parts, the last one smaller), Pad (attribute before opset 11), Squeeze and Unsqueeze (before 13)

from __future__ import annotations

import math

import numpy as np

from gatesmith.frontends.frontend import MAX_GATHERED
from gatesmith.frontends.onnx_call import MAX_CONSTANT, Call, Constant, Operator, Value
from gatesmith.frontends.rounding import Grid
from gatesmith.model.nodes import Edge

__all__ = ["ARRAY_OPERATORS", "expanded"]


def expanded(call: Call, x: Edge, shape: tuple[int, ...]) -> Edge:
    """The edge broadcast to a shape."""
    if x.shape == shape:
        return x
    if math.prod(shape) > MAX_GATHERED:
        raise call.refuse(f"widens data of {[-1, *x.shape]} to {[-1, *shape]}, {MAX_GATHERED} numbers are possible")
    return call.builder.gather(f"{call.name}/wide", x, np.broadcast_to(_places(x), shape))


def _places(x: Edge) -> Constant:
    """The row-major place of each element."""
    return np.arange(x.elements).reshape(x.shape)


def _picked(call: Call, x: Edge, index: Constant, fill: float = 0.0) -> Edge:
    if 0 in index.shape:
        raise call.refuse(f"makes data of shape {[-1, *index.shape]} of {[-1, *x.shape]}")
    return call.builder.gather(call.name, x, index, fill)


def _concat(call: Call) -> Value:
    values = [call.value(i) for i in range(len(call.node.input))]
    if not any(isinstance(value, Edge) for value in values):
        return np.concatenate([np.asarray(value) for value in values], axis=call.attribute("axis"))
    edges = [call.edge(i) for i in range(len(values))]
    axes = {call.axis(edge, call.attribute("axis")) for edge in edges}
    if len(edges) == 1:
        return edges[0]
    if len(axes) > 1:
        raise call.refuse(f"joins data of shapes {[[-1, *edge.shape] for edge in edges]}; as many axes are needed")
    starts = np.cumsum([0, *(edge.elements for edge in edges)])
    index = np.concatenate([_places(edge) + start for edge, start in zip(edges, starts, strict=False)], axis=axes.pop())
    flat = [call.builder.reshape(f"{call.name}/flat", edge, (edge.elements,)) for edge in edges]
    joined = call.builder.concat(f"{call.name}/joined" if len(index.shape) > 1 else call.name, flat)
    return joined if len(index.shape) == 1 else _picked(call, joined, index)


def _split(call: Call) -> None:
    edge, count = call.edge(), len(call.node.output)
    axis = call.axis(edge, call.attribute("axis", 0))
    size = edge.shape[axis]
    parts = call.whole(1, "split")
    if parts is None:
        count = call.attribute("num_outputs", count)
        each = -(-size // count)
        parts = [min(each, size - i * each) for i in range(count)]
    if sum(parts) != size or min(parts) < 1 or len(parts) != len(call.node.output):
        raise call.refuse(f"splits {size} into {parts} for {len(call.node.output)} outputs")
    for i, index in enumerate(np.split(_places(edge), np.cumsum(parts)[:-1], axis=axis)):
        call.give(i, call.builder.gather(f"{call.name}/{i}", edge, index), call.dtype)


def _slice(call: Call) -> Value:
    value = call.value(0)
    starts, ends = call.whole(1, "starts"), call.whole(2, "ends")
    axes, steps = call.whole(3, "axes"), call.whole(4, "steps")
    if starts is None or ends is None or len(starts) != len(ends):
        raise call.refuse(f"starts at {starts} and ends at {ends}")
    shape = (1, *value.shape) if isinstance(value, Edge) else value.shape
    cuts = [slice(None)] * len(shape)
    for axis, start, end, step in zip(
        axes or range(len(starts)), starts, ends, steps or [1] * len(starts), strict=True
    ):
        # beyond the first element from behind means up to it
        cuts[axis] = slice(start, None if step < 0 and end < -shape[axis] else end, step)
    if not isinstance(value, Edge):
        return np.asarray(value[tuple(cuts)])
    if cuts[0].step not in {None, 1} or cuts[0].start not in {None, 0} or (cuts[0].stop or 1 << 31) < 1 << 30:
        raise call.refuse("cuts the batch, axis 0, which stays as it is")
    return _picked(call, value, _places(value)[tuple(cuts[1:])])


def _pad(call: Call) -> Value:
    edge, mode = call.edge(), call.attribute("mode", b"constant").decode()
    pads, count = call.whole(1, "pads") or [], len(edge.shape) + 1
    axes = [a % count for a in call.whole(3, "axes") or range(count)]
    if len(pads) != 2 * len(axes):
        raise call.refuse(f"pads {len(axes)} axes with {pads}")
    ends = np.zeros((count, 2), dtype=np.int64)
    for i, axis in enumerate(axes):
        ends[axis] = pads[i], pads[i + len(axes)]
    if ends[0].any():
        raise call.refuse("pads the batch, axis 0, which stays as it is")
    if ends.max() > MAX_CONSTANT or math.prod(n + max(sum(e), 0) for n, e in zip(edge.shape, ends[1:], strict=True)) > (
        MAX_GATHERED
    ):
        raise call.refuse(f"pads {[-1, *edge.shape]} with {pads}, {MAX_GATHERED} numbers are possible")
    grown, index = np.maximum(ends[1:], 0), _places(edge)
    fill = call.number(2) if call.has(2) else float(call.attribute("value", 0.0))
    if mode == "constant":
        index = np.pad(index, grown, constant_values=-1)
    elif mode in {"reflect", "edge", "wrap"}:
        index = np.pad(index, grown, mode=mode)
    else:
        raise call.refuse(f"pads in the mode {mode!r}")
    cut = tuple(slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(ends[1:], index.shape, strict=True))
    return _picked(call, edge, index[cut], fill)


def _gather(call: Call) -> Value:
    value, index = call.value(0), call.constant(1)
    axis = call.attribute("axis", 0)
    if not isinstance(value, Edge):
        return np.asarray(np.take(value, index, axis=axis))
    axis = call.axis(value, axis)
    if index.size * value.elements // value.shape[axis] > MAX_GATHERED:
        raise call.refuse(f"picks {index.size} times from {[-1, *value.shape]}")
    return _picked(call, value, np.take(_places(value), index, axis=axis))


def _transpose(call: Call) -> Value:
    value, order = call.value(0), call.attribute("perm")
    if not isinstance(value, Edge):
        if (grid := call.grid(0)) is not None and grid.scale.ndim == value.ndim:
            turned = Grid(integers=grid.integers.transpose(order), scale=grid.scale.transpose(order))
            call.reader.grids[call.node.output[0]] = turned
        elif grid is not None and grid.scale.size == 1:
            call.reader.grids[call.node.output[0]] = Grid(integers=grid.integers.transpose(order), scale=grid.scale)
        return value.transpose(order)
    order = list(range(len(value.shape), -1, -1)) if order is None else list(order)
    if order[:1] != [0]:
        raise call.refuse(f"moves the batch, axis 0, to axis {order.index(0)}")
    return call.builder.transpose(call.name, value, [axis - 1 for axis in order[1:]])


def _squeeze(call: Call) -> Value:
    value, axes = call.value(0), call.whole(1, "axes")
    if not isinstance(value, Edge):
        return np.squeeze(value, None if axes is None else tuple(axes))
    if axes is None:
        kept = tuple(n for n in value.shape if n != 1)
    else:
        gone = {call.axis(value, axis) for axis in axes}
        if any(value.shape[axis] != 1 for axis in gone):
            raise call.refuse(f"drops the axes {axes} of {[-1, *value.shape]}, which are not all of size 1")
        kept = tuple(n for i, n in enumerate(value.shape) if i not in gone)
    return call.builder.reshape(call.name, value, kept)


def _unsqueeze(call: Call) -> Value:
    value, axes = call.value(0), call.whole(1, "axes")
    if axes is None:
        raise call.refuse("has no axes")
    if not isinstance(value, Edge):
        return np.expand_dims(value, tuple(axes))
    shape = np.expand_dims(np.zeros((7, *value.shape), dtype=np.bool_), tuple(axes)).shape
    if shape[0] != 7:
        raise call.refuse("puts an axis before the batch")
    return call.builder.reshape(call.name, value, shape[1:])


def _flatten(call: Call) -> Value:
    edge = call.edge()
    axis = call.attribute("axis", 1)
    if axis not in {1, -len(edge.shape)} or not edge.shape:
        raise call.refuse(f"flattens from axis {axis}, 1 is possible: the batch stays")
    return call.builder.reshape(call.name, edge, (edge.elements,))


def _reshape(call: Call) -> Value:
    target = [int(n) for n in call.constant(1).ravel()]
    value = call.value(0)
    if 0 in target and call.attribute("allowzero", 0):
        raise call.refuse(f"reshapes to {target} with sizes of 0 (allowzero)")
    if not isinstance(value, Edge):
        return value.reshape([value.shape[i] if n == 0 else n for i, n in enumerate(target)])
    possible = {-1, 0} if call.reader.batch is None else {-1, 0, call.reader.batch}
    if target[:1] == [1] and call.reader.batch is None:
        possible |= {1}  # a model traced with one sample and then given a free batch
    if not target or target[0] not in possible or target.count(-1) > 1:
        raise call.refuse(
            f"reshapes to {target}; the batch has to stay first ({', '.join(map(str, sorted(possible)))})"
        )
    sizes = [value.shape[i] if n == 0 and i < len(value.shape) else n for i, n in enumerate(target[1:])]
    if -1 in sizes:
        known = math.prod(n for n in sizes if n != -1)
        sizes[sizes.index(-1)] = value.elements // max(known, 1)
    if any(n < 1 for n in sizes) or math.prod(sizes) != value.elements:
        raise call.refuse(f"reshapes {[-1, *value.shape]} to {target}, which has other sizes")
    return call.builder.reshape(call.name, value, tuple(sizes))


def _shape(call: Call) -> Value:
    value = call.value(0)
    if not isinstance(value, Edge):
        return np.array(value.shape, np.int64)
    # a free batch is 0 there, which a Reshape copies
    sizes = np.array([call.reader.batch or 0, *value.shape], np.int64)
    return sizes[call.attribute("start", 0) : call.attribute("end", len(sizes))]


def _cast(call: Call) -> Value:
    from onnx import helper

    value = call.value(0)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(call.attribute("to")))
    if not isinstance(value, Edge):
        return value.astype(dtype)
    before, call.dtype = call.dtype, dtype
    # the index of an ArgMax is small, whatever its type; other whole numbers may only get wider types
    is_index = any(n.kind == "ArgMax" and n.output.name == value.name for n in call.builder.nodes)
    if dtype.kind == "f" or (is_index and dtype.kind in "iu") or np.can_cast(before, dtype, "safe"):
        return value
    raise call.refuse(f"casts {before} data to {dtype}, which changes it; a float type is possible")


def _constant(call: Call) -> Value:
    from onnx import numpy_helper

    value = call.attribute("value")
    if value is not None:
        return np.asarray(numpy_helper.to_array(value))
    for key, dtype in (("value_float", "f4"), ("value_floats", "f4"), ("value_int", "i8"), ("value_ints", "i8")):
        if (given := call.attribute(key)) is not None:
            return np.asarray(given, dtype=dtype)
    raise call.refuse("holds a value that is no number")


ARRAY_OPERATORS: dict[str, Operator] = {
    "Cast": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": lambda call: call.value(0),
    "Pad": _pad,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""Operators of the default domain."""
