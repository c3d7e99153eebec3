"""Thresholds of data on a grid, and what samples that were not seen keep at default precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xgboost
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

from gatesmith.frontends import read_model
from gatesmith.frontends.ensembles import Forest, Tree
from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.quantize import quantize
from gatesmith.quantize.more_samples import denser, mixed


def stumps(thresholds: Any) -> Graph:
    """The number of thresholds that a single feature is above, one tree for each."""
    forest = Forest(np.zeros(1))
    for limit in thresholds:
        values = np.array([[0.0], [0.0], [1.0]])
        forest.add(Tree(feature=[0, 0, 0], threshold=[limit, 0, 0], left=[1, -1, -1], right=[2, -1, -1], value=values))
    builder = GraphBuilder("stumps")
    builder.output(forest.place(builder, "trees", builder.input("input", (1,))), "count")
    return builder.graph()


@pytest.mark.parametrize("step", [1.0, 0.25, 0.1])
@pytest.mark.parametrize("place", ["between", "on", "below"])
@pytest.mark.parametrize("seen", ["all", "some"])
def test_thresholds_of_data_on_a_grid_part_its_values(place: str, step: float, seen: str) -> None:
    grid = (np.arange(-5, 12) * step).astype(np.float32)
    limits = {
        "between": (grid[1:] + grid[:-1]) / 2,
        "on": grid[:-1],
        "below": np.nextafter(grid[1:], np.float32(-np.inf)),  # XGBoost's x < t
    }[place].astype(np.float64)
    x = np.repeat(grid if seen == "all" else grid[[0, 1, 2, 5, 9, 16]], 40)[:, None]
    wanted = np.sum(grid[:, None] > limits, axis=1)
    given = reference.infer_real(quantize(stumps(limits), x)[0], {"input": grid[:, None]})["count"].ravel()
    assert (given == wanted).all()
    # the count tells a threshold that is one value off
    limits[3] += 1.01 * step
    assert np.any(np.sum(grid[:, None] > limits, axis=1) != wanted)


MODELS = {
    "forest": RandomForestClassifier(30, max_depth=8, random_state=0),
    "boosting": GradientBoostingClassifier(n_estimators=10, random_state=0),
    "xgboost": xgboost.XGBClassifier(n_estimators=15, max_depth=4, random_state=0),
}


@pytest.mark.parametrize("name", MODELS)
def test_classes_of_unseen_digits_are_kept(name: str) -> None:
    x, y = load_digits(return_X_y=True)
    model: Any = MODELS[name].fit(x[::2], y[::2])
    graph, _ = quantize(read_model(model), x[::2].astype(np.float32))
    # 898 digits that were not seen, of which one in a thousand may differ, and 40 times as many like them
    change = np.random.default_rng(0).integers(-1, 2, size=(40 * 898, 64))
    for unseen, most in ((x[1::2], 5), (np.clip(np.repeat(x[1::2], 40, axis=0) + change, 0, 16), 72)):
        given = reference.infer_real(graph, {"input": unseen})["probabilities"].argmax(axis=1)
        assert np.sum(given != model.predict(unseen)) <= most


def test_numbers_beyond_float32_are_no_warning() -> None:
    x = load_breast_cancer().data[:50] * 1e39
    for made in (denser(x), mixed(x)):
        assert not np.isnan(made).any()


def test_more_samples_are_between_those_that_were_seen() -> None:
    x = load_breast_cancer().data[:200].copy()
    x[:, 0] = np.round(x[:, 0] / 8)  # few values
    x[5, 1] = np.nan
    for made in (denser(x), mixed(x)):
        assert len(made) >= 10 * len(x)
        low, high = np.nanmin(x, axis=0), np.nanmax(x, axis=0)
        # float32, as a client sends them
        assert np.nanmin(made - low, axis=0).min() >= -1e-3
        assert np.nanmax(made - high, axis=0).max() <= 1e-3
        assert set(made[:, 0]) <= set(x[:, 0])
        assert 0 < np.isnan(made[:, 1]).mean() < 0.05
        assert not np.isnan(np.delete(made, 1, axis=1)).any()
