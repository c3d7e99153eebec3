"""Convolution and pooling as what a graph has: gather the windows, then a product or a maximum on the last axis.

Frameworks differ in the order of the axes, in how they say how much is padded, and in little else; every frontend
brings its own words into a :class:`Windows` and uses the three functions here.
"""
# Ref: ONNX Conv, MaxPool, AveragePool: output size floor((size + pads - dilation * (kernel - 1) - 1) / stride) + 1,
# Ref: ceil_mode, count_include_pad; windows that would start in the padding behind the data do not exist

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import UnsupportedOperation
from gatesmith.frontends.frontend import MAX_GATHERED, GraphBuilder
from gatesmith.model.node import Edge, Real

__all__ = ["Windows", "average_pool", "convolve", "max_pool"]

Places = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Windows:
    """Where a kernel looks; one number for each spatial axis in every tuple.

    Parameters
    ----------
    kernel, strides, dilations : tuple of int
        1 or more.
    before, behind : tuple of int
        Elements of padding at the two ends of each axis.
    ceil : bool
        A last window that is not quite inside counts, when it starts inside.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    behind: tuple[int, ...]
    ceil: bool = False

    def __post_init__(self) -> None:
        axes = len(self.kernel)
        each = (self.strides, self.dilations, self.before, self.behind)
        if any(len(one) != axes for one in each) or min(self.kernel + self.strides + self.dilations, default=1) < 1:
            raise UnsupportedOperation(f"a window {self} does not have one positive number for each axis")
        if min(self.before + self.behind, default=0) < 0:
            raise UnsupportedOperation(f"a window with the pads {self.before} and {self.behind} would cut data away")

    @classmethod
    def same(cls, sizes: tuple[int, ...], windows: Windows, *, lower: bool = False) -> Windows:
        """As many windows as ``sizes / strides``, rounded up: the padding is shared out, an odd one behind the data."""
        total = tuple(
            max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            for n, s, d, k in zip(sizes, windows.strides, windows.dilations, windows.kernel, strict=True)
        )
        less, more = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        return replace(windows, before=more if lower else less, behind=less if lower else more)

    def counts(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Windows along each axis of data of these sizes."""
        return tuple(self._count(axis, size) for axis, size in enumerate(sizes))

    def _count(self, axis: int, size: int) -> int:
        stride, before = self.strides[axis], self.before[axis]
        room = size + before + self.behind[axis] - self.dilations[axis] * (self.kernel[axis] - 1) - 1
        if room < 0:
            raise UnsupportedOperation(
                f"a kernel of {self.kernel[axis]} with dilation {self.dilations[axis]} does not fit into {size} "
                f"elements and {before + self.behind[axis]} of padding"
            )
        count = (-(-room // stride) if self.ceil else room // stride) + 1
        return count - 1 if self.ceil and (count - 1) * stride >= size + before else count

    def places(self, sizes: tuple[int, ...]) -> Places:
        """Row-major places of what each window sees, -1 in the padding; shape (windows, kernel elements)."""
        counts = self.counts(sizes)
        if math.prod(counts) * math.prod(self.kernel) > MAX_GATHERED:
            raise UnsupportedOperation(
                f"{math.prod(counts)} windows of {math.prod(self.kernel)} numbers; {MAX_GATHERED} are possible in all"
            )
        flat: NDArray[Any] = np.zeros((1, 1), dtype=np.int64)
        inside: NDArray[Any] = np.ones((1, 1), dtype=np.bool_)
        for axis, (size, count) in enumerate(zip(sizes, counts, strict=True)):
            start = np.arange(count)[:, None] * self.strides[axis] - self.before[axis]
            place = start + np.arange(self.kernel[axis]) * self.dilations[axis]
            inside = _outer(inside, (place >= 0) & (place < size), np.logical_and)
            flat = _outer(flat * size, place, np.add)
        return np.where(inside, flat, -1)


def _outer(left: NDArray[Any], right: NDArray[Any], operation: np.ufunc) -> NDArray[Any]:
    both = operation(left[:, None, :, None], right[None, :, None, :])
    return np.asarray(both.reshape(left.shape[0] * right.shape[0], -1))


def _by_channel(places: Places, channels: int, spatial: int, *, channels_last: bool) -> Places:
    """Places in the data of every channel; shape (windows, channels, kernel elements)."""
    channel = np.arange(channels)[None, :, None]
    inner = places[:, None, :]
    whole = inner * channels + channel if channels_last else channel * spatial + inner
    return np.where(inner < 0, -1, whole)


def _split(x: Edge, *, channels_last: bool) -> tuple[int, tuple[int, ...]]:
    return (x.shape[-1], x.shape[:-1]) if channels_last else (x.shape[0], x.shape[1:])


def _arranged(builder: GraphBuilder, name: str, x: Edge, counts: tuple[int, ...], *, channels_last: bool) -> Edge:
    """From (windows, channels) to the framework's order."""
    channels = x.elements // math.prod(counts)
    x = builder.reshape(f"{name}/windows", x, (math.prod(counts), channels))
    if channels_last:
        return builder.reshape(f"{name}/shape", x, (*counts, channels))
    x = builder.transpose(f"{name}/channels-first", x, (1, 0)) if 1 not in x.shape else x
    return builder.reshape(f"{name}/shape", x, (channels, *counts))


def convolve(
    builder: GraphBuilder,
    name: str,
    x: Edge,
    weight: Real,
    bias: Real | None,
    windows: Windows,
    *,
    groups: int = 1,
    channels_last: bool = False,
) -> Edge:
    """Convolution as frameworks mean it (without mirroring the kernel).

    Parameters
    ----------
    x : Edge
        Shape (channels, *sizes), or (*sizes, channels) with ``channels_last``.
    weight : ndarray of float64, shape (outputs, channels // groups, *kernel)
    bias : ndarray of float64, shape (outputs,), or None
    groups : int
        Output channels are shared out to groups of input channels, in order.

    Returns
    -------
    Edge
        Shape (outputs, *counts), or (*counts, outputs).
    """
    channels, sizes = _split(x, channels_last=channels_last)
    outputs = len(weight)
    if channels % groups or outputs % groups or weight.shape[1] * groups != channels:
        raise UnsupportedOperation(
            f"node {name!r} has weights of shape {list(weight.shape)} and {groups} groups for {channels} channels",
            node=name,
        )
    counts = windows.counts(sizes)
    places = windows.places(sizes)
    _check_size(name, places, channels)
    index = _by_channel(places, channels, math.prod(sizes), channels_last=channels_last)
    matrix = weight.reshape(groups, outputs // groups, -1).transpose(0, 2, 1)
    offset = np.zeros(outputs) if bias is None else np.asarray(bias, dtype=np.float64)
    if groups == 1:
        seen = builder.gather(f"{name}/windows", x, index.reshape(len(index), -1))
        result = builder.dense(name, seen, matrix[0], offset)
    else:
        seen = builder.gather(f"{name}/windows", x, index.reshape(len(index), groups, -1))
        result = builder.dense(name, seen, matrix, offset.reshape(groups, -1))
    return _arranged(builder, name, result, counts, channels_last=channels_last)


def max_pool(builder: GraphBuilder, name: str, x: Edge, windows: Windows, *, channels_last: bool = False) -> Edge:
    """The largest in each window; padding counts as nothing."""
    channels, sizes = _split(x, channels_last=channels_last)
    places = windows.places(sizes)
    # another element of the same window in its place changes no maximum
    largest = places.max(axis=1, keepdims=True)
    if largest.min() < 0:
        raise UnsupportedOperation(f"node {name!r} has windows that see nothing but padding", node=name)
    index = _by_channel(np.where(places < 0, largest, places), channels, math.prod(sizes), channels_last=channels_last)
    _check_size(name, places, channels)
    seen = builder.gather(f"{name}/windows", x, index)
    return _arranged(builder, name, builder.max(name, seen), windows.counts(sizes), channels_last=channels_last)


def average_pool(
    builder: GraphBuilder,
    name: str,
    x: Edge,
    windows: Windows,
    *,
    count_padding: bool = False,
    channels_last: bool = False,
) -> Edge:
    """The mean of each window; padding counts as zeros or not at all."""
    channels, sizes = _split(x, channels_last=channels_last)
    places = windows.places(sizes)
    _check_size(name, places, channels)
    index = _by_channel(places, channels, math.prod(sizes), channels_last=channels_last)
    seen = builder.gather(f"{name}/windows", x, index)
    elements = places.shape[1]
    summed = builder.dense(name, seen, np.full((elements, 1), 1.0 / elements))
    result = _arranged(builder, name, summed, windows.counts(sizes), channels_last=channels_last)
    inside = (places >= 0).sum(axis=1)
    if count_padding or (inside == elements).all():
        return result
    if inside.min() == 0:
        raise UnsupportedOperation(f"node {name!r} has windows that see nothing but padding", node=name)
    factor = (elements / inside).reshape(windows.counts(sizes))
    return builder.scale(f"{name}/edges", result, factor[..., None] if channels_last else factor, np.array(0.0))


def _check_size(name: str, places: Places, channels: int) -> None:
    if places.size * channels > MAX_GATHERED:
        raise UnsupportedOperation(
            f"node {name!r} looks at {places.size * channels} numbers of a sample, {MAX_GATHERED} are possible",
            node=name,
        )
