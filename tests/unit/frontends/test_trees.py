"""Ensembles of trees give their own library's predictions, from objects and from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import damaged, whole_or_refused
from numpy.typing import NDArray
from sklearn import ensemble, tree
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from skops import io as skops_io

from gatesmith.errors import ModelUnreadable, UnsupportedOperation
from gatesmith.frontends import read_model
from gatesmith.frontends.sklearn_trees import TREES
from gatesmith.frontends.ubjson import decode
from gatesmith.model import reference

xgboost = pytest.importorskip("xgboost")

GENERATOR = np.random.default_rng(0)
X = (GENERATOR.normal(size=(120, 4)) * [1, 10, 0.1, 3]).astype(np.float32)
TWO = np.where(X[:, 0] + GENERATOR.normal(size=120) / 3 > 0, "yes", "no")
THREE = (X[:, 0] > 0).astype(int) + (X[:, 1] > 5)
NUMBER = X @ [1, 0.2, 3, -1] + GENERATOR.normal(size=120)


def infer(model: object, x: NDArray[Any] = X) -> tuple[str, NDArray[np.float64]]:
    ((name, values),) = reference.infer_real(read_model(model), {"input": x}).items()
    return name, values


def sklearn_estimator(name: str) -> Any:
    kind = getattr(tree if hasattr(tree, name) else ensemble, name)
    if name.startswith("Voting"):
        suffix = name.removeprefix("Voting")
        forests = [getattr(ensemble, each + suffix)(3, random_state=0) for each in ("RandomForest", "ExtraTrees")]
        soft = {"voting": "soft"} if suffix == "Classifier" else {}
        return kind(list(zip("ab", forests, strict=True)), weights=[1, 2], **soft)
    few = {"random_state": 0, "n_estimators": 7, "max_iter": 7, "max_features": 0.6}
    estimator = kind()
    return estimator.set_params(**{k: v for k, v in few.items() if k in estimator.get_params()})


@pytest.mark.parametrize("name", sorted(TREES))
@pytest.mark.parametrize("y", [TWO, THREE], ids=["two", "three"])
def test_sklearn(name: str, y: NDArray[Any]) -> None:
    estimator = sklearn_estimator(name)
    if name.endswith("Regressor"):
        estimator.fit(X, NUMBER)
        given, values = infer(estimator)
        assert given == "predictions"
        np.testing.assert_allclose(values.ravel(), estimator.predict(X), atol=1e-9)
        return
    estimator.fit(X, y)
    given, values = infer(estimator)
    assert given == "probabilities"
    np.testing.assert_allclose(values, estimator.predict_proba(X), atol=1e-9)


@pytest.mark.parametrize("name", sorted(TREES))
def test_skops_files_hold_trees(name: str, tmp_path: Path) -> None:
    estimator = sklearn_estimator(name).fit(X, NUMBER if name.endswith("Regressor") else THREE)
    skops_io.dump(estimator, tmp_path / "model.skops")
    np.testing.assert_array_equal(infer(tmp_path / "model.skops")[1], infer(estimator)[1])


def test_a_tree_that_claims_more_nodes_than_it_has_is_refused() -> None:
    estimator = tree.DecisionTreeClassifier().fit(X, THREE)
    state = estimator.tree_.__getstate__()
    estimator.tree_.__setstate__(state | {"node_count": state["node_count"] + 1000})
    with pytest.raises(ModelUnreadable, match=r"nodes and room for"):
        read_model(estimator)


@pytest.mark.parametrize("name", ["RandomForestRegressor", "ExtraTreeRegressor", "HistGradientBoostingRegressor"])
def test_missing_values(name: str) -> None:
    holes = np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, X).astype(np.float32)
    estimator = sklearn_estimator(name).fit(holes, NUMBER)
    (node,) = read_model(estimator).nodes
    given = node.evaluate([holes.astype(np.float64)], [None])
    np.testing.assert_allclose(given.ravel(), estimator.predict(holes), atol=1e-9)


def test_labels_scalers_and_losses() -> None:
    estimator = make_pipeline(
        MinMaxScaler(clip=True), ensemble.GradientBoostingClassifier(loss="exponential", n_estimators=5)
    ).fit(X, TWO)
    graph = read_model(estimator)
    assert graph.outputs[0].labels == ("no", "yes")
    x = 2 * X
    values = reference.infer_real(graph, {"input": x})["probabilities"]
    # the pipeline scales in float32, so a sample may fall on the other side of a threshold
    assert np.mean(np.abs(values - estimator.predict_proba(x)).max(axis=1) < 1e-9) > 0.98


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (
            ensemble.AdaBoostClassifier(LogisticRegression(), n_estimators=2).fit(X, TWO),
            "is made of LogisticRegression",
        ),
        (
            ensemble.AdaBoostRegressor(Ridge(), n_estimators=2).fit(X, NUMBER),
            "AdaBoostRegressor is made of Ridge; trees are possible",
        ),
        (
            ensemble.BaggingRegressor(ensemble.AdaBoostRegressor(n_estimators=2), n_estimators=2).fit(X, NUMBER),
            "BaggingRegressor is made of AdaBoostRegressor; trees and forests are possible, whose outputs add up",
        ),
        (
            ensemble.VotingClassifier([("a", tree.DecisionTreeClassifier())]).fit(X, TWO),
            r"VotingClassifier counts votes \(voting='hard'\); voting='soft' is possible",
        ),
        (
            ensemble.VotingClassifier([("a", LogisticRegression())], voting="soft").fit(X, TWO),
            "VotingClassifier is made of LogisticRegression; trees and forests are possible",
        ),
        (
            ensemble.BaggingClassifier(ensemble.GradientBoostingClassifier(n_estimators=2), 2).fit(X, TWO),
            "BaggingClassifier is made of GradientBoostingClassifier; trees and forests",
        ),
        (
            ensemble.GradientBoostingClassifier(init=LogisticRegression(), n_estimators=2).fit(X, TWO),
            "starts from LogisticRegression",
        ),
        (ensemble.HistGradientBoostingRegressor(loss="poisson", max_iter=2).fit(X, NUMBER**2), "'poisson'"),
        (
            ensemble.HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]).fit(
                np.concatenate([(X[:, :1] > 0).astype(np.float32), X], axis=1), X[:, 0] > 0
            ),
            "splits by categories",
        ),
        (
            tree.DecisionTreeClassifier().fit(X, np.stack([TWO, TWO], axis=1)),
            "predicts 2 labels at once",
        ),
    ],
)
def test_what_has_no_translation_says_why(estimator: Any, message: str) -> None:
    with pytest.raises(UnsupportedOperation, match=message):
        read_model(estimator)


XGBOOST = {
    "two": (xgboost.XGBClassifier(n_estimators=6), (TWO == "yes").astype(int)),
    "base-score": (xgboost.XGBClassifier(n_estimators=6, base_score=0.2), (TWO == "yes").astype(int)),
    "raw": (xgboost.XGBClassifier(n_estimators=6, objective="binary:logitraw"), (TWO == "yes").astype(int)),
    "three": (xgboost.XGBClassifier(n_estimators=6), THREE),
    "softmax": (xgboost.XGBClassifier(n_estimators=6, objective="multi:softmax"), THREE),
    "dart": (xgboost.XGBClassifier(n_estimators=6, booster="dart", rate_drop=0.5), THREE),
    "forest": (xgboost.XGBRFClassifier(n_estimators=6), THREE),
    "regression": (xgboost.XGBRegressor(n_estimators=6), NUMBER),
    "hinge": (xgboost.XGBClassifier(n_estimators=6, objective="binary:hinge"), (TWO == "yes").astype(int)),
    "forests": (xgboost.XGBRegressor(n_estimators=3, num_parallel_tree=4, subsample=0.7), NUMBER),
    "vectors": (
        xgboost.XGBRegressor(n_estimators=6, multi_strategy="multi_output_tree"),
        np.stack([NUMBER, -NUMBER, NUMBER**2], axis=1),
    ),
    "targets": (xgboost.XGBRegressor(n_estimators=6), np.stack([NUMBER, -NUMBER], axis=1)),
}


@pytest.mark.parametrize("form", ["json", "ubj", "object", "booster"])
@pytest.mark.parametrize("name", XGBOOST)
def test_xgboost(name: str, form: str, tmp_path: Path) -> None:
    estimator, y = XGBOOST[name]
    estimator.fit(X, y)
    model: Any = {"object": estimator, "booster": estimator.get_booster()}.get(form)
    if model is None:
        model = tmp_path / f"model.{form}"
        estimator.save_model(model)
    given, values = infer(model)
    if given == "probabilities":
        np.testing.assert_allclose(values, estimator.predict_proba(X), atol=1e-5)
    elif given == "scores":
        margin = estimator.get_booster().predict(xgboost.DMatrix(X), output_margin=True)
        np.testing.assert_allclose(values[:, 1], margin, atol=1e-5)
    else:
        np.testing.assert_allclose(values, estimator.predict(X).reshape(len(X), -1), rtol=1e-5, atol=1e-5)


def test_xgboost_stops_where_the_estimator_does(tmp_path: Path) -> None:
    estimator = xgboost.XGBRegressor(n_estimators=60, learning_rate=0.9, early_stopping_rounds=3)
    estimator.fit(X[:80], NUMBER[:80], eval_set=[(X[80:], NUMBER[80:])], verbose=False)
    assert estimator.best_iteration + 1 < estimator.get_booster().num_boosted_rounds()
    estimator.save_model(tmp_path / "model.json")
    for model in (estimator, tmp_path / "model.json"):
        np.testing.assert_allclose(infer(model)[1].ravel(), estimator.predict(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"objective": {"name": "count:poisson"}}, UnsupportedOperation, "objective 'count:poisson'"),
        ({"gradient_booster": {"name": "gblinear"}}, UnsupportedOperation, "booster 'gblinear'"),
        ({"gradient_booster": 3}, ModelUnreadable, "not a whole XGBoost model"),
        ({"learner_model_param": {}}, ModelUnreadable, "not a whole XGBoost model"),
    ],
)
def test_xgboost_refuses(changes: Any, error: Any, message: str, tmp_path: Path) -> None:
    estimator, y = XGBOOST["two"]
    model = json.loads(bytes(estimator.fit(X, y).get_booster().save_raw("json")))
    model["learner"] |= changes
    (tmp_path / "model.json").write_text(json.dumps(model))
    with pytest.raises(error, match=message):
        read_model(tmp_path / "model.json")


def test_missing_values_go_where_xgboost_sends_them() -> None:
    holes = np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, X).astype(np.float32)
    estimator = xgboost.XGBRegressor(n_estimators=8).fit(holes, NUMBER)
    (node,) = read_model(estimator).nodes
    given = node.evaluate([holes.astype(np.float64)], [None])
    np.testing.assert_allclose(given.ravel(), estimator.predict(holes), rtol=1e-5, atol=1e-5)


def test_ranks() -> None:
    ranker = xgboost.XGBRanker(n_estimators=5).fit(X, THREE, qid=np.arange(120) // 12)
    given, values = infer(ranker)
    assert given == "predictions"
    np.testing.assert_allclose(values.ravel(), ranker.predict(X), atol=1e-5)


def test_classes_have_the_estimators_names(tmp_path: Path) -> None:
    estimator = xgboost.XGBClassifier(n_estimators=3).fit(X, (TWO == "yes").astype(int))
    assert read_model(estimator).outputs[0].labels == ()
    model = json.loads(bytes(estimator.get_booster().save_raw("json")))
    model["learner"]["attributes"]["scikit_learn"] = json.dumps({"_le": {"classes_": ["no", "yes"]}})
    (tmp_path / "model").write_text(json.dumps(model))
    assert read_model(tmp_path / "model").outputs[0].labels == ("no", "yes")


def test_a_number_that_means_missing_is_refused() -> None:
    estimator = xgboost.XGBRegressor(n_estimators=2, missing=-999.0).fit(X, NUMBER)
    with pytest.raises(UnsupportedOperation, match=r"missing=-999.0, a number that means a missing value"):
        read_model(estimator)


@pytest.mark.parametrize("form", ["json", "ubj"])
def test_damaged_files_are_refused_and_nothing_else_happens(form: str, tmp_path: Path) -> None:
    estimator = xgboost.XGBClassifier(n_estimators=2, max_depth=3).fit(X, THREE)
    for data in damaged(bytes(estimator.get_booster().save_raw(form)), 250):
        whole_or_refused(data, tmp_path / "model")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[",
        b"[" * 200,
        b"{L\xff\xff\xff\xff\xff\xff\xff\xff",
        b"[$l#L\x7f" + b"\xff" * 7,
        b"[$[#i\x7f",
        b"TT",
    ],
)
def test_ubjson_refuses_what_is_not_whole(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(data)
