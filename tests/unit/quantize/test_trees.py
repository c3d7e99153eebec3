"""Trees keep the library's decisions at the default precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from gatesmith.frontends import read_model
from gatesmith.model import reference
from gatesmith.quantize import quantize

MODELS = {
    "tree": DecisionTreeClassifier(random_state=0),
    "forest": RandomForestClassifier(10, max_depth=6, random_state=0),
    "scaled": make_pipeline(StandardScaler(), ExtraTreesClassifier(10, max_depth=6, random_state=0)),
    "clipped": make_pipeline(MinMaxScaler(clip=True), GradientBoostingClassifier(n_estimators=10, random_state=0)),
}
DATA = {"iris": load_iris, "cancer": load_breast_cancer, "digits": load_digits}


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", MODELS)
def test_classes_are_kept(name: str, data: str) -> None:
    x, y = DATA[data](return_X_y=True)
    x = x.astype(np.float32)
    estimator: Any = MODELS[name].fit(x[::2], y[::2])
    graph, report = quantize(read_model(estimator), x[::2])
    assert report.agreement is not None
    assert report.agreement >= 0.999
    given = reference.infer_real(graph, {"input": x[1::2]})["probabilities"].argmax(axis=1)
    # the other half was not seen: scikit-learn's own prediction is the oracle
    assert np.mean(given == estimator.predict(x[1::2])) >= 0.98
    assert graph.inputs[0].edge.fixed.width <= 16
    assert graph.outputs[0].edge.fixed.width <= 16


def test_numbers_are_kept() -> None:
    x, y = load_diabetes(return_X_y=True)
    x = x.astype(np.float32)
    estimator = GradientBoostingRegressor(n_estimators=20, random_state=0).fit(x, y)
    graph, _ = quantize(read_model(estimator), x)
    given = reference.infer_real(graph, {"input": x})["predictions"].ravel()
    wanted = estimator.predict(x)
    assert np.sqrt(np.mean((given - wanted) ** 2)) <= np.std(wanted) / 256


def test_more_precision_is_nearer() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    graph = read_model(GradientBoostingClassifier(n_estimators=20, random_state=0).fit(x, y))
    errors = [quantize(graph, x, precision=precision)[1].max_abs_error for precision in (3, 12)]
    assert errors[1] < errors[0]
