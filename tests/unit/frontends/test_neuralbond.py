"""BondMachine's networks give what its FPGA gave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import damaged, whole_or_refused

from gatesmith.errors import ModelUnreadable, UnsupportedOperation
from gatesmith.frontends import read_model
from gatesmith.model import reference

DATA = Path(__file__).parents[4] / "shared" / "data" / "bondmachine"  # not part of the project
X = np.random.default_rng(0).normal(size=(7, 3))


def network(widths: list[int], kinds: list[str], *, softmax: bool = False) -> dict[str, list[dict[str, Any]]]:
    """A dense network with normal weights; the last layers as neuralbond writes them."""
    generator = np.random.default_rng(1)
    if softmax:
        widths, kinds = [*widths, widths[-1]], [*kinds, "softmax"]
    widths, kinds = [*widths, widths[-1]], [*kinds, "output"]
    nodes = [
        {"Layer": layer, "Pos": place, "Type": kind, "Bias": 0.0 if kind in FIXED else generator.normal()}
        for layer, (width, kind) in enumerate(zip(widths, kinds, strict=True))
        for place in range(width)
    ]
    weights = [
        {"Layer": layer, "PosCurrLayer": here, "PosPrevLayer": there, "Value": value}
        for layer in range(1, len(widths))
        for here in range(widths[layer])
        for there in range(widths[layer - 1])
        if (value := {"output": float(here == there), "softmax": 1.0}.get(kinds[layer], generator.normal()))
    ]
    return {"Nodes": nodes, "Weights": weights}


FIXED = {"input", "output", "softmax"}


def infer(model: Any, x: Any, tmp_path: Path) -> tuple[str, Any]:
    path = tmp_path / "model"
    path.write_text(json.dumps(model))
    ((name, values),) = reference.infer_real(read_model(path), {"input": x}).items()
    return name, values


@pytest.mark.skipif(not DATA.is_dir(), reason="the benchmark's files are not here")
def test_the_outputs_of_the_fpga() -> None:
    text = (DATA / "bm_banknote_inputs.csv").read_text().replace("0f", "")
    x = np.array([[float(word) for word in line.split(",")] for line in text.split()])
    wanted = np.array([json.loads(line) for line in (DATA / "bm_output.txt").read_text().splitlines()])
    given = reference.infer_real(read_model(DATA / "bm_banknote.json"), {"input": x})["probabilities"]
    np.testing.assert_allclose(given[: len(wanted)], wanted, atol=5e-5)


def test_a_network_of_several_layers(tmp_path: Path) -> None:
    model = network([3, 5, 4, 2], ["input", "relu", "sigmoid", "tanh"])
    x = X
    values = x
    functions = (lambda v: np.maximum(v, 0), lambda v: 1 / (1 + np.exp(-v)), np.tanh)
    for layer, function in enumerate(functions, 1):
        nodes = [node for node in model["Nodes"] if node["Layer"] == layer]
        weight = np.zeros((values.shape[1], len(nodes)))
        for each in model["Weights"]:
            if each["Layer"] == layer:
                weight[each["PosPrevLayer"], each["PosCurrLayer"]] = each["Value"]
        values = function(values @ weight + [node["Bias"] for node in nodes])
    name, given = infer(model, x, tmp_path)
    assert name == "predictions"
    np.testing.assert_allclose(given, values, atol=1e-12)


def test_softmax_is_the_hosts(tmp_path: Path) -> None:
    model = network([3, 2], ["input", "linear"], softmax=True)
    name, given = infer(model, X, tmp_path)
    assert name == "probabilities"
    np.testing.assert_allclose(given.sum(axis=1), 1.0)


def changed(**changes: Any) -> dict[str, Any]:
    model = network([3, 2], ["input", "linear"], softmax=True)
    model["Nodes"][3] |= changes
    return model


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (
            network([3, 2], ["input", "cosine"]),
            UnsupportedOperation,
            "layer 1 has nodes of the kind 'cosine'; supported",
        ),
        (
            network([3, 2, 2], ["input", "softmax", "linear"]),
            UnsupportedOperation,
            "weighs its softmax|reads a softmax",
        ),
        (changed(Type="relu"), UnsupportedOperation, "a layer of the kinds linear, relu; one is possible"),
        (changed(Pos=7), ModelUnreadable, "place 7 of 2"),
        (changed(Pos=1), ModelUnreadable, "not finite"),
        (changed(Layer=9), ModelUnreadable, "has the layers"),
        ({"Nodes": [{"Layer": 1}], "Weights": []}, ModelUnreadable, "has the layers"),
    ],
)
def test_refused(model: Any, error: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        infer(model, np.zeros((1, 3)), tmp_path)


def test_damaged_files(tmp_path: Path) -> None:
    whole = json.dumps(network([3, 4, 2], ["input", "relu", "linear"], softmax=True)).encode()
    for data in damaged(whole, 500):
        whole_or_refused(data, tmp_path / "model")
