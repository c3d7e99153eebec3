"""How ONNX graphs are put together: names, inputs, outputs, batches, random ones, and what exporters write."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import trained
from onnx import helper
from onnx_models import compare, model, node, run, value

from gatesmith.frontends import default_name, read_model
from gatesmith.model import reference
from gatesmith.tensor import Datatype

X, Y = value("x", None, 4), value("y", None, 4)
EYE = np.eye(4, dtype=np.float32)


def test_a_file_is_what_the_object_is(tmp_path: Path) -> None:
    made = model([node("Gemm", "x w", "h"), node("Softmax", "h")], [X], [Y], w=EYE * 2)
    path = tmp_path / "My Net (v2).onnx"
    onnx.save(made, path)
    graph = read_model(path)
    assert graph.name == "my-net-v2"
    assert graph.nodes == () or graph.digest == read_model(made, name="my-net-v2").digest
    bare = path.rename(tmp_path / "weights")  # told by its content, not by its suffix
    assert read_model(str(bare), name="my-net-v2").digest == graph.digest


@pytest.mark.parametrize(("raw", "name"), [("A b", "a-b"), ("__", "model"), ("tiny.net", "tiny-net"), ("é", "model")])
def test_default_names(raw: str, name: str) -> None:
    assert default_name(Path(f"{raw}.onnx")) == name


def test_initializers_that_are_also_inputs() -> None:
    compare(model([node("Gemm", "x w")], [X, value("w", 4, 4)], [Y], w=EYE * 3))


def test_several_inputs_and_outputs_keep_their_order() -> None:
    nodes = [node("Gemm", "b w", "h"), node("Relu", "a", "r"), node("Add", "r h", "s"), node("Tanh", "h", "t")]
    made = model(
        nodes,
        [value("b", None, 3), value("a", None, 2)],
        [value("t", None, 2), value("s", None, 2)],
        w=np.arange(6, dtype=np.float32).reshape(3, 2) - 2,
    )
    graph = compare(made)
    assert [t.edge.name for t in graph.inputs] == ["b", "a"]


def test_an_output_that_is_also_an_inner_value() -> None:
    made = model([node("Gemm", "x w", "h"), node("Relu", "h", "y")], [X], [value("h", None, 4), Y], w=EYE * -2)
    graph = compare(made)
    assert len(graph.nodes) == 2


def test_one_value_under_three_names() -> None:
    nodes = [node("Relu", "x", "h"), node("Identity", "h", "a"), node("Identity", "a", "b"), node("Softmax", "h", "c")]
    graph = compare(model(nodes, [X], [value(name, None, 4) for name in "abc"]))
    assert [len(t.host) for t in graph.outputs] == [0, 0, 1]


def test_an_output_that_is_the_input() -> None:
    made = model([node("Relu", "x", "y")], [X], [X, Y])
    graph = read_model(made, name="m")
    x = np.array([[-1.0, 2, -3, 4]])
    results = reference.infer_real(graph, {"x": x})
    assert (results["x"] == x).all()
    assert (results["y"] == np.maximum(x, 0)).all()


def test_an_input_under_another_name() -> None:
    compare(model([node("Identity", "x", "y")], [X], [Y]))


def test_nodes_and_values_may_share_names() -> None:
    # the node called "y" writes "h"; the graph's output "y" comes from another one
    nodes = [
        helper.make_node("Relu", ["x"], ["h"], name="y"),
        helper.make_node("Neg", ["h"], ["x2"], name="x"),
        helper.make_node("Tanh", ["x2"], ["y"], name="v"),
        helper.make_node("Tanh", ["y"], ["z"], name=""),
    ]
    compare(model(nodes, [X], [Y, value("z", None, 4)]))


def test_dead_nodes_do_no_harm() -> None:
    compare(model([node("Relu", "x", "y"), node("Tanh", "x", "dead"), node("Neg", "dead", "deader")], [X], [Y]))


@pytest.mark.parametrize("batch", [None, "N", 1, 7])
def test_batches(batch: Any) -> None:
    compare(model([node("Gemm", "x w")], [value("x", batch, 4)], [value("y", batch, 4)], w=EYE * 2))


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_other_float_types(dtype: Any) -> None:
    x, y = value("x", None, 4, dtype=dtype), value("y", None, 4, dtype=dtype)
    graph = compare(model([node("MatMul", "x w", "h"), node("Relu", "h")], [x], [y], w=(EYE * 2).astype(dtype)))
    assert graph.inputs[0].datatype is {np.float64: Datatype.FP64, np.float16: Datatype.FP16}[dtype]


def test_double_precision_is_exact_to_1e_12() -> None:
    w = np.random.default_rng(0).normal(size=(4, 3))
    x, y = value("x", None, 4, dtype=np.float64), value("y", None, 3, dtype=np.float64)
    made = model([node("MatMul", "x w")], [x], [y], w=w)
    given = np.random.default_rng(1).normal(size=(9, 4))
    results = reference.infer_real(read_model(made, name="m"), {"x": given})["y"]
    assert np.abs(results - run(made, {"x": given})["y"]).max() < 1e-12


UNARY = ("Relu", "Tanh", "Sigmoid", "Neg", "Identity")
WITH_CONSTANT = {"Add": "{x} {c}", "Sub": "{c} {x}", "Mul": "{x} {c}", "Div": "{x} {c}", "Clip": "{x} {c}l {c}h"}
KINDS = ("Gemm", "Join", "Concat", *UNARY, *WITH_CONSTANT)


@st.composite
def networks(draw: st.DrawFn) -> Any:
    """Up to eight nodes on one or two inputs; each reads any earlier value that fits."""
    widths = {"x": draw(st.integers(1, 5))}
    if draw(st.booleans()):
        widths["z"] = draw(st.integers(1, 5))
    inputs = [value(name, None, width) for name, width in widths.items()]
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    nodes, constants = [], {}
    for i in range(draw(st.integers(1, 8))):
        source, out = draw(st.sampled_from(sorted(widths))), f"v{i}"
        width, c = widths[source], f"c{i}"
        kind = draw(st.sampled_from(KINDS))
        constants[c] = (generator.uniform(0.5, 2, width) * generator.choice([-1, 1], width)).astype(np.float32)
        constants |= {f"{c}l": np.float32(-1), f"{c}h": np.float32(generator.uniform(0, 2))}
        if kind == "Gemm":
            width = draw(st.integers(1, 5))
            constants[c] = generator.normal(size=(widths[source], width)).astype(np.float32)
            nodes.append(node("Gemm", f"{source} {c}", out))
        elif kind == "Join":
            other = draw(st.sampled_from([name for name in sorted(widths) if widths[name] == width]))
            nodes.append(node(draw(st.sampled_from(["Add", "Sub"])), f"{source} {other}", out))
        elif kind == "Concat":
            other = draw(st.sampled_from(sorted(widths)))
            nodes.append(node("Concat", f"{source} {other}", out, axis=1))
            width += widths[other]
        else:
            nodes.append(node(kind, WITH_CONSTANT.get(kind, "{x}").format(x=source, c=c), out))
        widths[out] = width
    last = draw(
        st.lists(st.sampled_from([n for n in widths if n.startswith("v")]), min_size=1, max_size=2, unique=True)
    )
    return model(nodes, inputs, [value(name, None, widths[name]) for name in last], **constants)


@settings(max_examples=60, deadline=None)
@given(networks())
def test_random_networks(made: Any) -> None:
    compare(made, atol=1e-3)


@pytest.mark.parametrize("name", ["iris", "iris-tanh", "diabetes", "regressor", "digits"])
def test_what_skl2onnx_writes(name: str) -> None:
    skl2onnx = pytest.importorskip("skl2onnx")
    fitted = trained(name)
    estimator = fitted.estimator
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "classes_") else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = skl2onnx.to_onnx(estimator, fitted.x[:1].astype(np.float32), options=options, target_opset=17)
    graph = read_model(made, name=name)
    x = fitted.x.astype(np.float32)
    results = reference.infer_real(graph, {"X": x})
    for output, wanted in run(made, {"X": x}).items():
        if wanted.dtype.kind == "i":  # float32 may order two nearly equal classes differently
            assert (results[output] == wanted).mean() > 0.999
        else:
            assert np.allclose(results[output], wanted, rtol=1e-3, atol=1e-4)
