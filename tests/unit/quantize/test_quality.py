"""What quantising costs, measured by a witness on data that neither training nor calibration has seen."""

from __future__ import annotations

import warnings
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import witness
from networks import mlp
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn import datasets
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from gatesmith.frontends import read_model
from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.quantize import quantize

CLASSIFIERS = {
    "mlp": lambda: make_pipeline(StandardScaler(), MLPClassifier((16,), max_iter=400, random_state=0)),
    "deep": lambda: make_pipeline(MinMaxScaler(), MLPClassifier((32, 16), max_iter=400, random_state=0)),
    "tanh": lambda: make_pipeline(
        StandardScaler(), MLPClassifier((16,), activation="tanh", max_iter=400, random_state=0)
    ),
    "linear": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
}
SETS = {
    "iris": datasets.load_iris,
    "digits": datasets.load_digits,
    "cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
}


@cache
def split(name: str) -> Any:
    x, y = SETS[name](return_X_y=True)
    return train_test_split(x, y, test_size=0.4, random_state=0, stratify=y)


def linear(weight: NDArray[np.float64], bias: NDArray[np.float64]) -> Graph:
    builder = GraphBuilder("linear")
    builder.output(builder.dense("dense", builder.input("x", (len(weight),)), weight, bias), "y")
    return builder.graph()


def on_host(graph: Graph, x: NDArray[np.float64]) -> NDArray[np.int64]:
    """The input's integers, by the contract's words alone: scale, round half to even, saturate."""
    terminal = graph.inputs[0]
    for operation in terminal.host:
        x = x * np.array(operation.scale) + np.array(operation.offset)
    format = terminal.edge.fixed
    return np.clip(np.rint(x * 2.0**format.fraction_bits), format.min_integer, format.max_integer).astype(np.int64)


def witnessed(graph: Graph, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Real outputs of an integer graph without any of its own code but the description."""
    terminal = graph.outputs[0]
    real = witness.infer(graph, on_host(graph, x)) / 2.0**terminal.edge.fixed.fraction_bits
    for operation in terminal.host:
        real = real * np.array(operation.scale) if operation.kind == "scale" else softmax(real, axis=1)
    return real


@pytest.mark.parametrize("data", SETS)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_accuracy_on_held_out_samples_at_8_bits(name: str, data: str) -> None:
    x, x_new, y, y_new = split(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = CLASSIFIERS[name]().fit(x, y)
    graph, report = quantize(read_model(estimator), x)
    wanted = estimator.predict_proba(x_new)
    given = reference.infer_real(graph, {"input": x_new})["probabilities"]
    few = slice(0, 25)
    assert np.abs(witnessed(graph, x_new[few]) - given[few]).max() < 1e-12
    lost = np.sum(wanted.argmax(axis=1) == y_new) - np.sum(given.argmax(axis=1) == y_new)
    # shares of as few as 72 samples: one of them is more than a hundredth
    assert lost <= 0.01 * len(y_new) + 1
    assert np.sum(wanted.argmax(axis=1) != given.argmax(axis=1)) <= 0.025 * len(y_new) + 1
    assert report.agreement is not None
    assert (1 - report.agreement) * len(y) <= 0.025 * len(y) + 1


@pytest.mark.parametrize(("precision", "limit"), [(8, 0.05), (10, 0.02), (12, 0.01), (16, 0.005)])
@pytest.mark.parametrize("kind", ["ridge", "network"])
def test_error_of_regressors(kind: str, precision: int, limit: float) -> None:
    x, y = datasets.load_diabetes(return_X_y=True)
    network = MLPRegressor(hidden_layer_sizes=(8,), solver="lbfgs", alpha=1.0, max_iter=1000, random_state=0)
    estimator = (Ridge(0.1) if kind == "ridge" else make_pipeline(StandardScaler(), network)).fit(
        x[:300], y[:300] / 100
    )
    graph, report = quantize(read_model(estimator), x[:300], precision=precision)
    wanted = estimator.predict(x[300:]).reshape(-1, 1)
    error = np.abs(witnessed(graph, x[300:]) - wanted).max()
    assert error <= limit * np.ptp(wanted)
    assert report.agreement is None
    assert report.max_abs_error <= limit * np.ptp(estimator.predict(x[:300]))


def test_error_falls_with_precision() -> None:
    graph = mlp(6, 10, 4)
    x = np.random.default_rng(2).normal(size=(500, 6))
    wanted = reference.infer_real(graph, {"x": x})["y"]

    def error(precision: int) -> float:
        return float(
            np.sqrt(np.mean((witnessed(quantize(graph, x, precision=precision)[0], x[:60]) - wanted[:60]) ** 2))
        )

    errors = [error(precision) for precision in (4, 6, 8, 10, 12)]
    assert all(finer < coarser / 2 for coarser, finer in pairwise(errors)), errors


def test_the_report_is_what_the_witness_finds() -> None:
    graph = mlp(4, 6, 3)
    x = np.random.default_rng(2).normal(size=(100, 4))
    integer, report = quantize(graph, x, precision=5)
    wanted, given = reference.infer_real(graph, {"x": x})["y"], witnessed(integer, x)
    assert report.max_abs_error == pytest.approx(np.abs(wanted - given).max(), rel=1e-12)
    assert report.agreement == np.mean(wanted.argmax(axis=1) == given.argmax(axis=1))
    assert report.to_json() == {
        "precision_bits": 5,
        "samples": 100,
        "agreement": report.agreement,
        "max_abs_error": report.max_abs_error,
        "rounding": "half_up",
    }


def test_features_of_different_ranges_are_scaled_on_the_host() -> None:
    ranges = np.array([1e-4, 1.0, 30.0, 5e5])
    x = np.random.default_rng(0).normal(size=(500, 4)) * ranges
    y = np.argmax((x / ranges) @ np.random.default_rng(1).normal(size=(4, 3)), axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    graph, report = quantize(read_model(estimator), x)
    assert [operation.kind for operation in graph.inputs[0].host] == ["scale"]
    assert report.agreement is not None
    assert report.agreement > 0.97
    # without a scaler the weights themselves differ by ten decades
    weight = np.random.default_rng(1).normal(size=(4, 3)) / ranges[:, None]
    graph, report = quantize(linear(weight, np.zeros(3)), x)
    scale = np.array(graph.inputs[0].host[0].scale)
    assert (np.log2(scale) == np.rint(np.log2(scale))).all()
    assert ((np.abs(x) * scale).max(axis=0) <= 1).all()
    assert ((np.abs(x) * scale).max(axis=0) > 0.5).all()
    assert report.agreement is not None
    assert report.agreement > 0.97


def test_features_of_one_range_are_left_to_the_gateware() -> None:
    graph, _ = quantize(mlp(4, 6, 3), np.random.default_rng(0).normal(size=(300, 4)))
    assert graph.inputs[0].host == ()
    assert graph.outputs[0].host == ()


def test_constant_features_cost_nothing() -> None:
    graph = mlp(4, 6, 3)
    x = np.random.default_rng(0).normal(size=(300, 4))
    for value in (0.0, 0.75, -1.0):
        x[:, 2] = value
        wanted = reference.infer_real(graph, {"x": x})["y"]
        assert np.abs(witnessed(quantize(graph, x)[0], x[:50]) - wanted[:50]).max() < 0.05


def test_a_model_that_always_says_the_same() -> None:
    graph = mlp(3, 2, scale=0.0)
    x = np.random.default_rng(0).normal(size=(50, 3))
    integer, report = quantize(graph, x)
    assert report.max_abs_error == 0
    assert (witnessed(integer, x) == 0).all()
    zero = np.zeros((5, 3))  # nothing but the biases is seen
    zeros, _ = quantize(mlp(3, 4, 2), zero)
    assert np.abs(witnessed(zeros, zero) - reference.infer_real(mlp(3, 4, 2), {"x": zero})["y"]).max() < 0.01


def test_a_bias_survives_whole_weights_and_inputs() -> None:
    """Pixels are whole numbers, and so may the weights be; the half of the bias must not be rounded away."""
    integer, report = quantize(linear(np.ones((2, 1)), np.array([0.5])), np.arange(40.0).reshape(20, 2))
    assert report.max_abs_error == 0
    assert (witnessed(integer, np.array([[3.0, 4.0]])) == 7.5).all()


def test_unseen_values_saturate() -> None:
    graph = mlp(3, 2)
    x = np.random.default_rng(0).uniform(-1, 1, size=(300, 3))
    integer, _ = quantize(graph, x)
    far = witnessed(integer, np.full((1, 3), 1e9))
    assert np.abs(far - witnessed(integer, np.full((1, 3), 1e6))).max() == 0
