"""The float graph of an estimator gives its own predictions, to 1e-9."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn import linear_model, svm
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_multilabel_classification
from sklearn.decomposition import PCA, IncrementalPCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectFromModel, SelectKBest, VarianceThreshold
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from skops import io as skops_io

from gatesmith.errors import ModelError, ModelUnreadable, UnsupportedOperation
from gatesmith.frontends import read_model
from gatesmith.frontends.sklearn_columns import TRANSFORMERS
from gatesmith.frontends.sklearn_linear import KERNELS, LINEAR
from gatesmith.model import reference
from gatesmith.model.graph import Graph

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(60, 5)) * [1, 10, 0.1, 3, 1] + [0, 5, 0, -20, 1]
TWO = (X[:, 0] + GENERATOR.normal(size=60) / 3 > 0).astype(int)
THREE = TWO + (X[:, 1] > 9)
NUMBER = X @ [1, 0.2, 3, -1, 0] + GENERATOR.normal(size=60)
NUMBERS = np.stack([NUMBER, -2 * NUMBER + X[:, 4]], axis=1)
LABELS = np.stack([TWO, X[:, 1] > 5], axis=1).astype(int)
NAMES = np.array(["ant", "bee", "cat"])[THREE]


def fitted(estimator: Any, y: NDArray[Any], x: NDArray[Any] = X) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", FutureWarning)  # parameters whose defaults change
        return estimator.fit(x, y)


def infer(estimator: Any, x: NDArray[Any] = X) -> tuple[str, NDArray[np.float64], Graph]:
    graph = read_model(estimator)
    ((name, values),) = reference.infer_real(graph, {"input": x}).items()
    return name, values, graph


def check(estimator: Any, x: NDArray[Any] = X) -> Graph:
    """The output is what scikit-learn calls it, and the largest column is the predicted class."""
    name, values, graph = infer(estimator, x)
    if name == "probabilities":
        wanted = estimator.predict_proba(x)
    elif name == "scores":
        wanted = estimator.decision_function(x)
        if wanted.ndim == 1:
            wanted = np.stack([np.zeros(len(x)), wanted], axis=1)
    else:
        wanted = estimator.predict(x).reshape(len(x), -1)
    assert values.shape == wanted.shape
    assert np.abs(values - wanted).max() <= 1e-9 * max(1.0, np.abs(wanted).max())
    if hasattr(estimator, "classes_") and np.ndim(estimator.predict(x)) == 1:
        assert (estimator.classes_[values.argmax(axis=1)] == estimator.predict(x)).all()
    return graph


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("y", [TWO, THREE, NAMES, LABELS], ids=["binary", "multi", "names", "labels"])
def test_mlp_classifier(activation: str, y: NDArray[Any]) -> None:
    check(fitted(MLPClassifier((4, 3), activation=activation, max_iter=20, random_state=0), y))


def test_three_labels() -> None:
    x, y = make_multilabel_classification(n_samples=60, n_features=5, n_classes=3, random_state=0)
    check(fitted(MLPClassifier((4,), max_iter=20, random_state=0), y, x), x)


def test_a_binary_classifier_has_two_columns_and_softmax_on_the_host() -> None:
    name, values, graph = infer(fitted(MLPClassifier((4,), max_iter=20, random_state=0), TWO))
    assert (name, values.shape) == ("probabilities", (60, 2))
    assert [operation.kind for operation in graph.outputs[0].host] == ["softmax"]


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("y", [NUMBER, NUMBERS], ids=["one", "two"])
def test_mlp_regressor(activation: str, y: NDArray[Any]) -> None:
    check(fitted(MLPRegressor(hidden_layer_sizes=(4,), activation=activation, max_iter=20, random_state=0), y))


def test_poisson_regressor() -> None:
    network = MLPRegressor(hidden_layer_sizes=(4,), loss="poisson", max_iter=20, random_state=0)
    graph = check(fitted(make_pipeline(StandardScaler(), network), np.abs(NUMBER)))
    assert [node.kind for node in graph.nodes][-1] == "LookupTable"


LINEAR_MODELS: list[tuple[Any, Any]] = [
    (linear_model.LogisticRegression(), TWO),
    (linear_model.LogisticRegression(max_iter=1000), THREE),
    (linear_model.LogisticRegression(max_iter=1000), NAMES),
    (linear_model.LogisticRegression(solver="liblinear"), TWO),
    (linear_model.LogisticRegression(fit_intercept=False), TWO),
    (linear_model.LogisticRegressionCV(Cs=2, cv=2), TWO),
    (linear_model.LinearRegression(), NUMBER),
    (linear_model.LinearRegression(), NUMBERS),
    (linear_model.LinearRegression(), NUMBERS[:, :1]),
    (linear_model.LinearRegression(fit_intercept=False), NUMBERS),
    (linear_model.Ridge(), NUMBER),
    (linear_model.Ridge(), NUMBERS),
    (linear_model.RidgeCV(), NUMBERS),
    (linear_model.RidgeClassifier(), TWO),
    (linear_model.RidgeClassifier(), NAMES),
    (linear_model.RidgeClassifier(), LABELS),
    (linear_model.RidgeClassifierCV(), THREE),
    (linear_model.Lasso(), NUMBERS),
    (linear_model.LassoCV(cv=2), NUMBER),
    (linear_model.ElasticNet(), NUMBER),
    (linear_model.ElasticNetCV(cv=2), NUMBER),
    (linear_model.HuberRegressor(), NUMBER),
    (linear_model.Perceptron(), TWO),
    (linear_model.Perceptron(), NAMES),
    *[(linear_model.SGDClassifier(loss=loss, random_state=0), TWO) for loss in ("hinge", "log_loss", "modified_huber")],
    *[(linear_model.SGDClassifier(loss=loss, random_state=0), NAMES) for loss in ("hinge", "log_loss")],
    (linear_model.SGDRegressor(random_state=0), NUMBER),
    (svm.LinearSVC(), TWO),
    (svm.LinearSVC(), NAMES),
    (svm.LinearSVR(), NUMBER),
    (linear_model.ARDRegression(), NUMBER),
    (linear_model.BayesianRidge(), NUMBER),
    (linear_model.Lars(), NUMBER),
    (linear_model.LassoLars(), NUMBER),
    (linear_model.OrthogonalMatchingPursuit(), NUMBER),
    (LinearDiscriminantAnalysis(), TWO),
    (LinearDiscriminantAnalysis(), NAMES),
    (MultinomialNB(), TWO),
    (MultinomialNB(), NAMES),
    (svm.SVC(kernel="linear"), TWO),
    (svm.NuSVC(kernel="linear", nu=0.2), TWO),
    (svm.SVR(kernel="linear"), NUMBER),
    (svm.NuSVR(kernel="linear"), NUMBER),
]


@pytest.mark.parametrize(("estimator", "y"), LINEAR_MODELS, ids=lambda v: type(v).__name__)
def test_linear_models(estimator: Any, y: NDArray[Any]) -> None:
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    scaled = scaled - scaled.min() if isinstance(estimator, MultinomialNB) else scaled
    check(fitted(estimator, y, scaled), scaled)


def test_pairs_of_classes() -> None:
    model = fitted(svm.SVC(kernel="linear", decision_function_shape="ovo"), NAMES)
    name, values, graph = infer(model)
    assert (name, graph.outputs[0].labels) == ("scores", ())  # a column is no class
    np.testing.assert_allclose(values, model.decision_function(X), atol=1e-9)


def test_every_linear_model_is_tested() -> None:
    assert {type(estimator).__name__ for estimator, _ in LINEAR_MODELS} == LINEAR | KERNELS


def test_probabilities_only_where_softmax_gives_them() -> None:
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    names = {
        "probabilities": [linear_model.LogisticRegression(), linear_model.SGDClassifier(loss="log_loss")],
        "scores": [linear_model.SGDClassifier(), linear_model.Perceptron(), svm.LinearSVC()],
    }
    for wanted, estimators in names.items():
        for estimator in estimators:
            assert infer(fitted(estimator, TWO, scaled), scaled)[0] == wanted
    # one against the rest, then normalised: not a softmax
    assert infer(fitted(linear_model.SGDClassifier(loss="log_loss"), THREE, scaled), scaled)[0] == "scores"


def test_multinomial_models_of_two_classes() -> None:
    # Ref: scikit-learn 1.5 LogisticRegression.predict_proba: softmax of -z and z when multi_class is multinomial
    model = fitted(linear_model.LogisticRegression(), TWO)
    model.multi_class = "multinomial"
    z = model.decision_function(X)
    _, values, _ = infer(model)
    assert np.abs(values - softmax(np.stack([-z, z], axis=1), axis=1)).max() < 1e-9


def test_models_of_several_logistic_regressions_have_scores() -> None:
    model = fitted(linear_model.LogisticRegression(), THREE)
    model.multi_class = "ovr"  # as scikit-learn before 1.8 could be told
    assert infer(model)[0] == "scores"


def test_sparse_coefficients() -> None:
    check(fitted(linear_model.SGDClassifier(random_state=0), TWO).sparsify())


NETWORK = MLPClassifier((4,), max_iter=20, random_state=0)
PIPELINES: dict[str, Any] = {
    "standard": make_pipeline(StandardScaler(), NETWORK),
    "no mean": make_pipeline(StandardScaler(with_mean=False), NETWORK),
    "no std": make_pipeline(StandardScaler(with_std=False), NETWORK),
    "neither": make_pipeline(StandardScaler(with_mean=False, with_std=False), NETWORK),
    "minmax": make_pipeline(MinMaxScaler(), NETWORK),
    "minmax range": make_pipeline(MinMaxScaler((-2, 3)), NETWORK),
    "clip": make_pipeline(MinMaxScaler(clip=True), NETWORK),
    "two": make_pipeline(MinMaxScaler(clip=True), StandardScaler(), NETWORK),
    "nested": make_pipeline(make_pipeline(MinMaxScaler(), make_pipeline(StandardScaler())), make_pipeline(NETWORK)),
    "passthrough": Pipeline([("a", "passthrough"), ("b", StandardScaler()), ("c", "passthrough"), ("d", NETWORK)]),
    "only passthrough before": Pipeline([("a", "passthrough"), ("d", NETWORK)]),
    "none": Pipeline([("a", None), ("b", StandardScaler()), ("d", NETWORK)]),
    "alone": make_pipeline(NETWORK),
    "linear": make_pipeline(StandardScaler(), linear_model.LogisticRegression()),
    "maxabs": make_pipeline(MaxAbsScaler(), NETWORK),
    "robust": make_pipeline(RobustScaler(unit_variance=True), NETWORK),
    "robust, no center": make_pipeline(RobustScaler(with_centering=False), NETWORK),
    "robust, no scale": make_pipeline(RobustScaler(with_scaling=False), NETWORK),
    "components": make_pipeline(StandardScaler(), PCA(3), NETWORK),
    "white components": make_pipeline(PCA(3, whiten=True), StandardScaler(), NETWORK),
    "incremental": make_pipeline(IncrementalPCA(2, batch_size=20), NETWORK),
    "truncated": make_pipeline(TruncatedSVD(2, random_state=0), linear_model.LogisticRegression()),
    "best": make_pipeline(SelectKBest(k=2), StandardScaler(), NETWORK),
    "variance": make_pipeline(StandardScaler(), VarianceThreshold(), NETWORK),
    "chosen": make_pipeline(SelectFromModel(linear_model.LogisticRegression()), NETWORK),
    "function": make_pipeline(FunctionTransformer(), NETWORK),
    "columns": make_pipeline(
        ColumnTransformer(
            [("a", StandardScaler(), [3, 0]), ("b", make_pipeline(MaxAbsScaler(), RobustScaler()), [1])],
            remainder="passthrough",
        ),
        NETWORK,
    ),
    "columns that overlap": make_pipeline(
        ColumnTransformer([("a", StandardScaler(), [0, 1]), ("b", MinMaxScaler(clip=True), [1, 2])]), NETWORK
    ),
    "columns, mixed": make_pipeline(
        ColumnTransformer([("a", PCA(2), [0, 1, 2]), ("b", "passthrough", slice(3, 4)), ("c", "drop", [4])]),
        StandardScaler(),
        NETWORK,
    ),
    "union": make_pipeline(
        FeatureUnion([("a", StandardScaler()), ("b", PCA(2))], transformer_weights={"b": 0.5}), NETWORK
    ),
    "trees": make_pipeline(
        ColumnTransformer([("a", StandardScaler(), [3, 0]), ("b", "passthrough", [1])]),
        SelectKBest(k=2),
        RandomForestClassifier(5, max_depth=3, random_state=0),
    ),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines(name: str) -> None:
    model = fitted(PIPELINES[name], TWO)
    check(model)
    check(model, X * 3 + 1)  # beyond what the scalers have seen


def test_every_transformer_is_tested() -> None:
    used = {type(step).__name__ for pipeline in PIPELINES.values() for _, step in pipeline.steps}
    assert used >= set(TRANSFORMERS)


def test_selected_columns_leave_trees_at_the_input() -> None:
    graph = read_model(fitted(PIPELINES["trees"], TWO))
    assert [node.kind for node in graph.nodes][-1] == "TreeEnsemble"
    assert len(graph.nodes) == 2


def test_constant_features() -> None:
    x = X.copy()
    x[:, 2] = 7.0
    check(fitted(make_pipeline(StandardScaler(), MinMaxScaler(), NETWORK), TWO, x), x)


def test_float32_weights() -> None:
    model = fitted(MLPClassifier((4,), max_iter=20, random_state=0), TWO, X.astype(np.float32))
    assert model.coefs_[0].dtype == np.float32
    _, values, _ = infer(model, X.astype(np.float32))
    assert np.abs(values - model.predict_proba(X.astype(np.float32))).max() < 1e-5


@pytest.mark.parametrize("name", ["standard", "clip", "linear", "nested", "robust", "components", "best", "columns"])
def test_skops_files_give_the_same_graph(name: str, tmp_path: Path) -> None:
    model = fitted(PIPELINES[name], TWO)
    path = tmp_path / "m.skops"
    skops_io.dump(model, path)
    assert read_model(path).digest == read_model(model, name="m").digest


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_skops_files_with_an_optimizer_inside(solver: str, tmp_path: Path) -> None:
    model = fitted(MLPClassifier((4,), solver=solver, max_iter=20, random_state=0), TWO)
    path = tmp_path / "m.skops"
    skops_io.dump(model, path)
    assert read_model(path).digest == read_model(model, name="m").digest


REFUSED: dict[str, tuple[Any, str]] = {
    "not fitted": (MLPClassifier(), "MLPClassifier is not fitted; call its fit method first"),
    "pipeline not fitted": (
        make_pipeline(StandardScaler(), NETWORK),
        "StandardScaler is not fitted; call its fit method",
    ),
    "last not fitted": (
        make_pipeline(StandardScaler().fit(X), MLPClassifier()),
        "MLPClassifier is not fitted; call its fit method first",
    ),
    "poisson": (
        linear_model.PoissonRegressor().fit(X / 100, TWO),
        "estimator PoissonRegressor has no translation; supported are MLPClassifier, MLPRegressor, LogisticRegression",
    ),
    "gamma": (linear_model.GammaRegressor().fit(X / 100, TWO + 1.0), "estimator GammaRegressor has no translation"),
    "forest": (
        KNeighborsClassifier().fit(X, TWO),
        "estimator KNeighborsClassifier has no translation",
    ),
    "kernel": (svm.SVC().fit(X, TWO), "estimator SVC has the kernel 'rbf', linear is possible"),
    "squares": (GaussianNB().fit(X, TWO), "GaussianNB has no translation, because it multiplies the features by them"),
    "lengths": (
        make_pipeline(Normalizer(), NETWORK),
        r"\(Normalizer\) has no translation, because it divides a sample by a length of its own; supported are",
    ),
    "runs code": (make_pipeline(FunctionTransformer(np.abs), NETWORK), "runs a function"),
    "nothing left": (make_pipeline(ColumnTransformer([("a", "drop", [0])]), NETWORK), "drops every column|is not"),
    "unknown step": (
        make_pipeline(StandardScaler(), PolynomialFeatures(), linear_model.LogisticRegression(max_iter=9999)),
        r"pipeline step 'scaler1' \(PolynomialFeatures\) has no translation; supported are ColumnTransformer",
    ),
    "no model": (make_pipeline(StandardScaler(), MinMaxScaler()), "estimator MinMaxScaler has no translation"),
    "nothing": (Pipeline([("a", "passthrough")]), "Pipeline has only passthrough steps, a model is needed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    estimator, words = REFUSED[name]
    if name in {"unknown step", "no model", "lengths", "runs code"}:
        estimator = fitted(estimator, TWO)
    with pytest.raises(ModelError, match=words):
        read_model(estimator)


def test_a_stranger_in_a_pipeline_is_refused() -> None:
    class StandardScaler:  # the name alone is not enough
        n_features_in_, scale_, mean_, with_mean = 5, np.ones(5), np.zeros(5), True

    model = Pipeline([("a", StandardScaler()), ("b", fitted(MLPClassifier((4,), max_iter=5), TWO))])
    with pytest.raises(UnsupportedOperation, match=r"an object of .*StandardScaler is no estimator of scikit-learn"):
        read_model(model)


def test_not_finite_weights_are_named() -> None:
    model = fitted(MLPClassifier((4,), max_iter=5, random_state=0), TWO)
    model.coefs_[1][2, 0] = np.inf
    with pytest.raises(
        ModelError, match=r"node 'layer1' \(Dense\): weight\[2, 1\] is inf; 1 of 8 numbers are not finite"
    ):
        read_model(model)


@pytest.mark.parametrize("attribute", ["coefs_", "intercepts_", "out_activation_"])
def test_an_estimator_with_a_part_missing(attribute: str) -> None:
    model = fitted(MLPClassifier((4,), max_iter=5, random_state=0), TWO)
    delattr(model, attribute)
    with pytest.raises(ModelUnreadable, match=f"MLPClassifier is not whole: AttributeError .*{attribute}"):
        read_model(model)


def test_a_changed_weight_is_seen() -> None:
    model = fitted(MLPClassifier((4,), max_iter=5, random_state=0), TWO)
    _, before, _ = infer(model)
    model.coefs_[0][0, 0] += 1e-3
    _, after, _ = infer(model)
    assert np.abs(before - after).max() > 1e-9


def test_names_of_classes_reach_the_contract() -> None:
    samples = np.random.default_rng(3).normal(size=(60, 4))
    names = np.array(["quark", "gluon", "top"])[np.argmax(samples[:, :3], axis=1)]
    model = linear_model.LogisticRegression().fit(samples, names)
    graph = read_model(model)
    assert graph.outputs[0].labels == tuple(model.classes_) == ("gluon", "quark", "top")
    assert Graph.from_bytes(graph.to_bytes()).outputs[0].labels == graph.outputs[0].labels
    numbers = linear_model.LogisticRegression().fit(samples, np.argmax(samples[:, :3], axis=1))
    assert read_model(numbers).outputs[0].labels == ()
