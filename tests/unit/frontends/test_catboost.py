"""CatBoost models give CatBoost's own predictions, from objects and from JSON files."""

from __future__ import annotations

import json
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

catboost = pytest.importorskip("catboost")

GENERATOR = np.random.default_rng(0)
X = (GENERATOR.normal(size=(200, 4)) * [1, 10, 0.1, 3]).astype(np.float32)
HOLES = np.where(GENERATOR.random(X.shape) < 0.15, np.nan, X).astype(np.float32)
TWO = (X[:, 0] + X[:, 3] / 3 > 0).astype(int)
THREE = (X[:, 0] > 0).astype(int) + (X[:, 1] > 5)
NUMBER = X @ [1, 0.2, 3, -1]
GROUPS = np.repeat(np.arange(20), 10)

LOSSES: dict[str, NDArray[Any]] = {
    "Logloss": TWO,
    "CrossEntropy": TWO,
    "MultiClass": THREE,
    "MultiClassOneVsAll": THREE,
    "RMSE": NUMBER,
    "MAE": NUMBER,
    "Quantile": NUMBER,
    "MultiRMSE": np.stack([NUMBER, -NUMBER], axis=1),
    "YetiRank": NUMBER,
}


def trained(loss: str, x: NDArray[Any] = X, **more: Any) -> Any:
    parameters = {"iterations": 5, "depth": 3, "random_seed": 0, "thread_count": 1, "verbose": 0, **more}
    model = catboost.CatBoost({"loss_function": loss, "allow_writing_files": False, **parameters})
    return model.fit(catboost.Pool(x, LOSSES[loss], group_id=GROUPS if loss == "YetiRank" else None))


def infer(model: object, x: NDArray[Any] = X) -> tuple[str, NDArray[np.float64]]:
    ((name, values),) = reference.infer_real(read_model(model), {"input": x}).items()
    return name, values


def saved(model: Any, path: Path) -> Path:
    model.save_model(str(path), format="json")
    return path


@pytest.mark.parametrize(
    ("loss", "policy"),
    [(loss, "SymmetricTree") for loss in LOSSES]
    + [(loss, policy) for policy in ("Depthwise", "Lossguide") for loss in ("Logloss", "MultiClass", "MultiRMSE")],
)
def test_losses(loss: str, policy: str, tmp_path: Path) -> None:
    model = trained(loss, grow_policy=policy)
    name, values = infer(saved(model, tmp_path / "model.json"))
    kind = "Probability" if name == "probabilities" else "RawFormulaVal"
    wanted = model.predict(X, prediction_type=kind)
    np.testing.assert_allclose(values.reshape(wanted.shape), wanted, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(infer(model)[1], values)


def test_estimators_name_their_classes() -> None:
    names = np.array(["setosa", "versicolor", "virginica"])[THREE]
    estimator = catboost.CatBoostClassifier(iterations=4, depth=2, verbose=0, allow_writing_files=False).fit(X, names)
    assert read_model(estimator).outputs[0].labels == ("setosa", "versicolor", "virginica")
    np.testing.assert_allclose(infer(estimator)[1], estimator.predict_proba(X), rtol=1e-9)


def test_scale_and_bias(tmp_path: Path) -> None:
    model = trained("RMSE")
    model.set_scale_and_bias(2.5, -1.0)
    np.testing.assert_allclose(infer(model)[1].ravel(), model.predict(X), rtol=1e-9)


def node(model: object) -> TreeEnsemble:
    found = read_model(model).nodes[0]
    assert isinstance(found, TreeEnsemble)
    return found


@pytest.mark.parametrize("policy", ["SymmetricTree", "Lossguide"])
def test_on_and_beside_borders(policy: str) -> None:
    model = trained("RMSE", iterations=20, grow_policy=policy)
    ensemble = node(model)
    generator = np.random.default_rng(1)
    rows = X[generator.integers(len(X), size=400)]
    for row in rows:
        for split in generator.integers(len(ensemble.feature), size=3):
            border = np.float32(ensemble.threshold[split])
            row[ensemble.feature[split]] = np.nextafter(border, generator.choice([-np.inf, np.inf, border]))
    given = ensemble.evaluate([rows.astype(np.float64)], [None]).ravel()
    np.testing.assert_allclose(given, model.predict(rows), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mode", ["Min", "Max"])
def test_missing_values(mode: str) -> None:
    model = trained("RMSE", HOLES, nan_mode=mode)
    ensemble = node(model)
    assert ensemble.missing is not None
    assert ensemble.missing.all() == (mode == "Min")
    given = ensemble.evaluate([HOLES.astype(np.float64)], [None]).ravel()
    np.testing.assert_allclose(given, model.predict(HOLES), rtol=1e-9)
    assert node(trained("RMSE")).missing is None


def test_categories_are_refused() -> None:
    x = np.random.default_rng(2).integers(5, size=(200, 2))
    model = catboost.CatBoostClassifier(iterations=3, verbose=0, allow_writing_files=False, cat_features=[0])
    with pytest.raises(UnsupportedOperation, match=r"has categorical features.*encode them before the model"):
        read_model(model.fit(x, x[:, 0] > 2))


def test_the_binary_form_is_refused(tmp_path: Path) -> None:
    trained("RMSE").save_model(str(tmp_path / "model.cbm"))
    with pytest.raises(UnsupportedOperation, match="has a binary form; JSON is read, save it with format='json'"):
        read_model(tmp_path / "model.cbm")


def test_losses_with_a_link_are_refused() -> None:
    model = catboost.CatBoost({"loss_function": "Poisson", "iterations": 2, "verbose": 0, "allow_writing_files": False})
    with pytest.raises(UnsupportedOperation, match="has the loss 'Poisson'; possible are CrossEntropy, Expectile"):
        read_model(model.fit(X, np.abs(NUMBER)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["oblivious_trees"][0]["leaf_values"].append(1.0), "has 9 leaf values for 3 levels"),
        (lambda m: m["oblivious_trees"][0]["splits"].extend(m["oblivious_trees"][0]["splits"] * 9), "for 30 levels"),
        (lambda m: m["oblivious_trees"].clear(), "has no trees"),
        (lambda m: m["oblivious_trees"][0]["splits"][0].update(float_feature_index=9), "KeyError 9"),
        (lambda m: m["oblivious_trees"][0]["splits"][0].update(border=float("nan")), "not finite"),
        (lambda m: m["oblivious_trees"][0]["splits"][0].update(split_type="OnlineCtr"), "splits of the kind OnlineCtr"),
        (lambda m: m["features_info"]["float_features"].pop(0), "not numbered from 0"),
        (lambda m: m.update(scale_and_bias=[1, []]), "has 0 outputs"),
        (lambda m: m.pop("scale_and_bias"), "KeyError"),
    ],
)
def test_wrong_files_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    path = saved(trained("RMSE"), tmp_path / "model.json")
    model = json.loads(path.read_text())
    change(model)
    path.write_text(json.dumps(model))
    with pytest.raises((ModelUnreadable, UnsupportedOperation), match=message):
        read_model(path)


@pytest.mark.parametrize("policy", ["SymmetricTree", "Lossguide"])
def test_damaged_files(policy: str, tmp_path: Path) -> None:
    model = json.loads(saved(trained("MultiClass", HOLES, depth=2, grow_policy=policy), tmp_path / "model").read_text())
    facts = model["model_info"]
    model["model_info"] = {"params": {"loss_function": facts["params"]["loss_function"]}}
    whole = json.dumps({"features_info": model["features_info"]} | model).encode()
    for data in damaged(whole, 250):
        whole_or_refused(data, tmp_path / "model")


def test_the_integer_graph_decides_as_catboost_does() -> None:
    x = (np.random.default_rng(3).normal(size=(43_000, 4)) * [1, 10, 0.1, 3]).astype(np.float32)
    y = (x[:, 0] + x[:, 3] / 3 + x[:, 1] / 20 > 0).astype(int)
    model = catboost.CatBoostClassifier(iterations=30, depth=4, verbose=0, allow_writing_files=False, thread_count=1)
    model.fit(x[:3000], y[:3000])
    graph, report = quantize(read_model(model), x[:3000])
    assert report.agreement is not None
    assert report.agreement >= 0.999
    given = reference.infer_real(graph, {"input": x[3000:]})["probabilities"].argmax(axis=1)
    assert np.mean(given == model.predict(x[3000:])) >= 0.998  # 40 of 40,000 are expected to differ
