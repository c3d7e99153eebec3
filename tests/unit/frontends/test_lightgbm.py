"""LightGBM models give LightGBM's own predictions, from objects and from text files."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import damaged, whole_or_refused
from numpy.typing import NDArray

from gatesmith.errors import ModelUnreadable, UnsupportedOperation
from gatesmith.frontends import read_model
from gatesmith.model import reference
from gatesmith.model.ensemble import TreeEnsemble
from gatesmith.quantize import quantize

lightgbm = pytest.importorskip("lightgbm")

GENERATOR = np.random.default_rng(0)
X = (GENERATOR.normal(size=(300, 4)) * [1, 10, 0.1, 3]).astype(np.float32)
HOLES = np.where(GENERATOR.random(X.shape) < 0.15, np.nan, X).astype(np.float32)
TWO = (X[:, 0] + X[:, 3] / 3 > 0).astype(int)
THREE = (X[:, 0] > 0).astype(int) + (X[:, 1] > 5)
NUMBER = X @ [1, 0.2, 3, -1]
GROUPS = [30] * 10

OBJECTIVES: dict[str, tuple[dict[str, Any], NDArray[Any]]] = {
    "binary": ({}, TWO),
    "binary-sigmoid": ({"sigmoid": 2.5}, TWO),
    "multiclass": ({}, THREE),
    "multiclassova": ({}, THREE),
    "cross_entropy": ({}, TWO),
    "regression": ({}, NUMBER),
    "regression_l1": ({}, NUMBER),
    "huber": ({}, NUMBER),
    "quantile": ({}, NUMBER),
    "lambdarank": ({}, THREE),
    "rank_xendcg": ({}, THREE),
    "regression-dart": ({"boosting": "dart"}, NUMBER),
    "binary-rf": ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}, TWO),
    "multiclass-rf": ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}, THREE),
    "regression-extra": ({"extra_trees": True}, NUMBER),
}
PLAIN = {"verbose": -1, "num_leaves": 7, "min_data_in_leaf": 5, "seed": 0, "num_threads": 1}


def trained(name: str, x: NDArray[Any] = X, rounds: int = 6, **more: Any) -> Any:
    changes, y = OBJECTIVES[name]
    objective = name.partition("-")[0]
    parameters = {**PLAIN, "objective": objective, **changes, **more}
    if objective.startswith("multiclass"):
        parameters["num_class"] = 3
    group = GROUPS if "rank" in objective else None
    return lightgbm.train(parameters, lightgbm.Dataset(x, y, group=group), rounds)


def infer(model: object, x: NDArray[Any] = X) -> tuple[str, NDArray[np.float64]]:
    ((name, values),) = reference.infer_real(read_model(model), {"input": x}).items()
    return name, values


def agrees(booster: Any, name: str, values: NDArray[Any], x: NDArray[Any] = X) -> None:
    raw = name == "scores"  # each sigmoid by itself has no place on the host
    wanted = booster.predict(x, raw_score=raw)
    if name == "probabilities" and wanted.ndim == 1:
        wanted = np.stack([1 - wanted, wanted], axis=1)
    np.testing.assert_allclose(values.reshape(wanted.shape), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives(name: str, tmp_path: Path) -> None:
    booster = trained(name)
    booster.save_model(tmp_path / "model.txt")
    for model in (booster, tmp_path / "model.txt"):
        given, values = infer(model)
        agrees(booster, given, values)
    expected = {"binary": "probabilities", "multiclass": "probabilities", "cross_entropy": "probabilities"}
    assert given == expected.get(name.partition("-")[0], "scores" if name == "multiclassova" else "predictions")


def test_estimators_name_their_classes() -> None:
    names = np.array(["setosa", "versicolor", "virginica"])[THREE]
    estimator = lightgbm.LGBMClassifier(n_estimators=4, n_jobs=1, verbose=-1).fit(X, names)
    graph = read_model(estimator)
    assert graph.outputs[0].labels == ("setosa", "versicolor", "virginica")
    np.testing.assert_allclose(infer(estimator)[1], estimator.booster_.predict(X), rtol=1e-9)


def test_an_estimator_that_stopped_early_uses_its_best_iteration(tmp_path: Path) -> None:
    data = lightgbm.Dataset(X[:150], NUMBER[:150])
    booster = lightgbm.train(
        {**PLAIN, "objective": "regression", "learning_rate": 0.9},
        data,
        60,
        valid_sets=[data.create_valid(X[150:], NUMBER[150:])],
        callbacks=[lightgbm.early_stopping(3, verbose=False)],
        keep_training_booster=True,
    )
    assert booster.best_iteration < booster.current_iteration()
    booster.save_model(tmp_path / "model.txt")
    for model in (booster, tmp_path / "model.txt"):
        agrees(booster, *infer(model))


def node(model: object) -> TreeEnsemble:
    found = read_model(model).nodes[0]
    assert isinstance(found, TreeEnsemble)
    return found


def beside_thresholds(ensemble: TreeEnsemble, x: NDArray[Any], count: int = 400) -> NDArray[np.float64]:
    """Samples with numbers that lie exactly on thresholds, and one step of float64 beside them."""
    generator = np.random.default_rng(1)
    rows = x[generator.integers(len(x), size=count)].astype(np.float64)
    for row in rows:
        for split in generator.integers(len(ensemble.feature), size=3):
            towards = generator.choice([-np.inf, np.inf, ensemble.threshold[split]])
            row[ensemble.feature[split]] = np.nextafter(ensemble.threshold[split], towards)
    return rows


@pytest.mark.parametrize("name", ["regression", "multiclass"])
def test_on_and_beside_thresholds(name: str) -> None:
    booster = trained(name, rounds=20)
    ensemble = node(booster)
    x = beside_thresholds(ensemble, X)
    np.testing.assert_allclose(
        np.squeeze(ensemble.evaluate([x], [None])), booster.predict(x, raw_score=True), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("use_missing", [True, False])
def test_missing_values_go_where_they_went(use_missing: bool) -> None:
    booster = trained("regression", HOLES, rounds=20, use_missing=use_missing)
    ensemble = node(booster)
    assert (ensemble.missing is not None) == use_missing
    x = np.where(np.random.default_rng(2).random(HOLES.shape) < 0.2, 0.0, HOLES)
    x = x if use_missing else np.nan_to_num(x)  # a missing value is a zero then
    np.testing.assert_allclose(ensemble.evaluate([x], [None]).ravel(), booster.predict(x), rtol=1e-9, atol=1e-12)


def test_a_model_where_some_features_have_no_missing_values() -> None:
    half = np.where([True, False, True, False], HOLES, X)
    booster = trained("regression", half, rounds=20)
    np.testing.assert_allclose(
        node(booster).evaluate([HOLES.astype(np.float64)], [None]).ravel(), booster.predict(HOLES), rtol=1e-9
    )


def test_zeros_that_are_missing_values() -> None:
    x = np.maximum(X, 0)
    models = [
        trained("regression", x, rounds=2, zero_as_missing=True, num_leaves=3, seed=seed, feature_fraction=0.5)
        for seed in range(6)
    ]
    read = 0
    for booster in models:
        with suppress(UnsupportedOperation):
            np.testing.assert_allclose(infer(booster, x)[1].ravel(), booster.predict(x), rtol=1e-9)
            read += 1
    assert 0 < read < len(models)
    zero_right = trained("regression", X, rounds=2, zero_as_missing=True)
    with pytest.raises(UnsupportedOperation, match="zeros that are missing values and go against their side"):
        read_model(zero_right)


CATEGORIES = np.stack([GENERATOR.integers(8, size=300), X[:, 0]], axis=1)


@pytest.mark.filterwarnings("ignore:.*categorical_feature.*:UserWarning")
@pytest.mark.parametrize(
    ("x", "y", "changes", "message"),
    [
        (X, np.abs(NUMBER), {"objective": "poisson"}, "objective 'poisson'; possible are binary, cross_entropy"),
        (X, NUMBER, {"reg_sqrt": True}, "reg_sqrt, which squares the sum"),
        (X, NUMBER, {"linear_tree": True}, "linear trees; constants at the leaves are possible"),
        (CATEGORIES, CATEGORIES[:, 0] % 3, {"categorical_feature": [0]}, "splits by categories; numbers are possible"),
    ],
)
def test_refused(x: Any, y: Any, changes: dict[str, Any], message: str) -> None:
    parameters = {**PLAIN, "objective": "regression", "min_data_per_group": 1, **changes}
    booster = lightgbm.train(parameters, lightgbm.Dataset(x, y, params=parameters), 3)
    with pytest.raises(UnsupportedOperation, match=message):
        read_model(booster)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("end of trees", "end", "ends before its trees do"),
        ("max_feature_idx=3", "max_feature_idx=99999999", "has 100000000 features, 1 to 1048576 are possible"),
        ("max_feature_idx=3", "max_feature_idx=0", "the input has 1"),
        ("num_leaves=7", "num_leaves=8", "has 6 of decision_type where 7 are needed"),
        ("num_leaves=7", "num_leaves=x", "ValueError"),
        ("num_tree_per_iteration=1", "num_tree_per_iteration=4", "has 6 trees for 4 outputs"),
        ("num_tree_per_iteration=1", "num_tree_per_iteration=0", "has 0 trees for each iteration"),
        ("left_child=", "left_child=0 ", "where 6 are needed"),
        ("num_leaves", "no_leaves", "KeyError"),
    ],
)
def test_wrong_text_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    text = trained("regression").model_to_string()
    assert old in text
    (tmp_path / "model").write_text(text.replace(old, new))
    with pytest.raises((ModelUnreadable, UnsupportedOperation), match=message):
        read_model(tmp_path / "model")


def test_cycles_are_refused(tmp_path: Path) -> None:
    lines = trained("regression").model_to_string().splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("left_child="))
    lines[place] = "left_child=" + " ".join(["1"] * 6)
    (tmp_path / "model").write_text("\n".join(lines))
    with pytest.raises(ModelUnreadable, match=r"leads to its node 1 twice"):
        read_model(tmp_path / "model")


def test_damaged_files(tmp_path: Path) -> None:
    whole = trained("multiclass", HOLES, rounds=2).model_to_string().split("parameters:")[0].encode()
    for data in damaged(whole, 500):
        whole_or_refused(data, tmp_path / "model")


def test_the_integer_graph_decides_as_lightgbm_does() -> None:
    x = (np.random.default_rng(3).normal(size=(43_000, 4)) * [1, 10, 0.1, 3]).astype(np.float32)
    y = (x[:, 0] + x[:, 3] / 3 + x[:, 1] / 20 > 0).astype(int)
    booster = lightgbm.train(
        {**PLAIN, "objective": "binary", "num_leaves": 15}, lightgbm.Dataset(x[:3000], y[:3000]), 20
    )
    graph, report = quantize(read_model(booster), x[:3000])
    assert report.agreement is not None
    assert report.agreement >= 0.999
    given = reference.infer_real(graph, {"input": x[3000:]})["probabilities"].argmax(axis=1)
    assert np.mean(given == (booster.predict(x[3000:]) > 0.5)) >= 0.998  # 40 of 40,000 are expected to differ
