"""scikit-learn estimators: multi-layer perceptrons, linear models and trees, alone or behind transformers.

Classifiers give out one column for each class, so that the largest one is the predicted class. Where the estimator has
probabilities, the gateware gives logits and the host applies softmax, as the contract declares; a binary model's logit
``z`` becomes the two logits ``0`` and ``z``, whose softmax is its sigmoid.
"""

# Ref: scikit-learn 1.9 API reference: MLPClassifier (coefs_, intercepts_, out_activation_)

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.errors import GatesmithError, ModelUnreadable, NotInstalled, UnsupportedOperation
from gatesmith.frontends.frontend import Frontend, GraphBuilder
from gatesmith.frontends.reading import members, words
from gatesmith.frontends.sklearn_columns import Columns, class_of, feature_count, is_sklearn, opened, transformed
from gatesmith.frontends.sklearn_linear import KERNELS, LINEAR, counts_votes, decision, votes
from gatesmith.frontends.sklearn_trees import MEDIANS, TREES, Scores, tree_scores
from gatesmith.model.graph import Graph
from gatesmith.model.nodes import Edge
from gatesmith.tensor import Datatype

__all__ = ["SklearnFrontend"]

SOFTMAX = (HostOperation(kind=HostOperationKind.SOFTMAX),)

# plain data inside fitted estimators that skops does not trust by itself, and scores that nobody calls here
TRUSTED = [
    "sklearn.feature_selection._univariate_selection.chi2",
    "sklearn.feature_selection._univariate_selection.f_classif",
    "sklearn.feature_selection._univariate_selection.f_regression",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
]

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
            is_skops = head == ZIP and "schema.json" in members(source)
            return is_skops or head[:1] == PICKLE_PROTOCOL_2_UP or source.suffix in {".skops", *PICKLES}
        return is_sklearn(source)

    def read(self, source: object, *, name: str, trust_pickle: bool) -> Graph:
        estimator = _load(source, trust_pickle=trust_pickle) if isinstance(source, Path) else source
        try:
            return _graph(estimator, name)
        except GatesmithError:
            raise
        except Exception as error:
            raise ModelUnreadable(f"{class_of(estimator)} is not whole: {words(error)}") from error


def _graph(estimator: object, name: str) -> Graph:
    steps = opened(estimator)
    if not steps:
        raise UnsupportedOperation(f"{class_of(estimator)} has only passthrough steps, a model is needed")
    *transformers, last = steps
    builder = GraphBuilder(name)
    columns = Columns.of(builder, builder.input("input", (feature_count(steps[0]),)))
    for step, transformer in enumerate(transformers):
        columns = transformed(columns, transformer, f"scaler{step}")
    _predictor(columns, last)
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
        raise ModelUnreadable(f"{str(path)!r} cannot be read: {words(error)}", path=str(path)) from error


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
        raise ModelUnreadable(f"{str(path)!r} is not a whole .skops file: {words(error)}", path=str(path)) from error


def _predictor(columns: Columns, estimator: Any) -> None:
    name = class_of(estimator)
    feature_count(estimator)
    if name in {"MLPClassifier", "MLPRegressor"}:
        return _mlp(columns, estimator)
    if name in LINEAR | KERNELS:
        return _votes(columns, estimator) if counts_votes(estimator) else _linear(columns, estimator)
    if name in TREES or name in MEDIANS:
        return _trees(tree_scores(columns, estimator), columns.builder, estimator)
    raise UnsupportedOperation(
        f"estimator {name} has no translation{WHY.get(name, '')}; supported are MLPClassifier, MLPRegressor, "
        f"LogisticRegression, LinearRegression, Ridge, SGDClassifier, SGDRegressor and their kind, and "
        f"{', '.join(sorted({*TREES, *MEDIANS}))}",
        node=name,
        operation=name,
    )


WHY = {
    "GaussianNB": ", because it multiplies the features by themselves",
    "QuadraticDiscriminantAnalysis": ", because it multiplies the features by each other",
    "StackingClassifier": ", because models of different kinds follow each other",
    "StackingRegressor": ", because models of different kinds follow each other",
}


ACTIVATIONS: dict[str, Callable[[GraphBuilder, str, Edge], Edge]] = {
    "identity": lambda _builder, _name, x: x,
    "relu": lambda builder, name, x: builder.relu(name, x),
    "logistic": lambda builder, name, x: builder.table(name, x, "sigmoid"),
    "exp": lambda builder, name, x: builder.table(name, x, "exp"),
    "tanh": lambda builder, name, x: builder.table(name, x, "tanh"),
}


def _mlp(columns: Columns, mlp: Any) -> None:
    builder, x = columns.builder, columns.edge
    count = len(mlp.coefs_)
    final = mlp.out_activation_
    layers = list(zip(mlp.coefs_, mlp.intercepts_, strict=True))
    binary = final == "logistic" and layers[-1][0].shape[1] == 1
    if binary:
        layers[-1] = _two_columns(*layers[-1])
    for i, (weight, bias) in enumerate(layers):
        if i == 0:
            x = columns.product("layer0", np.asarray(weight, dtype=np.float64), np.asarray(bias, dtype=np.float64))
        else:
            x = builder.dense(f"layer{i}", x, weight, bias)
        if i < count - 1:
            x = ACTIVATIONS[mlp.activation](builder, f"layer{i}/{mlp.activation}", x)
    if class_of(mlp) == "MLPRegressor":
        builder.output(ACTIVATIONS[final](builder, final, x), "predictions")
    elif final == "logistic" and not binary:
        # several independent labels: each has its own sigmoid, in gateware
        builder.output(builder.table("sigmoid", x, "sigmoid"), "probabilities", labels=_labels(mlp))
    else:
        builder.output(x, "probabilities", host=SOFTMAX, labels=_labels(mlp))


def _two_columns(weight: Any, bias: Any) -> tuple[Any, Any]:
    """One logit as two, 0 and itself: the class with the larger one is the prediction."""
    return np.concatenate([np.zeros_like(weight), weight], axis=1), np.concatenate([np.zeros_like(bias), bias])


def _linear(columns: Columns, estimator: Any) -> None:
    made = decision(estimator)
    scores = columns.product("linear", made.weight, made.bias)
    host = SOFTMAX if made.kind == "probabilities" else ()
    columns.builder.output(scores, made.kind, host=host, labels=_labels(estimator) if made.is_by_class else ())


def _votes(columns: Columns, estimator: Any) -> None:
    made = votes(columns, estimator)
    columns.builder.output(made.scores, "scores", labels=_labels(estimator))
    if made.first is not None:
        columns.builder.output(made.first, "class", datatype=Datatype.INT64)


def _trees(scores: Scores, builder: GraphBuilder, estimator: Any) -> None:
    if hasattr(estimator, "classes_"):
        host = SOFTMAX if scores.are_logits else ()
        builder.output(scores.edge, "probabilities", host=host, labels=_labels(estimator))
    else:
        builder.output(scores.edge, "predictions", host=scores.host)


def _labels(estimator: Any) -> list[str]:
    """The classes' names, where they say more than their places."""
    names = [str(name) for name in np.ravel(estimator.classes_)]
    return names if names != [str(place) for place in range(len(names))] else []
