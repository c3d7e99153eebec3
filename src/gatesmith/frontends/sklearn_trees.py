"""scikit-learn's trees: single ones, forests and boosting; every one is a sum over trees, or a median of them.

A forest's probabilities are the mean of its trees' leaves and need nothing else. Boosting gives logits, whose softmax
the host applies; for two classes they are 0 and the raw score, whose softmax is its sigmoid.
"""

# Ref: scikit-learn 1.9: sklearn.tree._tree.Tree (children_left is -1 at leaves; data is cast to float32 and compared
# Ref: by <=), GradientBoosting*.estimators_ and _raw_predict_init, HistGradientBoosting*._predictors (TreePredictor
# Ref: nodes, whose values hold the learning rate already), AdaBoostClassifier.decision_function (SAMME),
# Ref: AdaBoostRegressor._get_median_predict (the first sorted one at which the weights so far are half)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.errors import ModelUnreadable, UnsupportedOperation
from gatesmith.frontends.ensembles import Forest, Tree, column
from gatesmith.frontends.sklearn_columns import Columns
from gatesmith.model.nodes import Edge

__all__ = ["MEDIANS", "TREES", "Scores", "tree_scores"]

Real = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The ensemble's output, whether probabilities are the softmax of it, and what the host does to other outputs."""

    edge: Edge
    are_logits: bool = False
    host: tuple[HostOperation, ...] = ()


def tree_scores(columns: Columns, estimator: Any) -> Scores:
    """The node of an estimator of ``TREES`` or ``MEDIANS``; one column for each class, target, or tree.

    Raises
    ------
    UnsupportedOperation
        When its prediction is no sum over trees that compare numbers.
    """
    host: tuple[HostOperation, ...] = ()
    if type(estimator).__name__ in MEDIANS:
        (forest, host), are_logits = _side_by_side(estimator), False
    else:
        forest, are_logits = TREES[type(estimator).__name__](estimator)
    x, places = columns.in_place()
    return Scores(edge=forest.place(columns.builder, "trees", x, places), are_logits=are_logits, host=host)


def _refuse(estimator: Any, reason: str) -> UnsupportedOperation:
    name = type(estimator).__name__
    return UnsupportedOperation(f"estimator {name} {reason}", node=name, operation=name)


def _tree(estimator: Any, values: Real, *, knows_missing: bool = True) -> Tree:
    tree = _whole(estimator)
    return Tree(
        feature=tree.feature,
        threshold=tree.threshold,
        left=tree.children_left,
        right=tree.children_right,
        value=values,
        missing=np.asarray(tree.missing_go_to_left) != 0 if knows_missing else None,
    )


def _whole(estimator: Any) -> Any:
    """The estimator's tree; its arrays would reach beyond its memory if a file gave it a wrong count."""
    tree = estimator.tree_
    if not 0 < tree.node_count <= tree.capacity:
        raise ModelUnreadable(f"a tree has {tree.node_count} nodes and room for {tree.capacity}")
    return tree


def _leaves(owner: Any, estimator: Any) -> Real:
    """Targets or shares of the classes of each node; shape (nodes, outputs)."""
    values = np.asarray(_whole(estimator).value, dtype=np.float64)
    if not hasattr(owner, "classes_"):
        return values[:, :, 0]
    if values.shape[1] != 1:
        raise _refuse(owner, f"predicts {values.shape[1]} labels at once, one is possible; make a model for each")
    shares = values[:, 0, :]
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _single(estimator: Any) -> tuple[Forest, bool]:
    return _mean(estimator, [estimator])


def _forest(estimator: Any) -> tuple[Forest, bool]:
    return _mean(estimator, estimator.estimators_)


def _mean(owner: Any, estimators: Any) -> tuple[Forest, bool]:
    forest = Forest(0.0)
    for estimator in estimators:
        forest.add(_tree(estimator, _leaves(owner, estimator) / len(estimators)))
    return forest, False


def _logits(estimator: Any, raw: Real, *, spread: float = 1.0) -> tuple[Forest, int, int, float]:
    """An empty ensemble with these raw scores at its start, its columns, the first that trees add to, and a factor."""
    start = np.ravel(np.asarray(raw, dtype=np.float64)) * spread
    if hasattr(estimator, "classes_") and len(start) == 1:
        return Forest(np.array([0.0, start[0]])), 2, 1, spread
    return Forest(start), len(start), 0, spread


def _boosting(estimator: Any) -> tuple[Forest, bool]:
    if estimator.init_ != "zero" and type(estimator.init_).__name__ not in {"DummyClassifier", "DummyRegressor"}:
        raise _refuse(estimator, f"starts from {type(estimator.init_).__name__}; a constant or 'zero' is possible")
    raw = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), dtype=np.float32))
    # the exponential loss has the probability sigmoid(2 raw)
    spread = 2.0 if estimator.loss == "exponential" else 1.0
    forest, columns, first, spread = _logits(estimator, raw, spread=spread)
    for row in estimator.estimators_:
        for place, tree in enumerate(row):
            values = spread * estimator.learning_rate * _whole(tree).value[:, 0, 0]
            forest.add(_tree(tree, column(values, first + place, columns), knows_missing=False))
    return forest, True


def _histogram(estimator: Any) -> tuple[Forest, bool]:
    if getattr(estimator, "loss", "") in {"poisson", "gamma"}:
        raise _refuse(
            estimator, f"has the loss {estimator.loss!r} with a logarithmic link; train on logarithms instead"
        )
    forest, columns, first, _ = _logits(estimator, estimator._baseline_prediction)
    for row in estimator._predictors:
        for place, predictor in enumerate(row):
            nodes = predictor.nodes
            leaf = nodes["is_leaf"].astype(bool)
            if np.any(nodes["is_categorical"].astype(bool) & ~leaf):
                raise _refuse(estimator, "splits by categories, numbers are possible; encode them before the model")
            forest.add(
                Tree(
                    feature=nodes["feature_idx"].astype(np.int64),
                    threshold=nodes["num_threshold"],
                    left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
                    right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
                    value=column(nodes["value"], first + place, columns),
                    missing=nodes["missing_go_to_left"].astype(bool),
                )
            )
    return forest, True


def _votes(estimator: Any) -> tuple[Forest, bool]:
    if getattr(estimator, "algorithm", "SAMME") == "SAMME.R":
        raise _refuse(estimator, "has the algorithm SAMME.R, SAMME is possible")
    classes = len(estimator.classes_)
    weights = estimator.estimator_weights_[: len(estimator.estimators_)]
    forest = Forest(np.zeros(classes))
    for tree, weight in zip(estimator.estimators_, weights / weights.sum(), strict=True):
        if not hasattr(tree, "tree_"):
            raise _refuse(estimator, f"is made of {type(tree).__name__}; trees are possible")
        values = np.asarray(_whole(tree).value)[:, 0, :]
        won = tree.classes_[np.argmax(values, axis=1)][:, None] == estimator.classes_
        # each class is ahead of the others by weight * classes / (classes - 1); only differences count in a softmax
        forest.add(_tree(tree, won * (weight * classes / (classes - 1) ** 2 if classes > 2 else 2 * weight)))
    return forest, True


def _side_by_side(estimator: Any) -> tuple[Forest, tuple[HostOperation, ...]]:
    """Every tree's number in a column of its own, of which the host takes the weighted median."""
    trees = estimator.estimators_
    forest = Forest(np.zeros(len(trees)))
    for place, tree in enumerate(trees):
        if not hasattr(tree, "tree_"):
            raise _refuse(estimator, f"is made of {type(tree).__name__}; trees are possible")
        forest.add(_tree(tree, column(_leaves(estimator, tree)[:, 0], place, len(trees))))
    weights = tuple(np.asarray(estimator.estimator_weights_[: len(trees)], dtype=np.float64).tolist())
    return forest, (HostOperation(kind=HostOperationKind.MEDIAN, weights=weights),)


def _bag(estimator: Any) -> tuple[Forest, bool]:
    """Trees or forests, each of which may see some of the features."""
    members = estimator.estimators_
    whole = Forest(0.0)
    for member, features in zip(members, estimator.estimators_features_, strict=True):
        if len(getattr(member, "classes_", ())) != len(getattr(estimator, "classes_", ())):
            raise _refuse(estimator, "has trees that do not know all classes")
        whole.merge(_member(estimator, member), 1.0 / len(members), np.asarray(features, dtype=np.int64))
    return whole, False


def _vote(estimator: Any) -> tuple[Forest, bool]:
    if getattr(estimator, "voting", "soft") != "soft":
        raise _refuse(estimator, "counts votes (voting='hard'); voting='soft' is possible")
    members = estimator.estimators_
    weights = np.asarray(estimator._weights_not_none or np.ones(len(members)), dtype=np.float64)
    whole = Forest(0.0)
    for member, weight in zip(members, weights / weights.sum(), strict=True):
        whole.merge(_member(estimator, member), weight)
    return whole, False


def _member(owner: Any, member: Any) -> Forest:
    name = type(member).__name__
    forest, are_logits = TREES[name](member) if name in TREES else (None, False)
    if forest is None or (are_logits and hasattr(member, "classes_")):
        raise _refuse(owner, f"is made of {name}; trees and forests are possible, whose outputs add up")
    return forest


TREES: dict[str, Callable[[Any], tuple[Forest, bool]]] = {
    "AdaBoostClassifier": _votes,
    "BaggingClassifier": _bag,
    "BaggingRegressor": _bag,
    "DecisionTreeClassifier": _single,
    "DecisionTreeRegressor": _single,
    "ExtraTreeClassifier": _single,
    "ExtraTreeRegressor": _single,
    "ExtraTreesClassifier": _forest,
    "ExtraTreesRegressor": _forest,
    "GradientBoostingClassifier": _boosting,
    "GradientBoostingRegressor": _boosting,
    "HistGradientBoostingClassifier": _histogram,
    "HistGradientBoostingRegressor": _histogram,
    "RandomForestClassifier": _forest,
    "RandomForestRegressor": _forest,
    "VotingClassifier": _vote,
    "VotingRegressor": _vote,
}
"""Estimators whose prediction is a sum over trees."""

MEDIANS = {"AdaBoostRegressor"}
"""Those whose prediction is the weighted median of their trees' numbers."""
