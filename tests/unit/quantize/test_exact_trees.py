"""Precision exact: the library's own predictions are the oracle, at its thresholds and beside them too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xgboost
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from gatesmith.errors import UnsupportedOperation
from gatesmith.frontends import read_model
from gatesmith.gateware.forest import plant
from gatesmith.model import reference
from gatesmith.model.ensemble import TreeEnsemble
from gatesmith.model.graph import Graph
from gatesmith.model.vectors import corner_vectors, random_vectors
from gatesmith.quantize.exact_trees import allocate_exact, largest_error
from gatesmith.quantize.fold import fold

MODELS = {
    "tree": DecisionTreeClassifier(random_state=0),
    "votes": RandomForestClassifier(12, random_state=0),
    "shares": RandomForestClassifier(7, max_depth=4, random_state=0),
    "boosted": GradientBoostingClassifier(n_estimators=5, random_state=0),
    "xgboost": xgboost.XGBClassifier(n_estimators=8, max_depth=4),
}
DATA = {"iris": load_iris, "cancer": load_breast_cancer, "digits": load_digits}


def exact(estimator: Any, x: np.ndarray) -> Graph:
    return allocate_exact(fold(read_model(estimator)), {"input": x.astype(np.float64)})


def near_thresholds(graph: Graph, x: np.ndarray) -> np.ndarray:
    """Samples with one feature at a threshold, or at the float32 before or after it."""
    (trees,) = (node for node in graph.nodes if isinstance(node, TreeEnsemble))
    generator = np.random.default_rng(0)
    rows = x[generator.integers(len(x), size=3 * len(trees.feature))]
    at = trees.threshold.astype(np.float32)
    values = np.concatenate([at, np.nextafter(at, np.float32(-np.inf)), np.nextafter(at, np.float32(np.inf))])
    rows[np.arange(len(rows)), np.tile(trees.feature, 3)] = values
    return rows


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", MODELS)
def test_every_decision_is_the_librarys(name: str, data: str) -> None:
    x, y = DATA[data](return_X_y=True)
    x = x.astype(np.float32)
    estimator: Any = clone(MODELS[name]).fit(x[::2], y[::2])
    graph = exact(estimator, x[::2])
    hard = np.concatenate([x, near_thresholds(read_model(estimator), x)])
    given = reference.infer_real(graph, {"input": hard})["probabilities"].argmax(axis=1)
    wanted = estimator.predict(hard)
    if name in {"votes", "shares"}:
        # a sample at which the library's own scores tie to the last bits may be decided either way
        scores = np.sort(estimator.predict_proba(hard), axis=1)
        clear = scores[:, -1] - scores[:, -2] > 1e-9
        given, wanted = given[clear], wanted[clear]
    assert (given == wanted).all()
    vectors = np.concatenate([corner_vectors(graph), random_vectors(graph, 50)])
    assert (plant(graph).infer(vectors) == reference.infer(graph, vectors)).all()


def test_votes_are_single_bits() -> None:
    x, y = load_digits(return_X_y=True)
    graph = exact(RandomForestClassifier(12, random_state=0).fit(x, y), x)
    scores = graph.outputs[0].edge.fixed
    assert (scores.width, scores.fraction_bits) == (4, 0)  # 0 to 12


def test_numbers_are_as_near_as_float32() -> None:
    x, y = load_diabetes(return_X_y=True)
    x = x.astype(np.float32)
    estimator = GradientBoostingRegressor(n_estimators=20, random_state=0).fit(x, y)
    given = reference.infer_real(exact(estimator, x), {"input": x})["predictions"].ravel()
    wanted = estimator.predict(x)
    assert np.max(np.abs(given - wanted)) <= 20 * np.max(np.abs(wanted)) * 2.0**-24


def test_no_sample_is_off_by_more_than_the_bound() -> None:
    x, y = load_iris(return_X_y=True)
    float_graph = fold(read_model(xgboost.XGBClassifier(n_estimators=8, max_depth=3).fit(x, y)))
    graph = allocate_exact(float_graph, {"input": x})
    (wanted,), (given,) = ([n for n in g.nodes if isinstance(n, TreeEnsemble)] for g in (float_graph, graph))
    bound = largest_error(given, wanted)
    differences = given.value[given.leaves(_integers(graph, x))] - wanted.value[wanted.leaves(x)]
    found = np.abs(differences.sum(axis=1) + given.bias - wanted.bias).max()
    assert 0 < found <= bound <= len(given.root) * np.abs(wanted.value).sum() * 2.0**-24


def test_a_bin_that_is_off_is_caught() -> None:
    x, y = load_iris(return_X_y=True)
    x = x.astype(np.float32)
    estimator = DecisionTreeClassifier(random_state=0).fit(x, y)
    graph = exact(estimator, x)
    hard = near_thresholds(read_model(estimator), x)
    (terminal,) = graph.inputs
    bins, *rest = terminal.host
    moved = replace(bins, edges=tuple(tuple(np.nextafter(each, -np.inf)) for each in bins.edges))
    planted = replace(graph, inputs=(replace(terminal, host=(moved, *rest)),))
    wanted = estimator.predict(hard)
    answers = [reference.infer_real(g, {"input": hard})["probabilities"].argmax(axis=1) for g in (graph, planted)]
    assert (answers[0] == wanted).all()
    assert (answers[1] != wanted).any()


def test_other_models_are_refused() -> None:
    x, y = load_iris(return_X_y=True)
    graph = fold(read_model(LogisticRegression(max_iter=500).fit(x, y)))
    with pytest.raises(UnsupportedOperation, match="has no trees, precision exact is for trees; give 2 to 16 bits"):
        allocate_exact(graph, {"input": x})


def _integers(graph: Graph, x: np.ndarray) -> np.ndarray:
    values = x.astype(np.float64)
    for operation in graph.inputs[0].host:
        values = operation.apply(values)
    return values
