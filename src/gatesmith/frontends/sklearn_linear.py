"""scikit-learn's linear models: those whose decision is ``x @ weight + bias``."""

# Ref: scikit-learn 1.9 API reference: LogisticRegression (coef_, intercept_), SGDClassifier (loss), SVC
# Ref: (decision_function_shape), LinearDiscriminantAnalysis, MultinomialNB (feature_log_prob_, class_log_prior_)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import UnsupportedOperation
from gatesmith.frontends.sklearn_columns import class_of

__all__ = ["KERNELS", "LINEAR", "Decision", "decision"]

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
    votes = len(getattr(estimator, "classes_", ())) > 2 and estimator.decision_function_shape != "ovo"
    if votes:
        raise UnsupportedOperation(
            f"estimator {name} of {len(estimator.classes_)} classes counts votes of pairs of classes; set its "
            f"decision_function_shape to 'ovo' for the pairs' scores, or use LinearSVC",
            node=name,
            operation=name,
        )


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
