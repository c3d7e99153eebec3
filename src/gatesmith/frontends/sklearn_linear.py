"""scikit-learn's linear models: those whose decision is ``x @ weight + bias``, and the votes of pairs of classes.

An ``SVC`` decides between each two classes. The class with the most of these votes is its prediction, of equal ones the
first; its ``decision_function`` breaks most ties with what the decisions add up to.
"""

# Ref: scikit-learn 1.9 API reference: LogisticRegression (coef_, intercept_), SGDClassifier (loss), SVC
# Ref: (decision_function_shape, break_ties), LinearDiscriminantAnalysis, MultinomialNB (feature_log_prob_,
# Ref: class_log_prior_)
# Ref: scikit-learn 1.9 sklearn.utils.multiclass._ovr_decision_function: a pair's vote is the second class's where the
# Ref: decision is below 0; votes + s / (3 (|s| + 1)), s a class's sum of decisions
# Ref: libsvm 3.36 svm_predict_values: the vote is the first class's where the decision is above 0; the first of most

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import ModelUnreadable, UnsupportedOperation
from gatesmith.fixed import FixedPoint, Rounding
from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.frontends.sklearn_columns import Columns, class_of
from gatesmith.model.nodes import Edge

__all__ = ["KERNELS", "LINEAR", "Decision", "Votes", "counts_votes", "decision", "votes"]

Real = NDArray[np.float64]

LINEAR = {
    "ARDRegression",
    "BayesianRidge",
    "ElasticNet",
    "ElasticNetCV",
    "HuberRegressor",
    "Lars",
    "Lasso",
    "LassoCV",
    "LassoLars",
    "LinearDiscriminantAnalysis",
    "LinearRegression",
    "LinearSVC",
    "LinearSVR",
    "LogisticRegression",
    "LogisticRegressionCV",
    "MultinomialNB",
    "OrthogonalMatchingPursuit",
    "Perceptron",
    "Ridge",
    "RidgeCV",
    "RidgeClassifier",
    "RidgeClassifierCV",
    "SGDClassifier",
    "SGDRegressor",
}
"""Estimators whose decision is exactly x @ coef_ + intercept_."""

KERNELS = {"NuSVC", "NuSVR", "SVC", "SVR"}
"""The same, where the kernel is linear."""

SIGN = FixedPoint(True, 0, 0)
"""One bit: rounded down to it, a number is -1 below zero and 0 from there on."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A linear decision, and what it is called: predictions, scores, or logits of probabilities.

    ``is_by_class`` says whether there is one column for each class.
    """

    weight: Real
    bias: Real
    kind: str
    is_by_class: bool


def decision(estimator: Any) -> Decision:
    """The decision of an estimator of ``LINEAR`` or ``KERNELS``; of two classes, the columns 0 and the score.

    Raises
    ------
    UnsupportedOperation
        When it is not linear.
    """
    name = class_of(estimator)
    if name in KERNELS:
        _check_kernel(estimator)
    weight, bias = _products(estimator)
    if not hasattr(estimator, "classes_"):
        return Decision(weight=weight, bias=bias, kind="predictions", is_by_class=False)
    binary = weight.shape[1] == 1
    kind = "probabilities" if _has_softmax(estimator, binary=binary) else "scores"
    if binary:
        # before scikit-learn 1.8 a multinomial model of two classes has the logits -z and z
        spread = 2.0 if getattr(estimator, "multi_class", "") == "multinomial" else 1.0
        weight = np.concatenate([np.zeros_like(weight), spread * weight], axis=1)
        bias = np.array([0.0, spread * bias[0]])
    is_by_class = name not in KERNELS or len(estimator.classes_) == 2
    return Decision(weight=weight, bias=bias, kind=kind, is_by_class=is_by_class)


def _check_kernel(estimator: Any) -> None:
    name = class_of(estimator)
    if estimator.kernel != "linear":
        raise UnsupportedOperation(
            f"estimator {name} has the kernel {estimator.kernel!r}, linear is possible", node=name, operation=name
        )


def counts_votes(estimator: Any) -> bool:
    """Whether a classifier gives one score for each class, made of the votes of pairs of classes."""
    several = class_of(estimator) in KERNELS and len(getattr(estimator, "classes_", ())) > 2
    return several and estimator.decision_function_shape == "ovr"


@dataclass(frozen=True, kw_only=True)
class Votes:
    """``decision_function`` of a score for each class, and the class of most votes; None where scores break ties."""

    scores: Edge
    first: Edge | None


def votes(columns: Columns, estimator: Any) -> Votes:
    """The votes of an estimator that counts them.

    Raises
    ------
    UnsupportedOperation
        When it is not linear.
    """
    _check_kernel(estimator)
    weight, bias = _products(estimator)
    builder, count, classes = columns.builder, weight.shape[1], len(estimator.classes_)
    if count != classes * (classes - 1) // 2:
        raise ModelUnreadable(f"{class_of(estimator)} has {count} decisions for the pairs of {classes} classes")
    # as sums of their own: the sign of a sum asks for all its bits, and turning a sum round would round it before
    both = columns.product("pairs", np.concatenate([weight, -weight], axis=1), np.concatenate([bias, -bias]))
    place = np.arange(2 * count)
    second = _signs(builder, "votes/second", builder.gather("pairs/second", both, place[:count]))
    first = _signs(builder, "votes/first", builder.gather("pairs/first", both, place[count:]))
    with_first, with_second = (np.zeros((count, classes)) for _ in range(2))
    for row, (one, other) in enumerate(combinations(range(classes), 2)):
        with_first[row, one], with_second[row, other] = 1.0, 1.0
    sums = builder.dense("sums", builder.gather("pairs/sums", both, place[:count]), with_first - with_second)
    near = builder.scale("ties", builder.table("ties/softsign", sums, "softsign"), np.array(1 / 3), np.array(0.0))
    # the sign is -1 where the second class wins, and the first one wins elsewhere
    counted = builder.dense("votes", second, with_first - with_second, with_first.sum(axis=0))
    scores = builder.add("scores", counted, near)
    if getattr(estimator, "break_ties", False):
        return Votes(scores=scores, first=None)
    # here it is -1 where the first class wins: a decision of exactly zero is the second one's
    by_library = builder.dense("votes/library", first, with_second - with_first, with_second.sum(axis=0))
    return Votes(scores=scores, first=builder.arg_max("class", by_library))


def _signs(builder: GraphBuilder, name: str, x: Edge) -> Edge:
    return builder.quantize(name, x, SIGN, rounding=Rounding.TRUNCATE)


def _products(estimator: Any) -> tuple[Real, Real]:
    if class_of(estimator) == "MultinomialNB":
        return np.asarray(estimator.feature_log_prob_).T, np.asarray(estimator.class_log_prior_)
    coefficients = estimator.coef_.toarray() if hasattr(estimator.coef_, "toarray") else estimator.coef_  # sparsify()
    weight = np.atleast_2d(np.asarray(coefficients, dtype=np.float64)).T
    bias = np.asarray(estimator.intercept_, dtype=np.float64).ravel()
    return weight, np.broadcast_to(bias, weight.shape[1:])


def _has_softmax(estimator: Any, *, binary: bool) -> bool:
    """Whether softmax of the logits is the estimator's own predict_proba."""
    name = class_of(estimator)
    if name in {"LogisticRegression", "LogisticRegressionCV"}:
        one_versus_rest = estimator.solver == "liblinear" or getattr(estimator, "multi_class", "") == "ovr"
        return binary or not one_versus_rest
    if name in {"LinearDiscriminantAnalysis", "MultinomialNB"}:
        return True
    return binary and name == "SGDClassifier" and estimator.loss == "log_loss"
