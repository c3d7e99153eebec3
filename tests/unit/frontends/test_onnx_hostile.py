"""ONNX files that are damaged or made to harm: one line, bounded, and nothing read outside the model's folder."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_models import model, node, random_inputs, run, value

from gatesmith.errors import ModelError, ModelUnreadable, UnsupportedOperation
from gatesmith.frontends import model_content, read_model
from gatesmith.frontends.onnx_file import LARGE, load
from gatesmith.model import reference

W = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
X, Y = value("x", None, 4), value("y", None, 4)
SECONDS = 5
"""That one file may take at most."""


def network() -> Any:
    """One of everything that has sizes in it."""
    generator = np.random.default_rng(0)
    kernel = generator.normal(size=(2, 1, 2, 2)).astype(np.float32)
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q s z", "d"),
        node("Conv", "d k", "c", pads=[0, 1, 1, 0], strides=[1, 2]),
        node("MaxPool", "c", "m", kernel_shape=[2, 1]),
        node("Pad", "m p", "e"),
        node("Slice", "e a b x2", "t"),
        node("Transpose", "t", "u", perm=[0, 2, 3, 1]),
        node("Reshape", "u r", "f"),
        node("Gemm", "f w", "y"),
    ]
    constants = {
        "k": kernel,
        "s": np.array(0.1, np.float32),
        "z": np.array(3, np.int8),
        "p": np.array([0, 0, 1, 0, 0, 0, 0, 1], np.int64),
        "a": np.array([0, 0], np.int64),
        "b": np.array([9, 2], np.int64),
        "x2": np.array([2, 1], np.int64),
        "r": np.array([0, -1], np.int64),
        "w": generator.normal(size=(24, 3)).astype(np.float32),
    }
    return model(nodes, [value("x", None, 1, 4, 4)], [value("y", None, 3)], **constants)


NETWORK = network().SerializeToString()


def read_in_time(path: Path) -> None:
    """Nothing but the errors of models may come out of it."""
    start = time.process_time()
    with contextlib.suppress(ModelError):
        read_model(path)
    assert time.process_time() - start < SECONDS


def test_the_network_itself_is_right(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(NETWORK)
    arrays = random_inputs(network())
    given = reference.infer_real(read_model(path), arrays)["y"]
    assert np.allclose(given, run(network(), arrays)["y"], atol=1e-4)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, len(NETWORK) - 1), st.integers(0, 7), st.booleans())
def test_damaged_files(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int, cut: bool) -> None:
    data = bytearray(NETWORK)
    data[place] ^= 1 << bit
    path = tmp_path_factory.mktemp("f") / "m.onnx"
    path.write_bytes(bytes(data[:place]) if cut else bytes(data))
    read_in_time(path)


def changed(**constants: Any) -> Any:
    made = network()
    for tensor in made.graph.initializer:
        if tensor.name in constants:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(constants[tensor.name], np.int64), tensor.name))
    return made


def with_attribute(kind: str, **attributes: Any) -> Any:
    made = network()
    for one in made.graph.node:
        if one.op_type == kind:
            kept = [a for a in one.attribute if a.name not in attributes]
            del one.attribute[:]
            one.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in attributes.items())])
    return made


def huge_input(*sizes: int) -> Any:
    made = network()
    made.graph.input[0].CopyFrom(value("x", None, *sizes))
    return made


HUGE = {
    "input": huge_input(1, 1 << 20, 1 << 20),
    "pads of a window": with_attribute("Conv", pads=[1 << 30] * 4),
    "kernel": with_attribute("MaxPool", kernel_shape=[1 << 40, 1]),
    "strides": with_attribute("Conv", strides=[1 << 40, 1 << 40]),
    "negative strides": with_attribute("Conv", strides=[-1, 0]),
    "negative pads": with_attribute("Conv", pads=[-1, 0, 0, 0]),
    "groups": with_attribute("Conv", group=1 << 40),
    "no groups": with_attribute("Conv", group=0),
    "padding": changed(p=[0, 0, 1 << 40, 0, 0, 0, 0, 1]),
    "padding of the batch": changed(p=[1, 0, 0, 0, 0, 0, 0, 1]),
    "too few pads": changed(p=[1, 2]),
    "slice of the batch": changed(x2=[0, 1], a=[1, 0]),
    "empty slice": changed(a=[0, 2], b=[9, 1]),
    "reshape": changed(r=[0, 1 << 40]),
    "reshape to two unknowns": changed(r=[-1, -1]),
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_or_senseless_sizes(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(HUGE[name].SerializeToString())
    start = time.process_time()
    with pytest.raises((ModelUnreadable, UnsupportedOperation)) as caught:
        read_model(path)
    assert "\n" not in str(caught.value)
    assert time.process_time() - start < SECONDS


def test_a_cycle() -> None:
    made = model([node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b")], [X], [Y])
    with pytest.raises(ModelUnreadable, match=r"not a valid ONNX model: .*b"):
        read_model(made)


def test_weights_that_claim_to_be_huge() -> None:
    made = model([node("MatMul", "x w")], [X], [Y], w=W)
    made.graph.initializer[0].dims[:] = [1 << 40, 4]
    with pytest.raises(ModelUnreadable):
        read_model(made)


def external(folder: Path, location: str, **extra: Any) -> Path:
    """A model whose weights are said to be there; those of ``weights.bin`` are."""
    made = model([node("MatMul", "x w")], [X], [Y], w=W)
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, told in {"location": location, **extra}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(told)
    (folder / "weights.bin").write_bytes(b"\0" * 8 + W.tobytes())
    (folder / "m.onnx").write_bytes(made.SerializeToString())
    return folder / "m.onnx"


def test_weights_beside_the_model(tmp_path: Path) -> None:
    x = {"x": np.eye(4, dtype=np.float32)}
    given = reference.infer_real(read_model(external(tmp_path, "weights.bin", offset=8, length=64)), x)["y"]
    assert (given == W).all()
    whole = tmp_path / "whole.onnx"
    made = model([node("MatMul", "x w")], [X], [Y], w=W)
    onnx.save(made, whole, save_as_external_data=True, location="whole.data", size_threshold=0)
    assert (reference.infer_real(read_model(whole), x)["y"] == W).all()


def test_a_model_is_told_by_all_of_its_weights(tmp_path: Path) -> None:
    path = external(tmp_path, "weights.bin", offset=8, length=64)
    content = model_content(path)
    (tmp_path / "elsewhere").mkdir()
    alone = tmp_path / "elsewhere" / "m.onnx"
    alone.write_bytes(content)
    session, x = onnxruntime.InferenceSession(content), np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    assert (session.run(None, {"x": x})[0] == onnxruntime.InferenceSession(path).run(None, {"x": x})[0]).all()
    assert model_content(alone) == content
    (tmp_path / "weights.bin").write_bytes(b"\0" * 8 + (2 * W).tobytes())
    assert model_content(path) != content


def test_what_cannot_be_put_together_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelUnreadable, match=r"the weights 'w' in the file '../x.bin', which is not one in the model"):
        model_content(external(tmp_path, "../x.bin"))
    with pytest.raises(ModelUnreadable, match=r"model file .* cannot be read: No such file"):
        model_content(tmp_path / "none.onnx")
    noise = b"no model, but \x0a\x08location\x12 all the same"
    (tmp_path / "noise").write_bytes(noise)
    assert model_content(tmp_path / "noise") == noise


def large(folder: Path) -> tuple[Path, Any]:
    """A model whose weights are taken out before it is checked, and these."""
    weights = np.random.default_rng(2).normal(size=(200, 100)).astype(np.float32)
    assert weights.nbytes >= LARGE
    nodes = [node("MatMul", "x w", "h"), node("Add", "h w2", "y")]
    made = model(nodes, [value("x", None, 200)], [value("y", None, 100)], w=weights, w2=weights[0])
    (folder / "large.onnx").write_bytes(made.SerializeToString())
    return folder / "large.onnx", weights


def test_large_weights_are_taken_out_of_the_model(tmp_path: Path) -> None:
    path, weights = large(tmp_path)
    skeleton, taken = load(path)
    assert list(taken) == ["w"]
    assert (taken["w"] == weights).all()
    assert skeleton.ByteSize() < 1000
    x = np.random.default_rng(3).normal(size=(5, 200))
    given = reference.infer_real(read_model(path), {"x": x})["y"]
    assert np.abs(given - (x @ weights.astype(np.float64) + weights[0])).max() < 1e-12


@pytest.mark.parametrize("dims", [[200, 101], [0, 0], [-1, 100], [1 << 40, 1 << 40]])
def test_large_weights_of_another_size(dims: list[int], tmp_path: Path) -> None:
    path, _ = large(tmp_path)
    made = onnx.load(path)
    made.graph.initializer[0].dims[:] = dims
    with pytest.raises(ModelUnreadable) as caught:
        read_model(made)
    assert "\n" not in str(caught.value)


OUTSIDE = ["../secret.bin", "/etc/hostname", "link.bin", "folder/../../secret.bin", "", ".", "missing.bin", "a\0b"]


@pytest.mark.parametrize("location", OUTSIDE)
def test_weights_outside_the_folder(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(W.tobytes())  # just what would be needed
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelUnreadable) as caught:
        read_model(external(folder, location))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [{"offset": 9}, {"offset": -1}, {"length": 1 << 50}, {"length": 4}, {"offset": "x"}])
def test_weights_that_are_not_there(place: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelUnreadable):
        read_model(external(tmp_path, "weights.bin", **place))


def test_an_object_has_no_folder(tmp_path: Path) -> None:
    made = onnx.load(external(tmp_path, "weights.bin", offset=8), load_external_data=False)
    with pytest.raises(ModelUnreadable, match=r"1 tensors in other files .* 'w'; save the model in one file"):
        read_model(made)


def test_a_constant_in_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    tensor = numpy_helper.from_array(W, "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "w.bin"
    made = model([helper.make_node("Constant", [], ["w"], value=tensor), node("MatMul", "x w")], [X], [Y])
    with pytest.raises(ModelUnreadable, match="1 tensors in other files"):
        read_model(made)
