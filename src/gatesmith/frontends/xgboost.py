"""XGBoost models: JSON and UBJSON files, read without XGBoost, and boosters and estimators in memory."""

# Ref: XGBoost 3.2, doc/model.schema and "Introduction to Model IO"; a sample goes left where x < split_condition, both
# Ref: in float32; a missing value goes where default_left says; leaves keep their value in split_conditions, several of
# Ref: them in leaf_weights (before 3.2 in base_weights); base_score is a probability for binary:logistic

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.errors import ModelUnreadable, UnsupportedOperation
from gatesmith.frontends.ensembles import Forest, Tree, checked_features, class_names, column
from gatesmith.frontends.frontend import Frontend, GraphBuilder
from gatesmith.frontends.reading import json_of, reading
from gatesmith.frontends.ubjson import decode
from gatesmith.model.graph import Graph

__all__ = ["XgboostFrontend"]

LOGISTIC = {"binary:logistic"}
RAW = {"binary:hinge", "binary:logitraw"}
CLASSES = {"multi:softprob", "multi:softmax"}
PLAIN = {
    "reg:absoluteerror",
    "reg:linear",
    "reg:pseudohubererror",
    "reg:quantileerror",
    "reg:squarederror",
    "reg:squaredlogerror",
    "rank:map",
    "rank:ndcg",
    "rank:pairwise",
}
HEAD_BYTES = 256
NEEDED: dict[str, Any] = {
    "base_weights": np.float32,
    "default_left": np.int64,
    "leaf_weights": np.float32,
    "left_children": np.int64,
    "right_children": np.int64,
    "split_conditions": np.float32,
    "split_indices": np.int64,
    "split_type": np.int64,
    "tree_param": None,
}
"""What is read of a tree."""


class XgboostFrontend(Frontend):
    """``.json`` and ``.ubj`` files, Booster, and the estimators of xgboost.sklearn."""

    name = "xgboost"

    def accepts(self, source: object) -> bool:
        if isinstance(source, Path):
            with source.open("rb") as file:
                head = file.read(HEAD_BYTES).lstrip()
            return head[:1] == b"{" and b"learner" in head
        return type(source).__module__.split(".")[0] == "xgboost"

    def read(self, source: object, *, name: str, trust_pickle: bool) -> Graph:
        del trust_pickle  # neither form runs code
        label = repr(str(source)) if isinstance(source, Path) else type(source).__name__
        with reading("XGBoost", label):
            model = _parsed(source) if isinstance(source, Path) else _in_memory(source)
            return _graph(model["learner"], name, _classes(source, model["learner"]))


def _parsed(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES).lstrip()
    if head[1:].lstrip()[:1] != b'"':  # UBJSON marks the length of a key where JSON has a quote
        return decode(path.read_bytes())
    return json_of(path, _packed)


def _packed(found: dict[str, Any]) -> dict[str, Any]:
    """A tree's lists as arrays, and only those that are needed: a file of numbers is small, of Python's it is not."""
    if "split_conditions" not in found:
        return found
    return {key: _array(key, found[key]) for key in NEEDED if key in found}


def _array(key: str, value: Any) -> Any:
    return np.array(value, dtype=NEEDED[key]) if NEEDED[key] else value


def _in_memory(source: Any) -> Any:
    booster = source.get_booster() if hasattr(source, "get_booster") else source
    missing = getattr(source, "missing", None)
    if missing is not None and not math.isnan(missing):
        raise _refuse(f"missing={missing}, a number that means a missing value", "replace it by NaN before the model")
    model = json.loads(bytes(booster.save_raw("json")), object_hook=_packed)
    if booster is not source:
        model["learner"]["attributes"]["scikit_learn"] = "{}"
    return model


def _classes(source: object, learner: dict[str, Any]) -> list[object]:
    """Names that the estimator of scikit-learn's kind knows."""
    if not isinstance(source, Path):
        return list(getattr(source, "classes_", []))
    facts = json.loads(learner.get("attributes", {}).get("scikit_learn", "{}"))
    return list(facts.get("classes_") or facts.get("_le", {}).get("classes_") or [])


def _refuse(what: str, reason: str) -> UnsupportedOperation:
    return UnsupportedOperation(f"XGBoost model has {what}; {reason}", operation=what)


def _graph(learner: dict[str, Any], name: str, classes: list[object]) -> Graph:
    objective = learner["objective"]["name"]
    if objective not in LOGISTIC | RAW | CLASSES | PLAIN:
        possible = ", ".join(sorted(LOGISTIC | RAW | CLASSES | PLAIN))
        raise _refuse(f"the objective {objective!r}", f"possible are {possible}")
    forest = _forest(learner, objective)
    features = checked_features(int(learner["learner_model_param"]["num_feature"]))
    builder = GraphBuilder(name)
    scores = forest.place(builder, "trees", builder.input("input", (features,)))
    labels = class_names(classes, scores.elements)
    if objective in LOGISTIC | CLASSES:
        host = (HostOperation(kind=HostOperationKind.SOFTMAX),)
        builder.output(scores, "probabilities", host=host, labels=labels)
    else:
        builder.output(scores, "scores" if objective in RAW else "predictions", labels=labels)
    return builder.graph()


def _forest(learner: dict[str, Any], objective: str) -> Forest:
    booster, facts = learner["gradient_booster"], learner["learner_model_param"]
    if booster["name"] not in {"gbtree", "dart"}:
        raise _refuse(f"the booster {booster['name']!r}", "gbtree and dart are possible")
    model = booster["gbtree"]["model"] if booster["name"] == "dart" else booster["model"]
    count = len(model["trees"])
    weights = booster["weight_drop"] if booster["name"] == "dart" else [1.0] * count
    groups = max(int(facts["num_class"]), int(facts.get("num_target", 1)), 1)
    binary = groups == 1 and objective in LOGISTIC | RAW
    base = np.broadcast_to(_base(facts["base_score"], objective), (groups,))
    forest = Forest(np.array([0.0, base[0]]) if binary else base)
    trees = zip(model["trees"], model["tree_info"], weights, strict=True)
    for tree, group, weight in list(trees)[: _used(learner, model, count)]:
        if not 0 <= group < groups:
            raise ModelUnreadable(f"XGBoost model has a tree for group {group}, it has {groups} groups")
        forest.add(_tree(tree, group + binary, groups + binary, weight))
    return forest


def _base(text: str, objective: str) -> NDArray[np.float64]:
    """The score before any tree: one for all, or since XGBoost 3.1 one for each group."""
    found = json.loads(text)
    scores = np.array(found if isinstance(found, list) else [found], dtype=np.float64)
    if objective in LOGISTIC:
        return np.array([math.log(score / (1.0 - score)) for score in scores.tolist()])
    return scores


def _used(learner: dict[str, Any], model: dict[str, Any], count: int) -> int:
    """Trees that an estimator uses: those up to its best iteration when it stopped early."""
    attributes = learner.get("attributes", {})
    if "scikit_learn" not in attributes or "best_iteration" not in attributes:
        return count
    return int(model["iteration_indptr"][int(attributes["best_iteration"]) + 1])


def _tree(tree: dict[str, Any], place: int, columns: int, weight: float) -> Tree:
    left = np.array(tree["left_children"], dtype=np.int64)
    inner = left >= 0
    if np.any(np.array(tree.get("split_type", np.zeros(len(left))))[inner]):
        raise _refuse("splits by categories", "numbers are possible; encode them before the model")
    conditions = np.array(tree["split_conditions"], dtype=np.float32)
    value = _values(tree, inner, columns)
    if value is None:
        value = column(np.where(inner, 0.0, conditions), place, columns)
    return Tree(
        feature=np.array(tree["split_indices"], dtype=np.int64),
        # x < t is x <= the float32 before t
        threshold=np.nextafter(conditions, np.float32(-np.inf)).astype(np.float64),
        left=left,
        right=np.where(inner, np.array(tree["right_children"], dtype=np.int64), -1),
        value=weight * value,
        missing=np.array(tree["default_left"], dtype=np.int64) != 0,
    )


def _values(tree: dict[str, Any], inner: NDArray[np.bool_], columns: int) -> NDArray[np.float64] | None:
    """Of leaves with a value for each target: at the leaf's place in a list of their own, or at the node's."""
    if int(tree["tree_param"].get("size_leaf_vector", "1")) <= 1:
        return None
    values = np.array(tree.get("leaf_weights", tree["base_weights"]), dtype=np.float32).reshape(-1, columns)
    at = np.array(tree["right_children"]) if "leaf_weights" in tree else np.arange(len(inner))
    return values[np.where(inner, 0, at)].astype(np.float64)
