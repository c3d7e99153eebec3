"""Calibration data: what is taken, and the one line for what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import mlp, network

from gatesmith.errors import AccuracyLost, CalibrationNeeded
from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.quantize import load_calibration, quantize
from gatesmith.quantize.calibrate import MAX_SAMPLES, check_calibration

GRAPH = mlp(3, 2, name="tiny")
X = np.random.default_rng(0).normal(size=(20, 3))


def spoiled(value: float) -> Any:
    x = X.copy()
    x[7, 1] = x[9, 0] = value
    return x


REFUSED: dict[str, tuple[Any, str]] = {
    "none": (None, r"model 'tiny' has no calibration data for its inputs \(x: \[3\]\); give some with --calibration"),
    "nan": (spoiled(np.nan), "holds 2 values that are not finite, the first at row 7: nan; remove or fill them"),
    "inf": (spoiled(-np.inf), "holds 2 values that are not finite, the first at row 7: -inf"),
    "width": (X[:, :2], r"input 'x' has shape \[20, 2\], \[samples, 3\] is needed"),
    "flat": (X[0], r"has shape \[3\], \[samples, 3\] is needed"),
    "deep": (X[None], r"has shape \[1, 20, 3\], \[samples, 3\] is needed"),
    "number": (np.float64(3), r"has shape \[\], \[samples, 3\] is needed"),
    "empty": (X[:0], "holds no sample; give some with --calibration"),
    "nothing": ([], r"has shape \[0\], \[samples, 3\] is needed"),
    "words": (np.array([["a", "b", "c"]]), "has the dtype <U1, numbers are needed"),
    "objects": (np.array([[1, 2, None]], dtype=object), "has the dtype object, numbers are needed"),
    "complex": (X * 1j, "has the dtype complex128, numbers are needed"),
    "dates": (X.astype("M8[s]"), r"has the dtype datetime64\[s\], numbers are needed"),
    "names": ({"a": X, "b": X}, r"calibration data has \['a', 'b'\], input 'x' is not among them; give some"),
    "no names": ({}, r"calibration data has \[\], input 'x' is not among them"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    data, words = REFUSED[name]
    with pytest.raises(CalibrationNeeded, match=words) as caught:
        quantize(GRAPH, data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data", [X, X.tolist(), {"x": X}, {"x": X.tolist()}, {"X": X}, {"x_train": X, "y_train": X[:, 0]}, {"other": X}]
)
def test_one_input_s_data_may_have_any_name(data: Any) -> None:
    assert (check_calibration(GRAPH, data)["x"] == X).all()


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "i1", "u1", "i8", "?"])
def test_every_kind_of_number(dtype: str) -> None:
    values = (np.abs(X) * 3).astype(dtype)
    found = check_calibration(GRAPH, values)["x"]
    assert found.dtype == np.float64
    assert (found == values).all()
    quantize(GRAPH, values)


def test_many_samples_are_thinned_out_evenly() -> None:
    x = np.arange(3.0 * (MAX_SAMPLES + 1)).reshape(-1, 3)
    found = check_calibration(GRAPH, x)["x"]
    assert len(found) == MAX_SAMPLES // 2 + 1
    assert (np.diff(found[:, 0]) == 6).all()
    assert len(check_calibration(GRAPH, x[:-1])["x"]) == MAX_SAMPLES


def test_images_may_be_flat() -> None:
    graph, data = network("images")
    flat = data["x"].reshape(len(data["x"]), -1)
    assert (check_calibration(graph, flat)["x"] == data["x"]).all()


def test_several_inputs() -> None:
    graph, data = network("two inputs")
    with pytest.raises(CalibrationNeeded, match=r"calibration data has \['a'\], input 'b' is not among them"):
        quantize(graph, {"a": data["a"]})
    with pytest.raises(CalibrationNeeded, match=r"input 'a' is not among them"):
        quantize(graph, data["a"])
    with pytest.raises(CalibrationNeeded, match=r"different numbers of samples: \{'a': 300, 'b': 299\}"):
        quantize(graph, {"a": data["a"], "b": data["b"][1:]})
    quantize(graph, {**data, "labels": np.array(["more", "is", "ignored"])})


def test_one_sample_is_enough() -> None:
    quantize(GRAPH, X[:1])


@pytest.mark.parametrize("precision", [1, 0, -3, 17])
def test_precisions_that_do_not_exist(precision: int) -> None:
    with pytest.raises(AccuracyLost, match=f"precision {precision} bits, 2 to 16 are possible"):
        quantize(GRAPH, X, precision=precision)


def test_a_float_model_that_overflows_is_named() -> None:
    builder = GraphBuilder("m")
    builder.output(builder.table("power", builder.input("x", (3,)), "exp"), "y")
    x = np.zeros((5, 3))
    x[3, 1] = x[4, 2] = 1000
    with pytest.raises(AccuracyLost, match=r"edge 'y' of the float model is not finite for 2 of 5 .* first at row 3"):
        quantize(builder.graph(), x)


def test_values_beyond_reason_are_refused() -> None:
    with pytest.raises(AccuracyLost, match="values reach 1e\\+70, 2\\*\\*200 is possible"):
        quantize(GRAPH, X * 0 + 1e70)


def test_files(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "x.csv", X, delimiter=",", header="a,b,c")
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "x.npz", rows=X)
    for name in ("x.csv", "x.npy", "x.npz"):
        assert (check_calibration(GRAPH, load_calibration(tmp_path / name))["x"] == X).all()


def test_bad_files(tmp_path: Path) -> None:
    (tmp_path / "ragged.csv").write_text("1,2,3\n4,5\n")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name, words in (
        ("none.csv", "does not exist"),
        ("ragged.csv", "row 2 has 2 columns, the first sample has 3"),
        ("objects.npy", "Object arrays cannot be loaded"),
    ):
        with pytest.raises(CalibrationNeeded, match=f"^calibration file .*{words}.*; give some with --calibration"):
            load_calibration(tmp_path / name)
