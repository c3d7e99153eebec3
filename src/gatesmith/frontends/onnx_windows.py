"""ONNX convolutions and pooling, in one or two dimensions, or more."""

# Ref: ONNX operator specification: Conv, MaxPool, AveragePool: auto_pad, ceil_mode, count_include_pad, pads (all
# Ref: beginnings, then all ends); GlobalAveragePool and GlobalMaxPool keep axes of size 1; ReduceMean (axes an input
# Ref: from opset 18 on)

from __future__ import annotations

import numpy as np

from gatesmith.frontends.onnx_call import Call, Operator, Value
from gatesmith.frontends.windows import Windows, average_pool, convolve, max_pool
from gatesmith.model.nodes import Edge

__all__ = ["WINDOW_OPERATORS"]


def _windows(call: Call, x: Edge, kernel: tuple[int, ...]) -> Windows:
    axes = len(x.shape) - 1
    if len(kernel) != axes or axes < 1:
        raise call.refuse(f"has a kernel of shape {list(kernel)} for data of {[-1, *x.shape]}")
    pads = [int(n) for n in call.attribute("pads", [0] * 2 * axes)]
    windows = Windows(
        kernel=kernel,
        strides=tuple(call.attribute("strides", [1] * axes)),
        dilations=tuple(call.attribute("dilations", [1] * axes)),
        before=tuple(pads[:axes]),
        behind=tuple(pads[axes:]),
        ceil=bool(call.attribute("ceil_mode", 0)),
    )
    auto = call.attribute("auto_pad", b"NOTSET").decode()
    if auto in {"SAME_UPPER", "SAME_LOWER"}:
        return Windows.same(x.shape[1:], windows, lower=auto == "SAME_LOWER")
    if auto not in {"NOTSET", "VALID"}:
        raise call.refuse(f"has auto_pad {auto!r}")
    return windows


def _conv(call: Call) -> Value:
    x, grid = call.real(), call.grid(1)
    weight = call.constant(1).astype(np.float64) if grid is None else grid.integers
    if weight.ndim < 3:
        raise call.refuse(f"has a weight of shape {list(weight.shape)}, three axes or more are needed")
    bias = call.constant(2).astype(np.float64) if call.has(2) else np.zeros(len(weight))
    windows, groups = _windows(call, x, weight.shape[2:]), int(call.attribute("group", 1))
    if groups < 1:
        raise call.refuse(f"has {groups} groups")
    if grid is None:
        return convolve(call.builder, call.name, x, weight, bias, windows, groups=groups)
    channels = (-1, *[1] * (weight.ndim - 2))
    scale = np.broadcast_to(grid.scale, weight.shape).reshape(len(weight), -1)
    if (scale != scale[:, :1]).any():
        return convolve(call.builder, call.name, x, weight * grid.scale, bias, windows, groups=groups)
    whole = convolve(call.builder, call.name, x, weight, None, windows, groups=groups)
    return call.builder.scale(f"{call.name}/scale", whole, scale[:, 0].reshape(channels), bias.reshape(channels))


def _kernel(call: Call) -> tuple[int, ...]:
    return tuple(int(n) for n in call.attribute("kernel_shape", ()))


def _max_pool(call: Call) -> Value:
    x = call.edge()
    if len(call.node.output) > 1 and call.node.output[1]:
        raise call.refuse("gives out the places of its maxima")
    return max_pool(call.builder, call.name, x, _windows(call, x, _kernel(call)))


def _average_pool(call: Call) -> Value:
    x, counts = call.real(), bool(call.attribute("count_include_pad", 0))
    windows = _windows(call, x, _kernel(call))
    if counts and windows.ceil and max(windows.behind + windows.before):
        raise call.refuse("counts padding and rounds its size up, in which runtimes differ")
    return average_pool(call.builder, call.name, x, windows, count_padding=counts)


def _mean(call: Call, x: Edge, axes: list[int], *, keep: bool) -> Value:
    """The mean over some axes of a sample."""
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    count = int(np.prod([x.shape[axis] for axis in axes], dtype=np.int64))
    turned = call.builder.transpose(f"{call.name}/turned", x, [*kept, *axes])
    rows = call.builder.reshape(f"{call.name}/rows", turned, (*(x.shape[axis] for axis in kept), count))
    mean = call.builder.dense(call.name, rows, np.full((count, 1), 1.0 / count))
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    return call.builder.reshape(f"{call.name}/shape", mean, shape if keep else tuple(x.shape[axis] for axis in kept))


def _global_average_pool(call: Call) -> Value:
    x = call.real()
    return _mean(call, x, list(range(1, len(x.shape))), keep=True)


def _global_max_pool(call: Call) -> Value:
    x = call.edge()
    rows = call.builder.reshape(f"{call.name}/rows", x, (x.shape[0], x.elements // x.shape[0]))
    largest = call.builder.max(call.name, rows)
    return call.builder.reshape(f"{call.name}/shape", largest, (x.shape[0], *[1] * (len(x.shape) - 1)))


def _reduce_mean(call: Call) -> Value:
    x, axes = call.real(), call.whole(1, "axes")
    if axes is None:
        raise call.refuse("reduces all axes, the batch too; name the others")
    return _mean(call, x, sorted({call.axis(x, axis) for axis in axes}), keep=bool(call.attribute("keepdims", 1)))


WINDOW_OPERATORS: dict[str, Operator] = {
    "AveragePool": _average_pool,
    "Conv": _conv,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "MaxPool": _max_pool,
    "ReduceMean": _reduce_mean,
}
"""Operators of the default domain."""
