"""What each Keras layer becomes."""

# Ref: Keras 3 API: layers' arguments and defaults, the order of weights (BatchNormalization: gamma, beta, moving mean,
# Ref: moving variance), "same" padding

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gatesmith.frontends.frontend import MAX_GATHERED, GraphBuilder
from gatesmith.frontends.keras_call import Call, Softmaxed, activation, leaky, relu
from gatesmith.frontends.windows import Windows, average_pool, convolve, max_pool
from gatesmith.model.node import Edge, Real

__all__ = ["LAYERS"]

ZERO, ONE = np.array(0.0), np.array(1.0)


def _dense(call: Call) -> Edge:
    weight, *bias = call.weights(2 if call.option("use_bias", True) else 1)
    if weight.ndim != 2 or call.x.shape[-1:] != weight.shape[:1]:
        raise call.refuse(f"has a weight of shape {list(weight.shape)} for data of {[-1, *call.x.shape]}")
    return call.activated(call.builder.dense(call.name, call.x, weight, *bias))


def _windows(call: Call, kernel: tuple[int, ...], x: Edge) -> Windows:
    axes = len(kernel)
    if len(x.shape) != axes + 1:
        raise call.refuse(f"reads data of shape {[-1, *x.shape]}, {axes + 1} axes of a sample are needed")
    strides = _each(call.option("strides", kernel), axes)
    dilations = _each(call.option("dilation_rate", 1), axes)
    sizes = x.shape[:-1] if call.channels_last else x.shape[1:]
    none = (0,) * axes
    windows = Windows(kernel=kernel, strides=strides, dilations=dilations, before=none, behind=none)
    padding = call.option("padding", "valid")
    if padding == "same":
        return Windows.same(sizes, windows)
    if padding == "causal":
        before = (dilations[0] * (kernel[0] - 1),)
        return Windows(kernel=kernel, strides=strides, dilations=dilations, before=before, behind=none)
    if padding != "valid":
        raise call.refuse(f"pads {padding!r}")
    return windows


def _each(given: Any, axes: int) -> tuple[int, ...]:
    return tuple(int(n) for n in given) if isinstance(given, list | tuple) else (int(given),) * axes


def _convolved(call: Call, x: Edge, kernel: Real, bias: Real | None, groups: int, name: str) -> Edge:
    """Keras keeps a kernel as (*sizes, channels of a group, outputs)."""
    weight = np.moveaxis(kernel, [-1, -2], [0, 1])
    windows = _windows(call, weight.shape[2:], x)
    last = call.channels_last
    return convolve(call.builder, name, x, weight, bias, windows, groups=groups, channels_last=last)


def _conv(call: Call) -> Edge:
    kernel, *bias = call.weights(2 if call.option("use_bias", True) else 1)
    groups = int(call.option("groups", 1))
    return call.activated(_convolved(call, call.x, kernel, bias[0] if bias else None, groups, call.name))


def _depthwise(call: Call) -> Edge:
    kernel, *bias = call.weights(2 if call.option("use_bias", True) else 1)
    return call.activated(_depthwise_product(call, kernel, bias[0] if bias else None, call.name))


def _depthwise_product(call: Call, kernel: Real, bias: Real | None, name: str) -> Edge:
    *sizes, channels, multiplier = kernel.shape
    # one group for each channel: its outputs are next to each other
    turned = kernel.reshape(*sizes, 1, channels * multiplier)
    return _convolved(call, call.x, turned, bias, channels, name)


def _separable(call: Call) -> Edge:
    depthwise, pointwise, *bias = call.weights(3 if call.option("use_bias", True) else 2)
    h = _depthwise_product(call, depthwise, None, f"{call.name}/depthwise")
    axes = pointwise.ndim - 2
    one, none = (1,) * axes, (0,) * axes
    windows = Windows(kernel=one, strides=one, dilations=one, before=none, behind=none)
    weight = np.moveaxis(pointwise, [-1, -2], [0, 1])
    last = call.channels_last
    return call.activated(
        convolve(call.builder, call.name, h, weight, bias[0] if bias else None, windows, channels_last=last)
    )


def _batch_normalization(call: Call) -> Edge:
    center, scale = (bool(call.option(key, True)) for key in ("center", "scale"))
    given = iter(call.weights(2 + int(center) + int(scale)))
    gamma = next(given) if scale else ONE
    beta = next(given) if center else ZERO
    mean, variance = given
    factor = gamma / np.sqrt(variance + call.option("epsilon", 1e-3))
    axis = call.option("axis", -1)
    axis = axis[0] if isinstance(axis, list) else axis
    return call.builder.scale(call.name, call.x, _along(call, factor, axis), _along(call, beta - mean * factor, axis))


def _along(call: Call, values: Real, axis: int) -> Real:
    """Numbers for one axis of the batch's data, ready to broadcast to a sample."""
    count = len(call.x.shape) + 1
    if axis % count == 0:
        raise call.refuse("works on the batch, axis 0, which stays as it is")
    return np.asarray(values).reshape([-1 if i == axis % count - 1 else 1 for i in range(count - 1)])


def _normalization(call: Call) -> Edge:
    if len(call.layer.weights) >= 2:
        mean, variance = call.layer.weights[:2]
    else:
        mean, variance = (np.asarray(call.option(key), dtype=np.float64) for key in ("mean", "variance"))
    deviation = np.maximum(np.sqrt(variance.squeeze()), 1e-7)
    if call.option("invert", False):
        return call.builder.scale(call.name, call.x, deviation, mean.squeeze())
    return call.builder.scale(call.name, call.x, 1.0 / deviation, -mean.squeeze() / deviation)


def _rescaling(call: Call) -> Edge:
    scale, offset = (np.asarray(call.option(key, d), dtype=np.float64) for key, d in (("scale", 1), ("offset", 0)))
    return call.builder.scale(call.name, call.x, scale, offset)


def _max_pool(call: Call) -> Edge:
    kernel = _each(call.option("pool_size"), len(call.x.shape) - 1)
    return max_pool(call.builder, call.name, call.x, _windows(call, kernel, call.x), channels_last=call.channels_last)


def _average_pool(call: Call) -> Edge:
    kernel, last = _each(call.option("pool_size"), len(call.x.shape) - 1), call.channels_last
    return average_pool(call.builder, call.name, call.x, _windows(call, kernel, call.x), channels_last=last)


def _global(pool: Callable[..., Edge]) -> Callable[[Call], Edge]:
    def run(call: Call) -> Edge:
        sizes = call.x.shape[:-1] if call.channels_last else call.x.shape[1:]
        one, none = (1,) * len(sizes), (0,) * len(sizes)
        windows = Windows(kernel=sizes, strides=one, dilations=one, before=none, behind=none)
        result = pool(call.builder, call.name, call.x, windows, channels_last=call.channels_last)
        if call.option("keepdims", False):
            return result
        return call.builder.reshape(f"{call.name}/flat", result, (result.elements,))

    return run


def _reshape(call: Call) -> Edge:
    sizes = [int(n) for n in call.option("target_shape")]
    if -1 in sizes:
        sizes[sizes.index(-1)] = call.x.elements // max(math.prod(n for n in sizes if n != -1), 1)
    if math.prod(sizes) != call.x.elements:
        raise call.refuse(f"makes {sizes} of {list(call.x.shape)}, which has other sizes")
    return call.builder.reshape(call.name, call.x, tuple(sizes))


def _flatten(call: Call) -> Edge:
    x = call.x
    if not call.channels_last and len(x.shape) > 1:
        x = call.builder.transpose(f"{call.name}/channels-last", x, [*range(1, len(x.shape)), 0])
    return call.builder.reshape(call.name, x, (x.elements,))


def _permute(call: Call) -> Edge:
    return call.builder.transpose(call.name, call.x, [int(axis) - 1 for axis in call.option("dims")])


def _add(call: Call) -> Edge:
    total = call.inputs[0]
    for i, other in enumerate(call.inputs[1:]):
        if other.shape != total.shape:
            raise call.refuse(f"adds data of shapes {[-1, *total.shape]} and {[-1, *other.shape]}")
        total = call.builder.add(call.name if i == len(call.inputs) - 2 else f"{call.name}/{i}", total, other)
    return total


def _subtract(call: Call) -> Edge:
    if len(call.inputs) != 2:
        raise call.refuse(f"reads {len(call.inputs)} tensors, two are needed")
    negated = call.builder.scale(f"{call.name}/negated", call.inputs[1], -ONE, ZERO)
    return call.builder.add(call.name, call.inputs[0], negated)


def _average(call: Call) -> Edge:
    return call.builder.scale(f"{call.name}/mean", _add(call), ONE / len(call.inputs), ZERO)


def _joined(builder: GraphBuilder, name: str, edges: tuple[Edge, ...], axis: int) -> Edge:
    """Edges side by side along an axis of a sample."""
    starts = np.cumsum([0, *(edge.elements for edge in edges)])
    places = [np.arange(edge.elements).reshape(edge.shape) + start for edge, start in zip(edges, starts, strict=False)]
    flat = [builder.reshape(f"{name}/flat", edge, (edge.elements,)) for edge in edges]
    whole = builder.concat(f"{name}/joined", flat)
    return _arranged(builder, name, whole, np.concatenate(places, axis=axis))


def _arranged(builder: GraphBuilder, name: str, x: Edge, index: Any, fill: float = 0.0) -> Edge:
    """Elements by their places; nothing when all are where they were."""
    if index.shape == x.shape and (index.ravel() == np.arange(x.elements)).all():
        return x
    return builder.gather(name, x, index, fill)


def _concatenate(call: Call) -> Edge:
    ranks = {len(edge.shape) for edge in call.inputs}
    axis = int(call.option("axis", -1))
    if len(ranks) > 1 or axis == 0:
        raise call.refuse(f"joins axis {axis} of {[[-1, *edge.shape] for edge in call.inputs]}")
    return _joined(call.builder, call.name, call.inputs, axis if axis < 0 else axis - 1)


def _spatial(change: Callable[[Call, Any, list[tuple[int, int]]], Any]) -> Callable[[Call], Edge]:
    """Layers that pad or cut each spatial axis at both ends."""

    def run(call: Call) -> Edge:
        x = call.x
        given = call.option("padding", call.option("cropping"))
        axes = len(x.shape) - 1
        ends = [_each(one, 2) for one in given] if isinstance(given[0], list | tuple) else [_each(given, 2)]
        pairs = [(a, b) for a, b in ends]
        if len(pairs) != axes:
            raise call.refuse(f"has {given} for data of {[-1, *x.shape]}")
        whole = [*pairs, (0, 0)] if call.channels_last else [(0, 0), *pairs]
        return _arranged(call.builder, call.name, x, change(call, np.arange(x.elements).reshape(x.shape), whole))

    return run


def _padded(call: Call, index: Any, ends: list[tuple[int, int]]) -> Any:
    wide = [n + sum(end) for n, end in zip(index.shape, ends, strict=True)]
    if min(map(min, ends)) < 0 or math.prod(wide) > MAX_GATHERED:
        raise call.refuse(f"makes data of shape {[-1, *wide]}, {MAX_GATHERED} numbers are possible")
    return np.pad(index, ends, constant_values=-1)


def _cut(call: Call, index: Any, ends: list[tuple[int, int]]) -> Any:
    cut = index[tuple(slice(a, n - b) for (a, b), n in zip(ends, index.shape, strict=True))]
    if not cut.size:
        raise call.refuse(f"leaves nothing of {[-1, *index.shape]}")
    return cut


def _softmax(call: Call) -> Edge:
    if call.option("axis", -1) not in {-1, len(call.x.shape)}:
        raise call.refuse(f"works on axis {call.option('axis')}, the last one is possible")
    return Softmaxed.of(call.x)


def _activation(call: Call) -> Edge:
    return activation(call, call.x, call.option("activation"), call.name)


def _prelu(call: Call) -> Edge:
    return leaky(call, call.x, call.weights(1)[0], call.name)


def _elu(call: Call) -> Edge:
    if call.option("alpha", 1.0) != 1.0:
        raise call.refuse(f"has alpha {call.option('alpha')}, 1 is possible")
    return call.builder.table(call.name, call.x, "elu")


LAYERS: dict[str, Callable[[Call], Edge]] = {
    "Activation": _activation,
    "Add": _add,
    "Average": _average,
    **dict.fromkeys(("AveragePooling1D", "AveragePooling2D"), _average_pool),
    "BatchNormalization": _batch_normalization,
    "Concatenate": _concatenate,
    **dict.fromkeys(("Conv1D", "Conv2D"), _conv),
    **dict.fromkeys(("Cropping1D", "Cropping2D"), _spatial(_cut)),
    "Dense": _dense,
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise),
    "ELU": _elu,
    "Flatten": _flatten,
    **dict.fromkeys(("GlobalAveragePooling1D", "GlobalAveragePooling2D"), _global(average_pool)),
    **dict.fromkeys(("GlobalMaxPooling1D", "GlobalMaxPooling2D"), _global(max_pool)),
    "LeakyReLU": lambda call: leaky(call, call.x, np.array(call.option("negative_slope", 0.3)), call.name),
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D"), _max_pool),
    "Normalization": _normalization,
    "PReLU": _prelu,
    "Permute": _permute,
    "ReLU": lambda call: relu(call, call.x, call.layer.config, call.name),
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable),
    "Softmax": _softmax,
    "Subtract": _subtract,
    **dict.fromkeys(("ZeroPadding1D", "ZeroPadding2D"), _spatial(_padded)),
    **dict.fromkeys(
        (
            *("ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "Identity"),
            *("SpatialDropout1D", "SpatialDropout2D"),
        ),
        lambda call: call.x,
    ),
}
"""Every layer that is read."""
