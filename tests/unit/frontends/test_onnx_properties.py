"""Each operator on random shapes and attributes, against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx_models import compare, model, node, random_inputs, run, value

from gatesmith.frontends import read_model
from gatesmith.frontends.onnx_operators import OPERATORS
from gatesmith.model import reference

Draw = Callable[[st.SearchStrategy[Any]], Any]
Made = Any

sizes = st.integers(1, 5)


def numbers(draw: Draw, *shape: int, positive: bool = False) -> Any:
    generator = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    values = generator.normal(size=shape)
    return (np.abs(values) + 0.1 if positive else values).astype(np.float32)


def of(given: Any) -> Any:
    return np.array(given, np.int64)


def one(
    kind: str, inputs: str, shape: tuple[int, ...], rank: int | None = None, *, opset: int = 17, **rest: Any
) -> Made:
    """A model of one operator; constants are arrays, the other keywords attributes."""
    constants = {key: given for key, given in rest.items() if isinstance(given, np.ndarray)}
    attributes = {key: given for key, given in rest.items() if key not in constants}
    out = value("y", *[None] * (len(shape) + 1 if rank is None else rank))
    return model([node(kind, inputs, **attributes)], [value("x", None, *shape)], [out], opset=opset, **constants)


def shapes(draw: Draw, least: int = 1, most: int = 3) -> tuple[int, ...]:
    return tuple(draw(st.lists(sizes, min_size=least, max_size=most)))


def windows(draw: Draw, axes: int) -> tuple[tuple[int, ...], dict[str, Any], tuple[int, ...]]:
    """A kernel's shape, attributes, and sizes that it fits into."""
    few = st.integers(1, 3)
    kernel, strides, dilations = (tuple(draw(few) for _ in range(axes)) for _ in range(3))
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations}
    if draw(st.booleans()):
        # less than the kernel, so that each window sees something
        attributes["pads"] = [draw(st.integers(0, k - 1)) for k in kernel * 2]
    elif draw(st.booleans()):
        attributes["auto_pad"] = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
        attributes["dilations"] = dilations = (1,) * axes
    extent = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    return kernel, attributes, tuple(e + draw(st.integers(0, 4)) for e in extent)


def conv(draw: Draw) -> Made:
    axes = draw(st.integers(1, 2))
    kernel, attributes, extent = windows(draw, axes)
    groups, inner, outer = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    weight = numbers(draw, groups * outer, inner, *kernel)
    bias = {"c": numbers(draw, groups * outer)} if draw(st.booleans()) else {}
    return one(
        "Conv", "x w c" if bias else "x w", (groups * inner, *extent), w=weight, group=groups, **attributes, **bias
    )


def max_pool(draw: Draw) -> Made:
    kernel, attributes, extent = windows(draw, draw(st.integers(1, 2)))
    if "auto_pad" not in attributes:
        attributes["ceil_mode"] = draw(st.integers(0, 1))
    return one("MaxPool", "x", (draw(sizes), *extent), kernel_shape=kernel, **attributes)


def average_pool(draw: Draw) -> Made:
    kernel, attributes, extent = windows(draw, draw(st.integers(1, 2)))
    attributes |= {"dilations": [1] * len(kernel), "count_include_pad": draw(st.integers(0, 1))}
    return one("AveragePool", "x", (draw(sizes), *extent), kernel_shape=kernel, opset=19, **attributes)


def batch_normalization(draw: Draw) -> Made:
    shape = shapes(draw)
    names = {key: numbers(draw, shape[0], positive=key == "v") for key in "sbmv"}
    return one("BatchNormalization", "x s b m v", shape, epsilon=1e-3, **names)


def matmul(draw: Draw) -> Made:
    if draw(st.booleans()):
        rows, columns = draw(sizes), draw(sizes)
        return one("MatMul", "w x", (rows, columns), w=numbers(draw, draw(sizes), rows))
    shape = shapes(draw)
    return one("MatMul", "x w", shape, w=numbers(draw, shape[-1], draw(sizes)))


def broadcast(kind: str, **options: Any) -> Callable[[Draw], Made]:
    def make(draw: Draw) -> Made:
        shape = shapes(draw)
        other = [draw(st.sampled_from([1, n])) for n in shape]
        mine = [draw(st.sampled_from([1, n])) for n in shape] if kind != "PRelu" else shape
        mine = [n if m == 1 and n == 1 else m for m, n in zip(mine, other, strict=True)]
        constant = numbers(draw, *other, **options)
        swapped = draw(st.booleans()) and kind in {"Add", "Mul", "Sub"}
        return one(kind, "c x" if swapped else "x c", tuple(mine), c=constant)

    return make


def two_edges(kind: str) -> Callable[[Draw], Made]:
    def make(draw: Draw) -> Made:
        shape = shapes(draw)
        a, b = ([draw(st.sampled_from([1, n])) for n in shape] for _ in range(2))
        inputs = [value("x", None, *a), value("z", None, *b)]
        return model([node(kind, "x z")], inputs, [value("y", *[None] * (len(shape) + 1))])

    return make


def activation(kind: str, opset: int = 17, **attributes: Any) -> Callable[[Draw], Made]:
    return lambda draw: one(kind, "x", shapes(draw), opset=opset, **attributes)


def hard_sigmoid(draw: Draw) -> Made:
    few = st.floats(0.1, 1.0)
    return one("HardSigmoid", "x", shapes(draw), alpha=draw(few), beta=draw(few))


def softmax(draw: Draw) -> Made:
    return one("Softmax", "x", shapes(draw), axis=-1)


def transpose(draw: Draw) -> Made:
    shape = shapes(draw)
    return one("Transpose", "x", shape, perm=[0, *draw(st.permutations(range(1, len(shape) + 1)))])


def unsqueeze(draw: Draw) -> Made:
    shape = shapes(draw, most=2)
    axis = draw(st.integers(1, len(shape) + 1)) - draw(st.sampled_from([0, len(shape) + 2]))
    return one("Unsqueeze", "x a", shape, len(shape) + 2, a=of([axis]))


def squeeze(draw: Draw) -> Made:
    shape = list(shapes(draw, most=2))
    place = draw(st.integers(0, len(shape)))
    shape.insert(place, 1)
    return one("Squeeze", "x a", tuple(shape), len(shape), a=of([place + 1]))


def concat(draw: Draw) -> Made:
    shape = shapes(draw)
    axis = draw(st.integers(0, len(shape) - 1))
    other = list(shape)
    other[axis] = draw(sizes)
    inputs = [value("x", None, *shape), value("z", None, *other)]
    outputs = [value("y", *[None] * (len(shape) + 1))]
    return model([node("Concat", "x z x", axis=axis - draw(st.sampled_from([-1, len(shape)])))], inputs, outputs)


def split(draw: Draw) -> Made:
    shape = list(shapes(draw))
    axis, parts = draw(st.integers(0, len(shape) - 1)), draw(st.lists(sizes, min_size=2, max_size=3))
    shape[axis] = sum(parts)
    names = [f"y{i}" for i in range(len(parts))]
    outputs = [value(name, *[None] * (len(shape) + 1)) for name in names]
    nodes = [node("Split", "x s", " ".join(names), axis=axis + 1)]
    return model(nodes, [value("x", None, *shape)], outputs, s=of(parts))


def split_equally(draw: Draw) -> Made:
    size, count = draw(st.integers(2, 7)), draw(st.integers(2, 3))
    assume(size > (count - 1) * -(-size // count))
    names = [f"y{i}" for i in range(count)]
    nodes = [node("Split", "x", " ".join(names), axis=1, num_outputs=count)]
    return model(nodes, [value("x", None, size)], [value(name, None, None) for name in names], opset=18)


def slices(draw: Draw) -> Made:
    shape = shapes(draw)
    axis = draw(st.integers(0, len(shape) - 1))
    start, step = draw(st.integers(-6, 6)), draw(st.sampled_from([-2, -1, 1, 2]))
    end = draw(st.sampled_from([-(1 << 40), -3, -1, 0, 2, 4, 1 << 40]))
    cut = slice(start, None if step < 0 and end < -shape[axis] else end, step)
    assume(len(range(shape[axis])[cut]) > 0)
    ends = {"s": of([start]), "e": of([end]), "a": of([axis + 1]), "t": of([step])}
    return one("Slice", "x s e a t", shape, **ends)


def pad(draw: Draw) -> Made:
    shape = tuple(n + 2 for n in shapes(draw, most=2))
    mode = draw(st.sampled_from(["constant", "reflect", "edge"]))
    ends = [[draw(st.integers(-1 if mode == "constant" else 0, 2)) for _ in shape] for _ in range(2)]
    pads = of([0, *ends[0], 0, *ends[1]])
    return one("Pad", "x p v", shape, p=pads, v=np.array(draw(st.sampled_from([0.0, 1.5])), np.float32), mode=mode)


def gather(draw: Draw) -> Made:
    shape = shapes(draw)
    axis = draw(st.integers(0, len(shape) - 1))
    picks = draw(st.lists(st.integers(-shape[axis], shape[axis] - 1), min_size=1, max_size=4))
    return one("Gather", "x i", shape, i=of(picks), axis=axis + 1)


def reduce_mean(draw: Draw) -> Made:
    shape = shapes(draw)
    axes = sorted(draw(st.sets(st.integers(1, len(shape)), min_size=1)))
    keep = draw(st.booleans())
    rank = len(shape) + 1 if keep else len(shape) + 1 - len(axes)
    return one("ReduceMean", "x a", shape, rank, opset=18, a=of(axes), keepdims=int(keep))


def there_and_back(draw: Draw) -> Made:
    shape = shapes(draw)
    axis = draw(st.integers(0, len(shape) - 1))
    count = draw(st.sampled_from([0, shape[axis]]))
    scale = numbers(draw, count, positive=True) if count else np.array(draw(st.sampled_from([0.25, 0.3])), np.float32)
    dtype = draw(st.sampled_from([np.int8, np.uint8]))
    zero = np.full(scale.shape, draw(st.sampled_from([0, 3])), dtype)
    nodes = [
        node("QuantizeLinear", "x s z", "q", axis=axis + 1),
        node("DequantizeLinear", "q s z", axis=axis + 1),
    ]
    return model(nodes, [value("x", None, *shape)], [value("y", *[None] * (len(shape) + 1))], s=scale, z=zero)


def shaped(draw: Draw) -> Made:
    """What exporters write to flatten: the batch's size from the data."""
    shape = shapes(draw, least=2)
    nodes = [
        node("Shape", "x", "n"),
        node("Gather", "n zero", "b", axis=0),
        node("Unsqueeze", "b axis", "u"),
        node("Concat", "u rest", "t", axis=0),
        node("Reshape", "x t"),
    ]
    constants = {"zero": np.array(0, np.int64), "axis": of([0]), "rest": of([-1])}
    return model(nodes, [value("x", None, *shape)], [value("y", None, None)], **constants)


def silu(draw: Draw) -> Made:
    shape = shapes(draw)
    nodes = [node("Sigmoid", "x", "s"), node("Mul", draw(st.sampled_from(["x s", "s x"])))]
    return model(nodes, [value("x", None, *shape)], [value("y", *[None] * (len(shape) + 1))])


PROPERTIES: dict[str, Callable[[Draw], Made]] = {
    "Add": broadcast("Add"),
    "Add-edges": two_edges("Add"),
    "AveragePool": average_pool,
    "BatchNormalization": batch_normalization,
    "Concat": concat,
    "Conv": conv,
    "DequantizeLinear": there_and_back,
    "Div": broadcast("Div", positive=True),
    "Elu": activation("Elu"),
    "Exp": activation("Exp"),
    "Gather": gather,
    "Gelu": activation("Gelu", 20),
    "Gelu-tanh": activation("Gelu", 20, approximate="tanh"),
    "GlobalAveragePool": lambda draw: one("GlobalAveragePool", "x", shapes(draw, least=2)),
    "GlobalMaxPool": lambda draw: one("GlobalMaxPool", "x", shapes(draw, least=2)),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": activation("HardSwish"),
    "LeakyRelu": activation("LeakyRelu", alpha=0.3),
    "MatMul": matmul,
    "MaxPool": max_pool,
    "Mul": broadcast("Mul"),
    "Mul-silu": silu,
    "PRelu": broadcast("PRelu"),
    "Pad": pad,
    "Pow": lambda draw: one("Pow", "x c", shapes(draw), c=np.array(2.0, np.float32)),
    "QuantizeLinear": there_and_back,
    "ReduceMean": reduce_mean,
    "Shape": shaped,
    "Slice": slices,
    "Softmax": softmax,
    "Softplus": activation("Softplus"),
    "Softsign": activation("Softsign"),
    "Split": split,
    "Split-equally": split_equally,
    "Squeeze": squeeze,
    "Sub": broadcast("Sub"),
    "Sub-edges": two_edges("Sub"),
    "Sum": two_edges("Sum"),
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}


@pytest.mark.parametrize("name", PROPERTIES)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_operator(name: str, data: st.DataObject) -> None:
    compare(PROPERTIES[name](data.draw), samples=3)


def test_every_operator_has_its_test() -> None:
    elsewhere = {"ArgMax", "Cast", "Clip", "Constant", "Dropout", "Flatten", "Gemm", "Identity", "Neg", "Relu"}
    elsewhere |= {"Reshape", "Sigmoid", "Tanh", "Sqrt"}
    assert {*OPERATORS} == elsewhere | {name.split("-")[0] for name in PROPERTIES}


def test_a_kernel_turned_around_is_seen() -> None:
    weight = np.random.default_rng(0).normal(size=(2, 1, 3)).astype(np.float32)
    right, wrong = (one("Conv", "x w", (1, 6), w=w) for w in (weight, weight[:, :, ::-1].copy()))
    arrays = random_inputs(right)
    given = reference.infer_real(read_model(wrong), arrays)["y"]
    assert not np.allclose(given, run(right, arrays)["y"], atol=1e-3)
