"""ATen operators that look through windows: convolutions, pooling, and what reduces whole axes."""
# Ref: PyTorch API: torch.nn.Conv2d (padding "same" puts the odd element behind the data), MaxPool2d and AvgPool2d
# Ref: (a stride that is not given is the kernel's size; ceil_mode: a window has to start inside the data or the padding
# Ref: before it; count_include_pad; divisor_override), AdaptiveAvgPool2d (window i from floor(i n / o) to
# Ref: ceil((i + 1) n / o))

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gatesmith.frontends.rounding import Grid
from gatesmith.frontends.torch_call import Call, Operator, Value
from gatesmith.frontends.windows import Windows, average_pool, convolve, max_pool
from gatesmith.model.node import Edge, Real

__all__ = ["WINDOW_OPERATORS"]

ZERO, ONE = np.array(0.0), np.array(1.0)


def _conv(call: Call) -> Value:
    x, grid, given = call.real("input"), call.grid("weight"), call.weights("weight")
    if call.option("transposed"):
        raise call.refuse("is transposed, which is not supported")
    if given.ndim != len(x.shape) + 1 or given.ndim < 3:
        raise call.refuse(f"has a weight of shape {list(given.shape)} for data of shape {[-1, *x.shape]}")
    bias = call.weights("bias") if call.has("bias") else np.zeros(len(given))
    windows, groups = _conv_windows(call, given.shape[2:]), int(call.option("groups", 1))
    if groups < 1:
        raise call.refuse(f"has {groups} groups")
    if grid is None or not _is_by_output(grid):
        return convolve(call.builder, call.name, x, given, bias, windows, groups=groups)
    whole = convolve(call.builder, call.name, x, grid.integers, None, windows, groups=groups)
    channels = (-1, *[1] * (given.ndim - 2))
    scale = np.broadcast_to(grid.scale, given.shape).reshape(len(given), -1)[:, 0]
    return call.builder.scale(f"{call.name}/scale", whole, scale.reshape(channels), bias.reshape(channels))


def _is_by_output(grid: Grid) -> bool:
    scale = np.broadcast_to(grid.scale, grid.integers.shape).reshape(len(grid.integers), -1)
    return bool((scale == scale[:, :1]).all())


def _conv_windows(call: Call, kernel: tuple[int, ...]) -> Windows:
    axes = len(kernel)
    strides, dilations = (tuple(call.whole(key, axes, [1])) for key in ("stride", "dilation"))
    given = call.option("padding", [0])
    if isinstance(given, str):
        total = [d * (k - 1) if given == "same" else 0 for k, d in zip(kernel, dilations, strict=True)]
        before, behind = tuple(n // 2 for n in total), tuple(n - n // 2 for n in total)
    else:
        before = behind = tuple(call.whole("padding", axes, [0]))
    return Windows(kernel=kernel, strides=strides, dilations=dilations, before=before, behind=behind)


def _pool_windows(call: Call, axes: int) -> tuple[Edge, Windows]:
    x = call.edge()
    if len(x.shape) != axes + 1:
        raise call.refuse(f"reads data of shape {[-1, *x.shape]}, {axes + 1} axes of a sample are needed")
    kernel = tuple(call.whole("kernel_size", axes))
    pads = tuple(call.whole("padding", axes, [0]))
    windows = Windows(
        kernel=kernel,
        strides=tuple(call.whole("stride", axes, kernel)) or kernel,
        dilations=tuple(call.whole("dilation", axes, [1])),
        before=pads,
        behind=pads,
        ceil=bool(call.option("ceil_mode", False)),
    )
    return x, windows


def _max_pool(axes: int) -> Operator:
    def run(call: Call) -> list[Value]:
        x, windows = _pool_windows(call, axes)
        return [max_pool(call.builder, call.name, x, windows), None]

    return run


def _average_pool(axes: int) -> Operator:
    def run(call: Call) -> Value:
        call.real()
        x, windows = _pool_windows(call, axes)
        counts = bool(call.option("count_include_pad", True))
        grows = windows.counts(x.shape[1:]) != replace(windows, ceil=False).counts(x.shape[1:])
        divisor = call.option("divisor_override")
        if grows and (counts or divisor is not None):
            # the part of the last window that is behind the padding too would count in another way
            raise call.refuse("rounds its size up and counts the padding; count_include_pad=False is possible")
        if divisor is None:
            return average_pool(call.builder, call.name, x, windows, count_padding=counts)
        mean = average_pool(call.builder, f"{call.name}/mean", x, windows, count_padding=True)
        return call.builder.scale(call.name, mean, np.array(math.prod(windows.kernel) / divisor), ZERO)

    return run


def _adaptive(pool: Callable[..., Edge], axes: int) -> Operator:
    def run(call: Call) -> list[Value]:
        x, sizes = call.edge(), tuple(call.whole("output_size", axes))
        if len(x.shape) != axes + 1 or len(sizes) != axes or min(sizes) < 1:
            raise call.refuse(f"makes {list(sizes)} of data of shape {[-1, *x.shape]}")
        if any(n % size for n, size in zip(x.shape[1:], sizes, strict=True)):
            raise call.refuse(f"makes {list(sizes)} of {list(x.shape[1:])}; sizes that divide them are possible")
        kernel = tuple(n // size for n, size in zip(x.shape[1:], sizes, strict=True))
        none, one = (0,) * axes, (1,) * axes
        windows = Windows(kernel=kernel, strides=kernel, dilations=one, before=none, behind=none)
        return [pool(call.builder, call.name, x, windows), None]

    return run


def _axes(call: Call, x: Edge) -> list[int]:
    given = call.option("dim")
    if given is None or given == []:
        raise call.refuse("reduces all axes, the batch too; name the others")
    return sorted({call.place(x, axis) for axis in (given if isinstance(given, list) else [given])})


def _rows(call: Call, x: Edge, axes: list[int]) -> tuple[Edge, tuple[int, ...]]:
    """The axes side by side as the last one, and the shape that is left when it is gone."""
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    turned = call.builder.transpose(f"{call.name}/turned", x, [*kept, *axes])
    count = math.prod(x.shape[axis] for axis in axes)
    rows = call.builder.reshape(f"{call.name}/rows", turned, (*(x.shape[axis] for axis in kept), count))
    if call.option("keepdim", False):
        return rows, tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    return rows, tuple(x.shape[axis] for axis in kept)


def _weighted(*, mean: bool) -> Operator:
    def run(call: Call) -> Value:
        x = call.real()
        rows, shape = _rows(call, x, _axes(call, x))
        count = rows.shape[-1]
        weight: Real = np.full((count, 1), 1.0 / count if mean else 1.0)
        return call.builder.reshape(f"{call.name}/shape", call.builder.dense(call.name, rows, weight), shape)

    return run


def _largest(sign: float) -> Operator:
    def run(call: Call) -> Any:
        x = call.edge() if sign > 0 else call.builder.scale(f"{call.name}/negated", call.real(), -ONE, ZERO)
        rows, shape = _rows(call, x, _axes(call, x))
        largest = call.builder.max(call.name, rows)
        if sign < 0:
            largest = call.builder.scale(f"{call.name}/back", largest, -ONE, ZERO)
        values = call.builder.reshape(f"{call.name}/shape", largest, shape)
        return [values, _place_of_largest(call, x, shape)] if len(call.step.outputs) > 1 else values

    return run


def _place_of_largest(call: Call, x: Edge, shape: tuple[int, ...]) -> Value:
    return call.builder.arg_max(f"{call.name}/place", x, shape) if len(x.shape) == 1 else None


def _arg_max(call: Call) -> Value:
    x = call.edge()  # softmax keeps the order, so the value before it serves as well
    axes = len(x.shape)
    if axes != 1 or call.option("dim") not in {1, -1}:
        raise call.refuse(f"works on axis {call.option('dim')} of {[-1, *x.shape]}, the last of two is possible")
    return call.builder.arg_max(call.name, x, (1,) if call.option("keepdim", False) else ())


WINDOW_OPERATORS: dict[str, Operator] = {
    **{f"aten.conv{n}d.{kind}": _conv for n in (1, 2, 3) for kind in ("default", "padding")},
    "aten.convolution.default": _conv,
    **{f"aten.max_pool{n}d.default": _max_pool(n) for n in (1, 2, 3)},
    **{f"aten.max_pool{n}d_with_indices.default": _max_pool(n) for n in (1, 2, 3)},
    **{f"aten.avg_pool{n}d.default": _average_pool(n) for n in (1, 2, 3)},
    **{f"aten.adaptive_avg_pool{n}d.default": _adaptive(average_pool, n) for n in (1, 2, 3)},
    **{f"aten._adaptive_avg_pool{n}d.default": _adaptive(average_pool, n) for n in (2, 3)},
    **{f"aten.adaptive_max_pool{n}d.default": _adaptive(max_pool, n) for n in (1, 2, 3)},
    "aten.amax.default": _largest(1.0),
    "aten.amin.default": _largest(-1.0),
    "aten.argmax.default": _arg_max,
    "aten.max.dim": _largest(1.0),
    "aten.mean.dim": _weighted(mean=True),
    "aten.sum.dim_IntList": _weighted(mean=False),
}
"""Every operator of this module."""
