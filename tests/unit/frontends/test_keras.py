"""Keras models, from memory and from files, against Keras' own prediction."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_models import chain, filled, keras, predicted

from gatesmith.errors import ModelError, ModelUnreadable, UnsupportedOperation
from gatesmith.frontends import read_model
from gatesmith.model import reference

# Keras' own conversions of torch's tensors
pytestmark = pytest.mark.filterwarnings("ignore:.*__array__:DeprecationWarning")

L = keras.layers

FLAT, LINE, IMAGE = (5,), (7, 3), (6, 7, 2)

CHAINS: dict[str, tuple[tuple[int, ...], Callable[[], list[Any]]]] = {
    "Dense": (FLAT, lambda: [L.Dense(4, activation="relu"), L.Dense(3, use_bias=False)]),
    "Dense of rows": (LINE, lambda: [L.Dense(4)]),
    "softmax": (FLAT, lambda: [L.Dense(4, activation="softmax")]),
    "Softmax": (FLAT, lambda: [L.Dense(4), L.Softmax()]),
    "Conv1D": (LINE, lambda: [L.Conv1D(4, 3, strides=2, padding="same", activation="relu")]),
    "Conv1D causal": (LINE, lambda: [L.Conv1D(4, 3, dilation_rate=2, padding="causal")]),
    "Conv1D groups": ((7, 4), lambda: [L.Conv1D(6, 2, groups=2)]),
    "Conv2D": (IMAGE, lambda: [L.Conv2D(3, (2, 3), strides=(2, 1), padding="same")]),
    "Conv2D dilated": (IMAGE, lambda: [L.Conv2D(3, 2, dilation_rate=(2, 3), use_bias=False)]),
    "DepthwiseConv1D": (LINE, lambda: [L.DepthwiseConv1D(2, depth_multiplier=2)]),
    "DepthwiseConv2D": (IMAGE, lambda: [L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu")]),
    "SeparableConv1D": (LINE, lambda: [L.SeparableConv1D(4, 3, padding="same", strides=2)]),
    "SeparableConv2D": (IMAGE, lambda: [L.SeparableConv2D(4, 3, depth_multiplier=2)]),
    "BatchNormalization": (FLAT, lambda: [L.BatchNormalization()]),
    "BatchNormalization of images": (IMAGE, lambda: [L.Conv2D(3, 2), L.BatchNormalization(scale=False), L.ReLU()]),
    "BatchNormalization of rows": (IMAGE, lambda: [L.BatchNormalization(axis=1, center=False)]),
    "MaxPooling1D": (LINE, lambda: [L.MaxPooling1D(3, strides=2, padding="same")]),
    "MaxPooling2D": (IMAGE, lambda: [L.MaxPooling2D((2, 3), padding="same")]),
    "AveragePooling1D": (LINE, lambda: [L.AveragePooling1D(3, strides=2, padding="same")]),
    "AveragePooling2D": (IMAGE, lambda: [L.AveragePooling2D((2, 3), strides=1)]),
    "GlobalAveragePooling": (IMAGE, lambda: [L.GlobalAveragePooling2D()]),
    "GlobalMaxPooling": (LINE, lambda: [L.GlobalMaxPooling1D(keepdims=True)]),
    "shapes": (IMAGE, lambda: [L.Permute((2, 3, 1)), L.Reshape((4, -1)), L.Flatten(), L.Dense(2)]),
    "padding": (IMAGE, lambda: [L.ZeroPadding2D(((1, 2), (0, 3))), L.Cropping2D(((0, 1), (1, 2)))]),
    "padding of lines": (LINE, lambda: [L.ZeroPadding1D((1, 2)), L.Cropping1D(2)]),
    "ReLU": (FLAT, lambda: [L.ReLU(max_value=0.5), L.Dense(3), L.ReLU(negative_slope=0.25)]),
    "LeakyReLU": (IMAGE, lambda: [L.LeakyReLU(negative_slope=0.2)]),
    "PReLU": (IMAGE, lambda: [L.PReLU(shared_axes=[1, 2])]),
    "ELU": (FLAT, lambda: [L.ELU()]),
    "scaling": (IMAGE, lambda: [L.Rescaling(1 / 127.5, offset=-1.0)]),
    "Normalization": (FLAT, lambda: [L.Normalization(mean=[1.0, 2, 3, 4, 5], variance=[1.0, 4, 9, 16, 25])]),
    "nothing": (FLAT, lambda: [L.Dropout(0.5), L.GaussianNoise(0.1), L.Identity(), L.Dense(2)]),
    "model in a model": (FLAT, lambda: [chain(L.Dense(4, activation="tanh"), L.Dense(3), shape=FLAT), L.Dense(2)]),
    **{
        f"activation {name}": (FLAT, lambda name=name: [L.Dense(4), L.Activation(name), L.Dense(2)])
        for name in (
            *("relu", "relu6", "leaky_relu", "sigmoid", "tanh", "elu", "selu", "gelu", "silu", "softplus", "softsign"),
            *("hard_sigmoid", "hard_silu", "exponential", "mish", "linear"),
        )
    },
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains(name: str, tmp_path: Path) -> None:
    shape, layers = CHAINS[name]
    model = chain(*layers(), shape=shape)
    x = np.random.default_rng(1).normal(size=(4, *shape)).astype(np.float32)
    (wanted,) = predicted(model, x).values()
    model.save(tmp_path / "m.keras")
    graphs = [read_model(model), read_model(tmp_path / "m.keras")]
    for graph in graphs:
        ((_, found),) = reference.infer_real(graph, {"x": x}).items()
        assert np.allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert graphs[0].to_bytes() == read_model(tmp_path / "m.keras", name=graphs[0].name).to_bytes()


def branched() -> Any:
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    shared = L.Dense(3, name="shared", activation="relu")
    first, second = shared(a), shared(L.Dense(4)(b))
    total = L.Add()([first, second, b])
    less = L.Subtract()([first, b])
    both = L.Concatenate()([total, L.Average()([less, b])])
    rows = L.Concatenate(axis=1)([L.Reshape((2, 3))(both), L.Reshape((1, 3))(b)])
    outputs = {"scores": L.Dense(2, name="last", activation="softmax")(both), "rows": rows, "inner": total}
    return filled(keras.Model([a, b], outputs))


def test_branches_with_names(tmp_path: Path) -> None:
    model = branched()
    generator = np.random.default_rng(2)
    x = {name: generator.normal(size=(5, size)).astype(np.float32) for name, size in (("a", 4), ("b", 3))}
    model.save(tmp_path / "m.keras")
    for graph in (read_model(model), read_model(tmp_path / "m.keras")):
        found = reference.infer_real(graph, x)
        assert {*found} == {"scores", "rows", "inner"}
        for name, wanted in predicted(model, x).items():
            assert np.allclose(found[name], wanted, atol=1e-5), name


def test_what_a_softmax_is_made_of_is_itself(tmp_path: Path) -> None:
    """Scores and their softmax are two outputs, and a layer may read the scores."""
    x = keras.Input((4,), name="x")
    scores = L.Dense(3, name="scores")(x)
    shares, more = L.Softmax(name="shares")(scores), L.Dense(2, name="more", activation="softmax")(scores)
    outputs = {"scores": scores, "shares": L.Dropout(0.5)(shares), "more": more, "again": shares}
    model = filled(keras.Model(x, outputs))
    model.save(tmp_path / "m.keras")
    data = {"x": np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)}
    for graph in (read_model(model), read_model(tmp_path / "m.keras")):
        found = reference.infer_real(graph, data)
        for name, wanted in predicted(model, data["x"]).items():
            assert np.allclose(found[name], wanted, atol=1e-5), name


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "layer": (lambda: chain(L.LSTM(2), shape=LINE), r"\(LSTM\) is not supported; supported are Activation"),
    "softmax inside": (lambda: chain(L.Softmax(), L.Dense(2), shape=FLAT), "reads a softmax, which the host computes"),
    "softmax twice": (
        lambda: chain(L.Dense(3, activation="softmax"), L.Softmax(), shape=FLAT),
        r"\(Softmax\) reads a softmax, which the host computes",
    ),
    "alpha": (lambda: chain(L.ELU(alpha=0.5), shape=FLAT), "has alpha 0.5, 1 is possible"),
    "threshold": (lambda: chain(L.ReLU(threshold=1.0), shape=FLAT), "has the threshold 1.0, 0 is possible"),
    "activation": (lambda: chain(L.Activation("log_softmax"), shape=FLAT), "has the activation 'log_softmax'; "),
    "free size": (lambda: chain(L.Dense(2), shape=(None, 3)), r"input 'x' has the shape .*a batch first, then fixed"),
    "no input": (lambda: keras.Sequential([L.Dense(2)]), "has no input shape|not a valid Keras model"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(ModelError, match=words):
        read_model(make())


class Own(keras.Model):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return x * 2


def test_a_model_with_code_of_its_own() -> None:
    with pytest.raises(UnsupportedOperation, match="has code of its own; Sequential and functional models are read"):
        read_model(Own())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The members of one file."""
    path = tmp_path_factory.mktemp("keras") / "m.keras"
    chain(L.Conv2D(2, 2), L.BatchNormalization(), L.Flatten(), L.Dense(3), shape=IMAGE).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members: dict[str, bytes], folder: Path) -> Path:
    path = folder / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def read_in_time(path: Path) -> None:
    """Nothing but the errors of models may come out of it, and no long work goes in."""
    start = time.process_time()
    with suppress(ModelError):
        read_model(path)
    assert time.process_time() - start < 5


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_damaged_configurations(data: st.DataObject, saved: dict[str, bytes], tmp_path_factory: Any) -> None:
    config = json.loads(saved["config.json"])
    places: list[tuple[Any, Any]] = []
    waiting: list[Any] = [config]
    while waiting:
        one = waiting.pop()
        items = one.items() if isinstance(one, dict) else enumerate(one)
        for key, value in items:
            places.append((one, key))
            if isinstance(value, dict | list):
                waiting.append(value)
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = data.draw(st.sampled_from([None, -1, 0, 1 << 40, "x", [], {}, [1], 1e300, True, [[1 << 30] * 3]]))
    read_in_time(packed(saved | {"config.json": json.dumps(config).encode()}, tmp_path_factory.mktemp("f")))


def test_damaged_archives(saved: dict[str, bytes], tmp_path: Path) -> None:
    whole = packed(saved, tmp_path).read_bytes()
    for end in range(0, len(whole), len(whole) // 40):
        (tmp_path / "cut.keras").write_bytes(whole[:end] + b"\0")
        read_in_time(tmp_path / "cut.keras")
    for changes in ({"config.json": b"{}"}, {"config.json": b"[" * 100_000}, {"model.weights.h5": b""}):
        with pytest.raises(ModelUnreadable) as caught:
            read_model(packed(saved | changes, tmp_path))
        assert "\n" not in str(caught.value)


def test_weights_that_are_somewhere_else(saved: dict[str, bytes], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["kernel"] = np.ones((2, 2, 2, 2))
    (tmp_path / "raw.bin").write_bytes(np.ones(16).tobytes())
    place = "layers/conv2d/vars"

    def external(file: Any) -> None:
        file[place]["0"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/kernel")

    def raw(file: Any) -> None:
        file[place].create_dataset("0", (2, 2, 2, 2), "f8", external=[(str(tmp_path / "raw.bin"), 0, 128)])

    def virtual(file: Any) -> None:
        layout = h5py.VirtualLayout((2, 2, 2, 2), "f8")
        layout[...] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "kernel", (2, 2, 2, 2))
        file[place].create_virtual_dataset("0", layout)

    def huge(file: Any) -> None:
        file[place].create_dataset("0", (1 << 30, 1 << 10), "f8", chunks=(1, 1))

    for change in (external, raw, virtual, huge):
        buffer = io.BytesIO(saved["model.weights.h5"])
        with h5py.File(buffer, "r+") as file:
            del file[place]["0"]
            change(file)
        with pytest.raises(ModelUnreadable, match="weights"):
            read_model(packed(saved | {"model.weights.h5": buffer.getvalue()}, tmp_path))
