"""scikit-learn estimators: linear models, multi-layer perceptrons and trees, alone or behind scalers in a Pipeline.

Classifiers give out one column for each class, so that the largest one is the predicted class. Where the estimator has
probabilities, the gateware gives logits and the host applies softmax, as the contract declares; a binary model's logit
``z`` becomes the two logits ``0`` and ``z``, whose softmax is its sigmoid.
"""

# Ref: scikit-learn 1.9 API reference: MLPClassifier (coefs_, intercepts_, out_activation_), LogisticRegression (coef_,
# Ref: intercept_), SGDClassifier (loss), StandardScaler (mean_, scale_), MinMaxScaler (scale_, min_)

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.errors import GatesmithError, ModelError, ModelUnreadable, NotInstalled, UnsupportedOperation
from gatesmith.frontends.frontend import Frontend, GraphBuilder
from gatesmith.frontends.sklearn_trees import TREES, Scores, tree_scores
from gatesmith.model.graph import Graph
from gatesmith.model.nodes import Edge

__all__ = ["SklearnFrontend"]

SOFTMAX = (HostOperation(kind=HostOperationKind.SOFTMAX),)

# plain data inside fitted estimators that skops does not trust by itself
TRUSTED = [
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
]

LINEAR = {
    "ElasticNet",
    "ElasticNetCV",
    "HuberRegressor",
    "Lasso",
    "LassoCV",
    "LinearRegression",
    "LinearSVC",
    "LinearSVR",
    "LogisticRegression",
    "LogisticRegressionCV",
    "Perceptron",
    "Ridge",
    "RidgeCV",
    "RidgeClassifier",
    "RidgeClassifierCV",
    "SGDClassifier",
    "SGDRegressor",
}  # estimators whose decision is exactly x @ coef_ + intercept_

PICKLES = (".joblib", ".pickle", ".pkl")
PICKLE_PROTOCOL_2_UP = b"\x80"
ZIP = b"PK\x03\x04"
MAX_UNPACKED_BYTES = 1 << 30


class SklearnFrontend(Frontend):
    """Fitted estimators as objects, ``.skops`` files, and trusted pickle or joblib files."""

    name = "sklearn"

    def accepts(self, source: object) -> bool:
        if isinstance(source, Path):
            with source.open("rb") as file:
                head = file.read(4)
            # other libraries keep their models in a zip too
            is_skops = head == ZIP and _holds_schema(source)
            return is_skops or head[:1] == PICKLE_PROTOCOL_2_UP or source.suffix in {".skops", *PICKLES}
        return _is_sklearn(source)

    def read(self, source: object, *, name: str, trust_pickle: bool) -> Graph:
        estimator = _load(source, trust_pickle=trust_pickle) if isinstance(source, Path) else source
        try:
            return _graph(estimator, name)
        except GatesmithError:
            raise
        except Exception as error:
            raise ModelUnreadable(f"{_class(estimator)} is not whole: {_words(error)}") from error


def _graph(estimator: object, name: str) -> Graph:
    *scalers, last = _steps(estimator)
    builder = GraphBuilder(name)
    x = builder.input("input", (_feature_count(next(iter(scalers), last)),))
    for step, scaler in enumerate(scalers):
        x = _scaled(builder, x, scaler, f"scaler{step}")
    _predictor(builder, x, last)
    return builder.graph()


def _load(path: Path, *, trust_pickle: bool) -> object:
    with path.open("rb") as file:
        is_zip = file.read(4) == ZIP
    if is_zip or path.suffix == ".skops":
        return _load_skops(path)
    if not trust_pickle:
        raise ModelUnreadable(
            f"{str(path)!r} is a pickle or joblib file, and reading one runs the code in it; save the model with "
            f"skops.io.dump, or give --trust-pickle if you made the file",
            path=str(path),
        )
    try:
        import joblib
    except ImportError as error:
        raise NotInstalled("scikit-learn", "pip install 'gatesmith[sklearn]'") from error
    try:
        return joblib.load(path)
    except Exception as error:
        raise ModelUnreadable(f"{str(path)!r} cannot be read: {_words(error)}", path=str(path)) from error


def _load_skops(path: Path) -> object:
    try:
        from skops import io
    except ImportError as error:
        raise NotInstalled("skops", "pip install 'gatesmith[sklearn]'") from error
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_UNPACKED_BYTES:
            raise ModelUnreadable(
                f"{str(path)!r} unpacks to {size} bytes, {MAX_UNPACKED_BYTES} are possible", path=str(path)
            )
        foreign = sorted(set(io.get_untrusted_types(file=path)) - set(TRUSTED))
        if foreign:
            raise ModelUnreadable(
                f"{str(path)!r} holds types that are not trusted: {', '.join(foreign)}", types=foreign
            )
        return io.load(path, trusted=TRUSTED)
    except GatesmithError:
        raise
    except Exception as error:
        raise ModelUnreadable(f"{str(path)!r} is not a whole .skops file: {_words(error)}", path=str(path)) from error


def _holds_schema(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "schema.json" in archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError):
        return False


def _words(error: Exception) -> str:
    """The error on one line of bounded length."""
    return " ".join(f"{type(error).__name__} {error}".split())[:300]


def _is_sklearn(source: object) -> bool:
    return type(source).__module__.split(".")[0] == "sklearn"


def _steps(estimator: Any) -> list[Any]:
    """The transformers and the final estimator, nested pipelines opened."""
    steps = list(_opened(estimator))
    if not steps:
        raise UnsupportedOperation(f"{_class(estimator)} has only passthrough steps, a model is needed")
    return steps


def _opened(estimator: Any) -> Iterator[Any]:
    if not _is_sklearn(estimator):
        kind = f"{type(estimator).__module__}.{type(estimator).__qualname__}"
        raise UnsupportedOperation(f"an object of {kind} is no estimator of scikit-learn", operation=kind)
    if _class(estimator) != "Pipeline":
        yield estimator
        return
    for _, step in estimator.steps:
        if step is not None and step != "passthrough":
            yield from _opened(step)


def _feature_count(estimator: Any) -> int:
    try:
        return int(estimator.n_features_in_)
    except AttributeError:
        raise ModelError(f"{_class(estimator)} is not fitted; call its fit method first") from None


def _class(estimator: object) -> str:
    return type(estimator).__name__


def _scaled(builder: GraphBuilder, x: Edge, scaler: Any, name: str) -> Edge:
    _feature_count(scaler)
    match _class(scaler):
        case "StandardScaler":
            scale = 1.0 / scaler.scale_ if scaler.scale_ is not None else np.ones(x.shape)
            mean = scaler.mean_ if scaler.with_mean else np.zeros(x.shape)
            return builder.scale(name, x, scale, -mean * scale)
        case "MinMaxScaler":
            x = builder.scale(name, x, scaler.scale_, scaler.min_)
            return builder.clip(f"{name}/clip", x, *map(float, scaler.feature_range)) if scaler.clip else x
    raise UnsupportedOperation(
        f"pipeline step {name!r} ({_class(scaler)}) has no translation; supported are StandardScaler and MinMaxScaler",
        node=name,
        operation=_class(scaler),
    )


def _predictor(builder: GraphBuilder, x: Edge, estimator: Any) -> None:
    name = _class(estimator)
    _feature_count(estimator)
    if name in {"MLPClassifier", "MLPRegressor"}:
        return _mlp(builder, x, estimator)
    if name in LINEAR:
        return _linear(builder, x, estimator)
    if name in TREES:
        return _trees(builder, tree_scores(builder, x, estimator), estimator)
    raise UnsupportedOperation(
        f"estimator {name} has no translation; supported are MLPClassifier, MLPRegressor, LogisticRegression, "
        f"LinearRegression, Ridge, SGDClassifier, SGDRegressor and their kind, and {', '.join(sorted(TREES))}",
        node=name,
        operation=name,
    )


ACTIVATIONS: dict[str, Callable[[GraphBuilder, str, Edge], Edge]] = {
    "identity": lambda _builder, _name, x: x,
    "relu": lambda builder, name, x: builder.relu(name, x),
    "logistic": lambda builder, name, x: builder.table(name, x, "sigmoid"),
    "exp": lambda builder, name, x: builder.table(name, x, "exp"),
    "tanh": lambda builder, name, x: builder.table(name, x, "tanh"),
}


def _mlp(builder: GraphBuilder, x: Edge, mlp: Any) -> None:
    count = len(mlp.coefs_)
    final = mlp.out_activation_
    layers = list(zip(mlp.coefs_, mlp.intercepts_, strict=True))
    binary = final == "logistic" and layers[-1][0].shape[1] == 1
    if binary:
        layers[-1] = _two_columns(*layers[-1])
    for i, (weight, bias) in enumerate(layers):
        x = builder.dense(f"layer{i}", x, weight, bias)
        if i < count - 1:
            x = ACTIVATIONS[mlp.activation](builder, f"layer{i}/{mlp.activation}", x)
    if _class(mlp) == "MLPRegressor":
        builder.output(ACTIVATIONS[final](builder, final, x), "predictions")
    elif final == "logistic" and not binary:
        # several independent labels: each has its own sigmoid, in gateware
        builder.output(builder.table("sigmoid", x, "sigmoid"), "probabilities", labels=_labels(mlp))
    else:
        builder.output(x, "probabilities", host=SOFTMAX, labels=_labels(mlp))


def _two_columns(weight: Any, bias: Any) -> tuple[Any, Any]:
    """One logit as two, 0 and itself: the class with the larger one is the prediction."""
    return np.concatenate([np.zeros_like(weight), weight], axis=1), np.concatenate([np.zeros_like(bias), bias])


def _linear(builder: GraphBuilder, x: Edge, estimator: Any) -> None:
    coefficients = estimator.coef_.toarray() if hasattr(estimator.coef_, "toarray") else estimator.coef_  # sparsify()
    weight = np.atleast_2d(np.asarray(coefficients, dtype=np.float64)).T
    bias = np.broadcast_to(np.asarray(estimator.intercept_, dtype=np.float64).ravel(), weight.shape[1:])
    if not hasattr(estimator, "classes_"):
        builder.output(builder.dense("linear", x, weight, bias), "predictions")
        return
    binary = weight.shape[1] == 1
    if binary:
        # before scikit-learn 1.8 a multinomial model of two classes has the logits -z and z
        spread = 2.0 if getattr(estimator, "multi_class", "") == "multinomial" else 1.0
        weight, bias = _two_columns(spread * weight, spread * bias)
    scores = builder.dense("linear", x, weight, bias)
    if _has_softmax(estimator, binary=binary):
        builder.output(scores, "probabilities", host=SOFTMAX, labels=_labels(estimator))
    else:
        builder.output(scores, "scores", labels=_labels(estimator))


def _trees(builder: GraphBuilder, scores: Scores, estimator: Any) -> None:
    if hasattr(estimator, "classes_"):
        host = SOFTMAX if scores.are_logits else ()
        builder.output(scores.edge, "probabilities", host=host, labels=_labels(estimator))
    else:
        builder.output(scores.edge, "predictions")


def _labels(estimator: Any) -> list[str]:
    """The classes' names, where they say more than their places."""
    names = [str(name) for name in np.ravel(estimator.classes_)]
    return names if names != [str(place) for place in range(len(names))] else []


def _has_softmax(estimator: Any, *, binary: bool) -> bool:
    """Whether softmax of the logits is the estimator's own predict_proba."""
    if _class(estimator) in {"LogisticRegression", "LogisticRegressionCV"}:
        one_versus_rest = estimator.solver == "liblinear" or getattr(estimator, "multi_class", "") == "ovr"
        return binary or not one_versus_rest
    return binary and _class(estimator) == "SGDClassifier" and estimator.loss == "log_loss"
