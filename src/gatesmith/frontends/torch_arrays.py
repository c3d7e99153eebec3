"""ATen operators that move numbers, change their type, or pick parts of a tensor."""
# Ref: ATen operators (pytorch.org/docs/stable/torch.html): slice (ends are cut to the size), chunk (parts of
# Ref: ceil(size / chunks)), constant_pad_nd and pad (pairs from the last axis on), pixel_shuffle, expand (-1 keeps)

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gatesmith.frontends.frontend import MAX_GATHERED
from gatesmith.frontends.rounding import Grid
from gatesmith.frontends.torch_call import BATCH, Array, Call, Operator, Value
from gatesmith.frontends.torch_file import Reference
from gatesmith.model.node import Edge

__all__ = ["ARRAY_OPERATORS", "KEEP_VALUES", "VIEWS"]

Change = Callable[[Array], Array]


def _moved(make: Callable[[Call, int], Change]) -> Operator:
    """An operator that moves numbers; ``make`` gets the number of axes, the batch's among them."""

    def run(call: Call) -> Value:
        value = call.value("self")
        if isinstance(value, Edge):
            return call.arranged(value, make(call, len(value.shape) + 1))
        change = make(call, value.ndim)
        if (grid := call.grid("self")) is not None and (turned := _turned(grid, change)) is not None:
            call.reader.grids[call.step.outputs[0]] = turned
        return np.asarray(change(value))

    return run


def _turned(grid: Grid, change: Change) -> Grid | None:
    scale = np.broadcast_to(grid.scale, grid.integers.shape)
    if grid.scale.size == 1:
        return Grid(integers=change(grid.integers), scale=grid.scale)
    return Grid(integers=change(grid.integers), scale=np.asarray(change(scale)))


def _view(key: str) -> Callable[[Call, int], Change]:
    return lambda call, _axes: lambda a: a.reshape(call.sizes(key))


def _flatten(call: Call, axes: int) -> Change:
    start, end = (call.option(key, default) % max(axes, 1) for key, default in (("start_dim", 0), ("end_dim", -1)))
    return lambda a: a.reshape([*a.shape[:start], math.prod(a.shape[start : end + 1]), *a.shape[end + 1 :]])


def _unflatten(call: Call, axes: int) -> Change:
    axis, sizes = call.option("dim") % axes, call.whole("sizes")
    return lambda a: a.reshape([*a.shape[:axis], *sizes, *a.shape[axis + 1 :]])


def _squeeze(call: Call, axes: int) -> Change:
    if not call.has("dim") and call.reader.batch == 1:
        raise call.refuse("drops the batch of 1 too; name the axes to drop")
    given = tuple(axis % axes for axis in call.whole("dim")) if call.has("dim") else tuple(range(axes))
    if 0 in given and call.has("dim"):
        raise call.refuse("drops axis 0; the batch stays as it is")
    return lambda a: np.squeeze(a, tuple(axis for axis in given if a.shape[axis] == 1))


def _transpose(call: Call, axes: int) -> Change:
    del axes
    return lambda a: np.swapaxes(a, call.option("dim0"), call.option("dim1"))


def _slice(call: Call, axes: int) -> Change:
    axis, end = call.option("dim", 0) % axes, call.option("end")
    if axis == 0 and not call.option("start", 0) and (end is None or end == BATCH or end >= 1 << 31):
        return lambda a: a[:: call.option("step", 1)]
    cut = slice(call.option("start"), end, call.option("step", 1))
    return lambda a: a[(slice(None),) * axis + (cut,)]


def _narrow(call: Call, axes: int) -> Change:
    axis, start = call.option("dim") % axes, call.option("start")
    return lambda a: np.take(a, np.arange(a.shape[axis])[start:][: call.option("length")], axis)


def _expand(call: Call, axes: int) -> Change:
    del axes

    def change(a: Array) -> Array:
        sizes = call.sizes("size")
        aligned = [1] * (len(sizes) - a.ndim) + list(a.shape)
        return np.broadcast_to(a, [old if new == -1 else new for old, new in zip(aligned, sizes, strict=True)])

    return change


def _repeat(call: Call, axes: int) -> Change:
    del axes

    def change(a: Array) -> Array:
        repeats = call.whole("repeats")
        call.check_size((a.size, *repeats))
        return np.tile(a, repeats)

    return change


def _index_select(call: Call, axes: int) -> Change:
    index = call.constant("index")
    call.check_size((index.size, MAX_GATHERED // (1 << 14)))
    return lambda a: np.take(a, index, call.option("dim") % axes)


def _pixel_shuffle(call: Call, axes: int) -> Change:
    del axes
    factor = call.option("upscale_factor")

    def change(a: Array) -> Array:
        *first, channels, rows, columns = a.shape
        split = a.reshape(*first, channels // factor**2, factor, factor, rows, columns)
        turned = np.moveaxis(split, [-4, -3], [-3, -1])
        return turned.reshape(*first, channels // factor**2, rows * factor, columns * factor)

    return change


def _padded(mode: str | None = None, key: str = "padding") -> Operator:
    def run(call: Call) -> Value:
        x, pads = call.edge(), call.whole(key)
        how = mode or call.option("mode", "constant")
        ends = [(0, 0)] * (len(x.shape) + 1)
        for i in range(len(pads) // 2):
            ends[-1 - i] = (pads[2 * i], pads[2 * i + 1])
        if max(map(max, ends)) > MAX_GATHERED:
            raise call.refuse(f"pads with {pads}, {MAX_GATHERED} numbers are possible")
        call.check_size([n + max(a, 0) + max(b, 0) for n, (a, b) in zip(x.shape, ends[1:], strict=True)])
        return call.arranged(x, lambda a: _grown(call, a, ends, how), fill=float(call.option("value", 0.0)))

    return run


def _grown(call: Call, a: Array, ends: list[tuple[int, int]], mode: str) -> Array:
    modes: dict[str, Any] = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    if mode not in modes or ends[0] != (0, 0):
        raise call.refuse(f"pads in the mode {mode!r}, with {ends[0]} for the batch")
    cut = a[tuple(slice(max(-low, 0), n - max(-high, 0)) for (low, high), n in zip(ends, a.shape, strict=True))]
    grown = [(max(low, 0), max(high, 0)) for low, high in ends]
    if mode == "constant":
        return np.pad(cut, grown, constant_values=-1)
    return np.asarray(np.pad(cut, grown, mode=modes[mode]))


def _parts(cut: Callable[[Call, int, int], list[int]]) -> Operator:
    """An operator that gives out slices along an axis; ``cut`` says how large they are."""

    def run(call: Call) -> list[Value]:
        x = call.edge()
        axis = call.axis(x, default=0)
        sizes = cut(call, x.shape[axis], len(call.step.outputs))
        if sum(sizes) != x.shape[axis] or len(sizes) != len(call.step.outputs) or min(sizes) < 1:
            raise call.refuse(f"splits {x.shape[axis]} into {sizes[:9]} for {len(call.step.outputs)} outputs")
        starts = np.cumsum([0, *sizes])
        names = [f"{call.name}/{i}" for i in range(len(sizes))]
        before = (slice(None),) * (axis + 1)
        return [
            call.arranged(x, _picked((*before, slice(low, low + size))), name)
            for name, low, size in zip(names, starts, sizes, strict=False)
        ]

    return run


def _picked(cut: tuple[slice | int, ...]) -> Change:
    return lambda a: a[cut]


def _even(key: str, *, count: bool) -> Callable[[Call, int, int], list[int]]:
    def cut(call: Call, size: int, parts: int) -> list[int]:
        each = -(-size // call.option(key)) if count else call.option(key)
        return [max(min(each, size - i * each), 0) for i in range(parts)]

    return cut


def _unbind(call: Call) -> list[Value]:
    x = call.edge()
    axis = call.axis(x, default=0)
    return [
        call.arranged(x, _picked((*(slice(None),) * (axis + 1), i)), f"{call.name}/{i}")
        for i in range(min(x.shape[axis], len(call.step.outputs)))
    ]


def _cat(call: Call) -> Value:
    values = [call.tensor(given) for given in call.step.arguments["tensors"]]
    return _joined(call, values, call.option("dim", 0))


def _stack(call: Call) -> Value:
    values = [call.tensor(given) for given in call.step.arguments["tensors"]]
    dim, axes = call.option("dim", 0), max(len(values[0].shape) + 1 + isinstance(values[0], Edge), 1)
    if not all(isinstance(value, Edge) for value in values):
        return _joined(call, [np.expand_dims(v, dim % axes) if not isinstance(v, Edge) else v for v in values], dim)
    if dim % axes == 0:
        raise call.refuse("puts an axis before the batch")
    edges = [value for value in values if isinstance(value, Edge)]
    wide = [
        call.arranged(edge, lambda a: np.expand_dims(a, dim % axes), f"{call.name}/{i}") for i, edge in enumerate(edges)
    ]
    return _joined(call, wide, dim)


def _joined(call: Call, values: list[Any], axis: int) -> Value:
    if not any(isinstance(value, Edge) for value in values):
        return np.concatenate(values, axis=axis)
    if not all(isinstance(value, Edge) for value in values):
        raise call.refuse("joins data and constants; data only is possible")
    edges: list[Edge] = values
    if len(edges) == 1:
        return edges[0]
    places, starts = [], np.cumsum([0, *(edge.elements for edge in edges)])
    for edge, start in zip(edges, starts, strict=False):
        places.append(np.arange(edge.elements).reshape(edge.shape) + start)
    index = np.concatenate(places, axis=call.place(edges[0], axis))
    flat = [call.builder.reshape(f"{call.name}/flat", edge, (edge.elements,)) for edge in edges]
    joined = call.builder.concat(f"{call.name}/joined" if index.ndim > 1 else call.name, flat)
    if (index.ravel() == np.arange(index.size)).all():
        return call.builder.reshape(call.name, joined, index.shape)
    return call.builder.gather(call.name, joined, index)


def _cast(call: Call) -> Value:
    value, dtype = call.value("self"), call.option("dtype")
    if isinstance(value, Edge):
        # the index of an ArgMax is small, whatever its type; other whole numbers may only get wider types
        before, after = call.described(_read(call)).dtype, call.described(call.step.outputs[0]).dtype
        is_index = any(n.kind == "ArgMax" and n.output.name == value.name for n in call.builder.nodes)
        if after is None or before is None:
            raise call.refuse("is of a type that is not read")
        if after.kind == "f" or (is_index and after.kind in "iu") or np.can_cast(before, after, "safe"):
            return value
        raise call.refuse(f"makes {before} data {after}, which changes it; a float type is possible")
    if (grid := call.grid("self")) is not None and (dtype is None or dtype.kind == "f"):
        call.reader.grids[call.step.outputs[0]] = grid
    return value if dtype is None else value.astype(dtype)


def _read(call: Call) -> str:
    given = call.step.arguments["self"]
    return given.name if isinstance(given, Reference) else ""


def _size(call: Call) -> Value:
    value = call.value("self")
    shape: list[Value] = [call.reader.batch or BATCH] if isinstance(value, Edge) else []
    shape += value.shape
    return shape[int(call.option("dim"))]


def _dropout(call: Call) -> Value:
    if call.option("train"):
        raise call.refuse("is in training mode; export the model after model.eval()")
    return call.value("input")


VIEWS: dict[str, Operator] = {
    "aten.view.default": _moved(_view("size")),
    "aten._unsafe_view.default": _moved(_view("size")),
    "aten.reshape.default": _moved(_view("shape")),
    "aten.flatten.using_ints": _moved(_flatten),
    "aten.unflatten.int": _moved(_unflatten),
    **dict.fromkeys(("aten.squeeze.dim", "aten.squeeze.dims", "aten.squeeze.default"), _moved(_squeeze)),
    "aten.unsqueeze.default": _moved(lambda call, axes: lambda a: np.expand_dims(a, call.option("dim") % (axes + 1))),
    "aten.permute.default": _moved(lambda call, _: lambda a: np.transpose(a, call.whole("dims"))),
    "aten.transpose.int": _moved(_transpose),
    "aten.t.default": _moved(lambda _call, _axes: np.transpose),
    "aten.numpy_T.default": _moved(lambda _call, _axes: np.transpose),
    "aten.mT.default": _moved(lambda _call, _axes: lambda a: np.swapaxes(a, -1, -2)),
    "aten.movedim.int": _moved(
        lambda call, _: lambda a: np.moveaxis(a, call.option("source"), call.option("destination"))
    ),
    "aten.slice.Tensor": _moved(_slice),
    "aten.select.int": _moved(lambda call, _: lambda a: np.take(a, call.option("index"), call.option("dim"))),
    "aten.narrow.default": _moved(_narrow),
    "aten.expand.default": _moved(_expand),
    **dict.fromkeys(
        (
            *("aten.alias.default", "aten.contiguous.default", "aten.detach.default", "aten.detach_.default"),
            *("aten.lift_fresh_copy.default", "aten.to.device", "aten.to.dtype", "aten.to.dtype_layout"),
        ),
        _cast,
    ),
    **dict.fromkeys(("aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default"), _dropout),
    "aten.split.Tensor": _parts(_even("split_size", count=False)),
    "aten.split_with_sizes.default": _parts(lambda call, _size, _parts: call.whole("split_sizes")),
    "aten.chunk.default": _parts(_even("chunks", count=True)),
    "aten.unbind.int": _unbind,
}
"""Operators whose result shares its numbers with what they read."""

KEEP_VALUES = frozenset(VIEWS) | {"aten.clone.default", "aten._to_copy.default"}
"""Operators after which a softmax may still be the last one, when they move nothing."""

ARRAY_OPERATORS: dict[str, Operator] = {
    **VIEWS,
    **dict.fromkeys(("aten.clone.default", "aten._to_copy.default"), _cast),
    "aten.view_copy.default": _moved(_view("size")),
    "aten.permute_copy.default": _moved(lambda call, _: lambda a: np.transpose(a, call.whole("dims"))),
    "aten.flip.default": _moved(lambda call, _: lambda a: np.flip(a, tuple(call.whole("dims")))),
    "aten.repeat.default": _moved(_repeat),
    "aten.index_select.default": _moved(_index_select),
    "aten.pixel_shuffle.default": _moved(_pixel_shuffle),
    "aten.constant_pad_nd.default": _padded("constant", "pad"),
    "aten.pad.default": _padded(None, "pad"),
    **dict.fromkeys(("aten.reflection_pad1d.default", "aten.reflection_pad2d.default"), _padded("reflect")),
    **dict.fromkeys(("aten.replication_pad1d.default", "aten.replication_pad2d.default"), _padded("replicate")),
    "aten.cat.default": _cat,
    "aten.stack.default": _stack,
    "aten.sym_size.int": _size,
}
"""Every operator of this module."""
