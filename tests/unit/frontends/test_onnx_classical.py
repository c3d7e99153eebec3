"""Classical models in ONNX files: operators of ai.onnx.ml and whole exports, against onnxruntime."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import damaged, whole_or_refused
from numpy.typing import NDArray
from onnx import helper
from onnx_models import compare, model, node, run, value
from sklearn import ensemble, tree
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from gatesmith.errors import ModelError
from gatesmith.frontends import read_model
from gatesmith.frontends.onnx_ml_operators import ML_OPERATORS
from gatesmith.model import reference

skl2onnx = pytest.importorskip("skl2onnx")

ML = "ai.onnx.ml"
X = value("x", "batch", 4)
SCORES, LABEL = value("y", None, 3), value("l", None, dtype=np.int64)
GENERATOR = np.random.default_rng(0)
W = GENERATOR.normal(size=(3, 4)).astype(np.float32)


def of(*sizes: int) -> NDArray[np.int64]:
    return np.array(sizes, np.int64)


def listed(prefix: str, **changes: Any) -> dict[str, Any]:
    """Two trees: a split over another, and one over two leaves; leaves with one and with two votes."""
    return {
        "nodes_treeids": [0, 0, 0, 0, 0, 1, 1, 1],
        "nodes_nodeids": [0, 1, 2, 3, 4, 0, 1, 2],
        "nodes_featureids": [0, 0, 2, 0, 0, 3, 0, 0],
        "nodes_values": [0.5, 0.0, -1.0, 0.0, 0.0, 0.25, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 3, 0, 0, 1, 0, 0],
        "nodes_falsenodeids": [2, 0, 4, 0, 0, 2, 0, 0],
        f"{prefix}_treeids": [0, 0, 0, 0, 1, 1],
        f"{prefix}_nodeids": [1, 3, 4, 4, 1, 2],
        f"{prefix}_ids": [0, 1, 2, 0, 1, 2],
        f"{prefix}_weights": [0.5, 0.25, -1.0, 0.75, 2.0, -0.5],
        **changes,
    }


def modes(kind: str) -> list[str]:
    return [kind, "LEAF", kind, "LEAF", "LEAF", kind, "LEAF", "LEAF"]


def tensor(name: str, kind: int, values: Any) -> Any:
    return helper.make_tensor(name, kind, [len(values)], values)


ENSEMBLE = {
    "tree_roots": [0, 2],
    "nodes_featureids": [0, 2, 3],
    "nodes_modes": tensor("m", 2, [0, 1, 3]),
    "nodes_splits": tensor("s", 1, [0.5, -1.0, 0.25]),
    "nodes_truenodeids": [0, 1, 3],
    "nodes_trueleafs": [1, 1, 1],
    "nodes_falsenodeids": [1, 2, 4],
    "nodes_falseleafs": [0, 1, 1],
    "leaf_targetids": [0, 1, 2, 1, 2],
    "leaf_weights": tensor("w", 1, [0.5, 0.25, -1.0, 2.0, -0.5]),
    "n_targets": 3,
}
LINEAR = {"coefficients": W.ravel().tolist(), "intercepts": [1.0, 0.0, -1.0], "classlabels_ints": [0, 1, 2]}
OPPOSITE = {
    "coefficients": np.stack([-W[0], W[0]]).ravel().tolist(),
    "intercepts": [-0.5, 0.5],
    "classlabels_ints": [0, 1],
}
LABELS = {"classlabels_int64s": [0, 1, 2]}
OPPOSITE_LEAVES = listed(
    "class",
    class_treeids=[0] * 6 + [1] * 4,
    class_nodeids=[1, 1, 3, 3, 4, 4, 1, 1, 2, 2],
    class_ids=[0, 1] * 5,
    class_weights=[0.5, -0.5, -0.25, 0.25, 1.0, -1.0, -0.75, 0.75, 2.0, -2.0],
)
ONE_TARGET = listed(
    "target",
    target_treeids=[0, 0, 0, 1, 1],
    target_nodeids=[1, 3, 4, 1, 2],
    target_ids=[0] * 5,
    target_weights=[0.5, 0.25, -1.0, 0.75, 2.0],
)
BASE = {"base_values": [1.0, 2.0, 3.0]}
BOTH, TWO = [LABEL, SCORES], [LABEL, value("y", None, 2)]


def case(kind: str, outputs: Sequence[Any], names: str = "y", **attributes: Any) -> tuple[list[Any], Sequence[Any]]:
    """One operator that reads x."""
    return [node(kind, "x", names, domain=ML, **attributes)], outputs


CASES: dict[str, tuple[list[Any], Sequence[Any]]] = {
    "Scaler": case("Scaler", [value("y", None, 4)], scale=[1.5, -2.0, 0.25, 3.0], offset=[1.0, 2.0, 3.0, 4.0]),
    "Scaler-one": case("Scaler", [value("y", None, 4)], scale=[2.0], offset=[1.0]),
    "LinearRegressor": case("LinearRegressor", [SCORES], coefficients=W.ravel(), intercepts=[1.0, 2.0, 3.0], targets=3),
    "LinearRegressor-bare": case("LinearRegressor", [value("y", None, 1)], coefficients=W[0]),
    "LinearClassifier": case("LinearClassifier", BOTH, "l y", **LINEAR),
    "LinearClassifier-softmax": case("LinearClassifier", BOTH, "l y", **LINEAR, post_transform="SOFTMAX"),
    "LinearClassifier-two": case("LinearClassifier", TWO, "l y", **OPPOSITE, post_transform="LOGISTIC"),
    "LinearClassifier-scores": case("LinearClassifier", [SCORES], "l y", **LINEAR),
    "TreeEnsembleClassifier": case("TreeEnsembleClassifier", BOTH, "l y", **listed("class"), **LABELS),
    "TreeEnsembleClassifier-softmax": case(
        "TreeEnsembleClassifier", BOTH, "l y", **listed("class"), **LABELS, **BASE, post_transform="SOFTMAX"
    ),
    "TreeEnsembleClassifier-opposite": case(
        "TreeEnsembleClassifier", TWO, "l y", **OPPOSITE_LEAVES, classlabels_int64s=[0, 1], post_transform="LOGISTIC"
    ),
    "TreeEnsembleRegressor": case("TreeEnsembleRegressor", [SCORES], **listed("target"), n_targets=3),
    "TreeEnsembleRegressor-base": case(
        "TreeEnsembleRegressor", [value("y", None, 1)], **ONE_TARGET, n_targets=1, base_values=[1.5]
    ),
    "TreeEnsembleRegressor-mean": case(
        "TreeEnsembleRegressor", [SCORES], **listed("target"), n_targets=3, aggregate_function="AVERAGE"
    ),
    "Normalizer": (
        [
            node("LinearClassifier", "x", "l s", domain=ML, **LINEAR, post_transform="SOFTMAX"),
            node("Normalizer", "s", domain=ML, norm="L1"),
        ],
        [SCORES],
    ),
    "ArrayFeatureExtractor": ([node("ArrayFeatureExtractor", "x i", domain=ML)], [SCORES]),
    "ArrayFeatureExtractor-labels": (
        [
            node("ArgMax", "x", "a", axis=1),
            node("ArrayFeatureExtractor", "labels a", "k", domain=ML),
            node("Reshape", "k size", "l"),
        ],
        [LABEL],
    ),
    "LabelEncoder": (
        [
            node("ArgMax", "x", "a", axis=1, keepdims=0),
            node("LabelEncoder", "a", "l", domain=ML, keys_int64s=[0, 1, 2, 3], values_int64s=[0, 1, 2, 3]),
        ],
        [LABEL],
    ),
}
CONSTANTS = {"i": of(3, 0, 3), "labels": of(0, 1, 2, 3), "size": of(-1)}


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str) -> None:
    nodes, outputs = CASES[name]
    used = {given for each in nodes for given in each.input}
    compare(model(nodes, [X], outputs, **{k: v for k, v in CONSTANTS.items() if k in used}), samples=50)


def test_the_newer_ensemble() -> None:
    made = model([node("TreeEnsemble", "x", domain=ML, **ENSEMBLE)], [X], [SCORES])
    next(each for each in made.opset_import if each.domain == ML).version = 5
    compare(made, samples=50)


def test_every_operator_is_tested() -> None:
    assert {*ML_OPERATORS} == {*(name.split("-")[0] for name in CASES), "ZipMap", "TreeEnsemble"}


@pytest.mark.parametrize("kind", ["LEQ", "LT", "GTE", "GT"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_on_and_beside_thresholds(kind: str, dtype: Any) -> None:
    attributes = listed("target", nodes_modes=modes(f"BRANCH_{kind}"), nodes_values=None)
    threshold = [0.1, 0.0, -1.3, 0.0, 0.0, 1 / 3, 0.0, 0.0]
    if dtype == np.float64:
        attributes |= {"nodes_values_as_tensor": tensor("t", 11, threshold)}
        weights = attributes.pop("target_weights")
        attributes |= {"target_weights_as_tensor": tensor("w", 11, weights)}
    else:
        attributes |= {"nodes_values": threshold}
    given = {key: values for key, values in attributes.items() if values is not None}
    made = model(
        [node("TreeEnsembleRegressor", "x", domain=ML, **given, n_targets=3)],
        [value("x", None, 4, dtype=dtype)],
        [SCORES],
    )
    edges = np.array([0.1, 0.0, -1.3, 1 / 3], dtype=dtype)
    rows = np.stack([np.nextafter(edges, dtype(-9)), edges, np.nextafter(edges, dtype(9))])
    x = np.stack(np.meshgrid(*rows.T), axis=-1).reshape(-1, 4)
    given_scores = reference.infer_real(read_model(made, name="m"), {"x": x})["y"]
    np.testing.assert_allclose(given_scores, run(made, {"x": x})["y"], atol=1e-6)


def test_missing_values_take_their_branch() -> None:
    tracks = {"nodes_missing_value_tracks_true": [1, 0, 0, 0, 0, 1, 0, 0]}
    generator = np.random.default_rng(1)
    for kind in ("LEQ", "GT"):
        attributes = listed("target", nodes_modes=modes(f"BRANCH_{kind}"), **tracks)
        made = model([node("TreeEnsembleRegressor", "x", domain=ML, **attributes, n_targets=3)], [X], [SCORES])
        x = generator.normal(size=(64, 4)).astype(np.float32)
        x[generator.random(x.shape) < 0.4] = np.nan
        (ensemble_node,) = read_model(made, name="m").nodes
        given = ensemble_node.evaluate([x.astype(np.float64)], [None])
        np.testing.assert_allclose(given, run(made, {"x": x})["y"], atol=1e-6)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC"])
@pytest.mark.parametrize("base", [[], [0.25]])
@pytest.mark.parametrize("lowest", [-1.0, 0.125])
def test_one_score_for_two_classes(transform: str, base: list[float], lowest: float) -> None:
    attributes = listed("class", class_ids=[0] * 6, class_weights=[0.5, 0.25, lowest, 0.75, 2.0, 0.25])
    attributes |= {"classlabels_int64s": [0, 1], "post_transform": transform} | ({"base_values": base} if base else {})
    nodes = [node("TreeEnsembleClassifier", "x", "l y", domain=ML, **attributes)]
    compare(model(nodes, [X], [value("y", None, 2)]), samples=50)


MODELS: dict[str, Any] = {
    "forest": ensemble.RandomForestClassifier(5, max_depth=4, random_state=0),
    "extra": ensemble.ExtraTreesClassifier(5, max_depth=4, random_state=0),
    "tree": tree.DecisionTreeClassifier(),
    "boosting": ensemble.GradientBoostingClassifier(n_estimators=4),
    "histogram": ensemble.HistGradientBoostingClassifier(max_iter=4),
    "logistic": make_pipeline(StandardScaler(), LogisticRegression()),
    "components": make_pipeline(PCA(2), LogisticRegression()),
    "discriminant": LinearDiscriminantAnalysis(),
    "svc": LinearSVC(),
    "ridge": RidgeClassifier(),
}
DATA, THREE = load_iris(return_X_y=True)
DATA = DATA.astype(np.float32)
TARGETS = {
    "three": THREE,
    "two": (THREE > 1).astype(int),
    "names": np.array(["setosa", "versicolor", "virginica"])[THREE],
}


def exported(estimator: Any, y: NDArray[Any], **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return skl2onnx.to_onnx(estimator.fit(DATA, y), DATA[:1], target_opset=17, **options)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", MODELS)
def test_what_skl2onnx_writes_by_default(name: str, target: str) -> None:
    made = exported(MODELS[name], TARGETS[target])
    wanted = run(made, {"X": DATA})
    graph = read_model(made, name="m")
    given = reference.infer_real(graph, {"X": DATA})
    label, scores = wanted
    rows: Any = wanted[scores]
    if isinstance(rows, list):
        rows = np.array([list(row.values()) for row in rows])
    np.testing.assert_allclose(given[scores].reshape(rows.shape), rows, atol=1e-5)
    if target == "names":
        assert list(given) == [scores]
        assert graph.outputs[0].labels == tuple(sorted(set(TARGETS[target])))
    else:
        first, second = np.sort(rows, axis=1).T[[-1, -2]] if rows.shape[1] > 1 else (rows[:, 0], 0.0)
        clear = first - second > 1e-6  # float32 may order equal sums differently
        np.testing.assert_array_equal(given[label][clear], wanted[label][clear])


@pytest.mark.parametrize("name", ["forest", "extra", "boosting", "histogram"])
def test_regressors_that_skl2onnx_writes(name: str) -> None:
    kind = type(MODELS[name]).__name__.replace("Classifier", "Regressor")
    few = {"max_iter": 3} if name == "histogram" else {"n_estimators": 3}
    regressor = getattr(ensemble, kind)(random_state=0).set_params(**few)
    compare_exported = exported(regressor, DATA @ [1.0, -2.0, 0.5, 3.0])
    given = reference.infer_real(read_model(compare_exported, name="m"), {"X": DATA})
    np.testing.assert_allclose(given["variable"], run(compare_exported, {"X": DATA})["variable"], rtol=1e-5, atol=1e-5)


def classifier(**changes: Any) -> list[Any]:
    return [node("TreeEnsembleClassifier", "x", "l y", domain=ML, **listed("class", **changes), **LABELS)]


def linear(**changes: Any) -> list[Any]:
    return [node("LinearClassifier", "x", "l y", domain=ML, **LINEAR | changes)]


REFUSED: dict[str, tuple[list[Any], str]] = {
    "equal": (classifier(nodes_modes=modes("BRANCH_EQ")), "compares by BRANCH_EQ; BRANCH_LEQ, BRANCH_LT"),
    "probit": (classifier(post_transform="PROBIT"), "has the post_transform PROBIT; NONE, SOFTMAX and LOGISTIC are"),
    "sigmoids": (classifier(post_transform="LOGISTIC"), "sigmoid for each class"),
    "linear sigmoids": (linear(post_transform="LOGISTIC"), "sigmoid for each class"),
    "norm": ([node("Normalizer", "x", domain=ML, norm="L2")], "by its L2 norm, which has no exact translation"),
    "label": ([*linear(classlabels_ints=[3, 4, 5]), node("Relu", "l", "z")], "reads the name of a class"),
    "unknown": (classifier(nodes_modes=modes("BRANCH_X")), r"of unknown kinds \['BRANCH_X'\]"),
    "no node": (classifier(class_nodeids=[1, 3, 4, 4, 1, 7]), "a node that does not exist is named"),
    "twice": (classifier(nodes_nodeids=[0, 1, 2, 3, 3, 0, 1, 2]), "two nodes of one number|does not exist"),
    "cycle": (classifier(nodes_falsenodeids=[2, 0, 0, 0, 0, 2, 0, 0]), "leads to its node 0 twice"),
    "short": (classifier(nodes_values=[0.0]), r"has lists of \[1, 8\] nodes"),
    "class": (classifier(class_ids=[0, 1, 2, 3, 1, 2]), "class_ids from 0 to 3 for 3 outputs"),
    "outputs": (
        [node("TreeEnsembleRegressor", "x", domain=ML, **listed("target"), n_targets=10**12)],
        "has 8 nodes for 1000000000000 outputs",
    ),
    "feature": (classifier(nodes_featureids=[4, 0, 0, 0, 0, 0, 0, 0]), "looks at element 4, the input has 4"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    nodes, message = REFUSED[name]
    with pytest.raises(ModelError, match=message) as caught:
        read_model(model(nodes, [X], [value("z", None) if name == "label" else SCORES]), name="m")
    assert "\n" not in str(caught.value)


def test_a_model_of_this_domain_alone_has_no_other_opset() -> None:
    nodes, outputs = CASES["TreeEnsembleRegressor"]
    made = model(nodes, [X], outputs)
    del made.opset_import[0]
    assert [each.domain for each in made.opset_import] == [ML]
    compare(made)


@pytest.mark.parametrize("name", ["forest", "histogram"])
def test_damaged_files(name: str, tmp_path: Path) -> None:
    estimator = clone(MODELS[name]).set_params(**{"max_iter" if name == "histogram" else "n_estimators": 2})
    whole = exported(estimator, TARGETS["names"]).SerializeToString()
    for data in damaged(whole, 250):
        whole_or_refused(data, tmp_path / "model.onnx")


def test_a_changed_threshold_is_seen() -> None:
    nodes = [node("TreeEnsembleRegressor", "x", domain=ML, **listed("target"), n_targets=3)]
    other = [
        node("TreeEnsembleRegressor", "x", domain=ML, **listed("target", nodes_modes=modes("BRANCH_LT")), n_targets=3)
    ]
    x = np.array([[0.5, 0, 0, 0]], np.float32)
    given = reference.infer_real(read_model(model(nodes, [X], [SCORES]), name="m"), {"x": x})["y"]
    assert not np.allclose(given, run(model(other, [X], [SCORES]), {"x": x})["y"])
