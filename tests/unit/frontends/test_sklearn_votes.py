"""Classifiers that count the votes of pairs of classes, beside scikit-learn's own predict and decision_function."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, NuSVC

from gatesmith.errors import ModelUnreadable
from gatesmith.fixed import Rounding
from gatesmith.frontends import read_model
from gatesmith.gateware.engines import plan_logic
from gatesmith.model import reference
from gatesmith.model.nodes import Quantize
from gatesmith.model.vectors import corner_vectors, random_vectors
from gatesmith.quantize import quantize
from gatesmith.tensor import Datatype

DATA = {"iris": load_iris, "wine": load_wine, "digits": load_digits}
MODELS = {
    "svc": SVC(kernel="linear"),
    "nu": NuSVC(kernel="linear", nu=0.1),
    "scaled": make_pipeline(StandardScaler(), SVC(kernel="linear")),
}
ON_A_GRID = np.array([[a, b] for a in range(-3, 4) for b in range(-3, 4)], dtype=np.float64)


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", MODELS)
def test_classes_and_scores_are_the_library_s(name: str, data: str) -> None:
    x, y = DATA[data](return_X_y=True)
    x = x.astype(np.float32)
    model: Any = MODELS[name].fit(x[::2], y[::2])
    graph = read_model(model)
    found = reference.infer_real(graph, {"input": x})
    assert (found["class"] == model.predict(x)).all()
    np.testing.assert_allclose(found["scores"], model.decision_function(x), atol=1e-6)
    integer, _ = quantize(graph, x[::2], precision=10)
    rounded = reference.infer_real(integer, {"input": x[1::2]})
    assert np.mean(rounded["class"] == model.predict(x[1::2])) >= 0.98
    assert np.mean(np.abs(rounded["scores"] - model.decision_function(x[1::2]))) <= 0.15


def crossed(**options: Any) -> Any:
    """A model of four classes, most of whose decisions on a grid are exactly zero for some pair."""
    return SVC(kernel="linear", C=1e6, **options).fit([[1, 0], [0, 1], [-1, 0], [0, -1]], list("abcd"))


def test_ties_are_broken_as_in_the_library() -> None:
    model, x = crossed(), ON_A_GRID
    assert np.sum(crossed(decision_function_shape="ovo").decision_function(x) == 0) > 20
    # classes by votes and by scores are not the same here
    assert np.any(model.classes_[model.decision_function(x).argmax(axis=1)] != model.predict(x))
    graph = read_model(model)
    assert [(t.edge.name, t.datatype, t.labels) for t in graph.outputs] == [
        ("scores", Datatype.FP32, ("a", "b", "c", "d")),
        ("class", Datatype.INT64, ()),
    ]
    for each in (graph, quantize(graph, x)[0]):
        found = reference.infer_real(each, {"input": x})
        assert (model.classes_[found["class"].astype(int)] == model.predict(x)).all()
        assert np.abs(found["scores"] - model.decision_function(x)).max() <= 2e-3
    # a sign that is rounded otherwise gives a tie's vote to the other class
    nodes = [replace(n, rounding=Rounding.HALF_UP) if isinstance(n, Quantize) else n for n in graph.nodes]
    planted = reference.infer_real(replace(graph, nodes=tuple(nodes)), {"input": x / 4})
    assert np.any(model.classes_[planted["class"].astype(int)] != model.predict(x / 4))


def test_a_model_that_breaks_ties_predicts_its_largest_score() -> None:
    model = crossed(break_ties=True)
    ((name, scores),) = reference.infer_real(read_model(model), {"input": ON_A_GRID}).items()
    assert name == "scores"
    assert (model.classes_[scores.argmax(axis=1)] == model.predict(ON_A_GRID)).all()


def test_the_plan_counts_the_same_votes() -> None:
    x, y = load_wine(return_X_y=True)
    graph, _ = quantize(read_model(SVC(kernel="linear").fit(x, y)), x)
    vectors = np.concatenate([corner_vectors(graph), random_vectors(graph, 2000)])
    assert (plan_logic(graph).infer(vectors) == reference.infer(graph, vectors)).all()


def test_classes_without_decisions_are_refused() -> None:
    model = crossed()
    model.classes_ = np.arange(5)
    with pytest.raises(ModelUnreadable, match="SVC has 6 decisions for the pairs of 5 classes"):
        read_model(model)
