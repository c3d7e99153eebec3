"""CatBoost models: JSON files, read without CatBoost, and models in memory.

Trees are symmetric, with one split for each level and the leaves in the order of the splits' bits, or nested.
"""

# Ref: CatBoost 1.2, "Export a model as JSON" and catboost/libs/model/model_export/json_model_helpers.cpp: a split is
# Ref: true where x > border in float32 and is bit i of the leaf's number, leaves of several outputs lie side by side,
# Ref: the result is scale * sum + bias; nan_value_treatment AsIs, AsFalse, AsTrue

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.errors import ModelUnreadable, UnsupportedOperation
from gatesmith.frontends.ensembles import Forest, Tree, checked_features, class_names
from gatesmith.frontends.frontend import Frontend, GraphBuilder
from gatesmith.frontends.reading import json_of, reading
from gatesmith.model.graph import Graph

__all__ = ["CatboostFrontend"]

Real = NDArray[np.float64]

SIGMOID = {"CrossEntropy", "Logloss"}
SOFTMAX = {"MultiClass"}
ONE_BY_ONE = {"MultiClassOneVsAll"}
PLAIN = {
    "Expectile",
    "Huber",
    "LambdaMart",
    "Lq",
    "MAE",
    "MAPE",
    "MultiQuantile",
    "MultiRMSE",
    "PairLogit",
    "PairLogitPairwise",
    "QueryRMSE",
    "QuerySoftMax",
    "Quantile",
    "RMSE",
    "StochasticRank",
    "YetiRank",
    "YetiRankPairwise",
}
"""What is predicted is the sum itself."""

BINARY = b"CBM1"
HEAD_BYTES = 1 << 16
MARKS = (b'"oblivious_trees"', b'"features_info"', b'"catboost_version_info"', b'"float_features"')
MAX_LEVELS = 16
NUMBERS = "FloatFeature"
OTHERS = ("categorical_features", "text_features", "embedding_features", "ctrs")


class CatboostFrontend(Frontend):
    """``.json`` files, and CatBoost's own classes."""

    name = "catboost"

    def accepts(self, source: object) -> bool:
        if isinstance(source, Path):
            with source.open("rb") as file:
                head = file.read(HEAD_BYTES)
            return head.startswith(BINARY) or (head.lstrip()[:1] == b"{" and any(mark in head for mark in MARKS))
        return type(source).__module__.split(".")[0] == "catboost"

    def read(self, source: object, *, name: str, trust_pickle: bool) -> Graph:
        del trust_pickle  # JSON runs no code
        label = repr(str(source)) if isinstance(source, Path) else type(source).__name__
        with reading("CatBoost", label):
            return _graph(_parsed(source) if isinstance(source, Path) else _dumped(source), name)


def _parsed(path: Path) -> Any:
    with path.open("rb") as file:
        if file.read(len(BINARY)) == BINARY:
            raise _refuse("a binary form", "JSON is read, save it with format='json'")
    return json_of(path, _packed)


def _packed(found: dict[str, Any]) -> dict[str, Any]:
    """A tree's leaves as an array, without their weights."""
    if "leaf_values" in found:
        return {"splits": found["splits"], "leaf_values": np.array(found["leaf_values"], dtype=np.float64)}
    return found


def _dumped(model: Any) -> Any:
    """What the library writes, which it does into files only."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        return _parsed(path)


def _refuse(what: str, reason: str) -> UnsupportedOperation:
    return UnsupportedOperation(f"CatBoost model has {what}; {reason}", operation=what)


def _graph(model: dict[str, Any], name: str) -> Graph:
    loss, classes = _loss(model["model_info"])
    features = _Features(model["features_info"])
    scale, bias = model["scale_and_bias"]
    bias = np.array(bias if isinstance(bias, list) else [bias], dtype=np.float64)
    binary = loss in SIGMOID
    if not bias.size or (binary and bias.size != 1):
        raise ModelUnreadable(f"CatBoost model has {bias.size} outputs with the loss {loss}")
    forest = Forest(np.concatenate([[0.0], bias]) if binary else bias)
    for tree in _trees(model, bias.size, features):
        value = tree.value * float(scale)
        if binary:
            value = np.concatenate([np.zeros_like(value), value], axis=1)
        forest.add(replace(tree, value=value))
    builder = GraphBuilder(name)
    scores = forest.place(builder, "trees", builder.input("input", (features.count,)))
    labels = class_names(classes, scores.elements)
    if loss in SIGMOID | SOFTMAX:
        host = (HostOperation(kind=HostOperationKind.SOFTMAX),)
        builder.output(scores, "probabilities", host=host, labels=labels)
    else:
        builder.output(scores, "scores" if loss in ONE_BY_ONE else "predictions", labels=labels)
    return builder.graph()


def _loss(info: dict[str, Any]) -> tuple[str, list[object]]:
    """The loss by its name, and the classes' names."""
    facts = info.get("params", {})
    facts = json.loads(facts) if isinstance(facts, str) else facts
    loss = facts.get("loss_function", {}).get("type")
    possible = SIGMOID | SOFTMAX | ONE_BY_ONE | PLAIN
    if loss not in possible:
        raise _refuse(f"the loss {loss!r}", f"possible are {', '.join(sorted(possible))}")
    return loss, list(info.get("class_params", {}).get("class_names", []))


class _Features:
    """Where the numbers of a sample are, and where a missing one goes."""

    def __init__(self, info: dict[str, Any]) -> None:
        others = [kind for kind in OTHERS if info.get(kind)]
        if others:
            raise _refuse(" and ".join(others).replace("_", " "), "numbers are possible; encode them before the model")
        listed = info["float_features"]
        self.place = {int(each["feature_index"]): int(each["flat_feature_index"]) for each in listed}
        if sorted(self.place.values()) != list(range(len(listed))):
            raise ModelUnreadable(f"CatBoost model has {len(listed)} features, which are not numbered from 0")
        self.count = checked_features(len(listed))
        self.missing_is_right = {
            int(each["feature_index"]): each.get("nan_value_treatment") == "AsTrue" for each in listed
        }
        self.knows_missing = any(each.get("has_nans") for each in listed)

    def split(self, split: dict[str, Any]) -> tuple[int, float, bool]:
        """Feature, border, and whether a missing value goes left."""
        kind = split.get("split_type", NUMBERS)
        if kind != NUMBERS:
            raise _refuse(f"splits of the kind {kind}", f"{NUMBERS} is possible; encode categories before the model")
        index = split["float_feature_index"]
        return self.place[index], float(np.float32(split["border"])), not self.missing_is_right[index]

    def tree(self, splits: list[tuple[int, float, bool]], children: tuple[Any, Any], leaves: Real) -> Tree:
        """Splits first, then the leaves."""
        ends = np.full(len(leaves), -1)
        feature, border, left = zip(*splits, strict=True) if splits else ((), (), ())
        return Tree(
            feature=np.concatenate([np.array(feature, dtype=np.int64), ends]),
            threshold=np.concatenate([np.array(border, dtype=np.float64), np.zeros(len(leaves))]),
            left=np.concatenate([np.array(children[0], dtype=np.int64), ends]),
            right=np.concatenate([np.array(children[1], dtype=np.int64), ends]),
            value=np.concatenate([np.zeros((len(splits), leaves.shape[1])), leaves]),
            missing=np.concatenate([np.array(left, dtype=bool), ends == 0]) if self.knows_missing else None,
        )


def _trees(model: dict[str, Any], outputs: int, features: _Features) -> Iterator[Tree]:
    symmetric, nested = model.get("oblivious_trees") or [], model.get("trees") or []
    if not symmetric and not nested:
        raise ModelUnreadable("CatBoost model has no trees")
    for tree in symmetric:
        yield _symmetric(tree, outputs, features)
    for tree in nested:
        yield _nested(tree, outputs, features)


def _symmetric(tree: dict[str, Any], outputs: int, features: _Features) -> Tree:
    levels = [features.split(split) for split in tree["splits"] or []]
    leaves = np.array(tree["leaf_values"], dtype=np.float64)
    if len(levels) > MAX_LEVELS or leaves.shape != (outputs << len(levels),):
        raise ModelUnreadable(f"CatBoost model has {leaves.size} leaf values for {len(levels)} levels")
    # as in a heap: the root asks the last split, so that the leaves come in their own order
    splits = [split for depth, split in enumerate(reversed(levels)) for _ in range(1 << depth)]
    places = np.arange(len(splits))
    return features.tree(splits, (2 * places + 1, 2 * places + 2), leaves.reshape(-1, outputs))


def _nested(tree: dict[str, Any], outputs: int, features: _Features) -> Tree:
    splits: list[tuple[int, float, bool]] = []
    leaves: list[Real] = []
    sides: tuple[list[int], list[int]] = ([], [])
    todo: list[tuple[dict[str, Any], list[int], int]] = [(tree, [0], 0)]
    while todo:
        node, names, place = todo.pop()
        if "split" not in node:
            names[place] = ~len(leaves)
            leaves.append(np.broadcast_to(np.array(node["value"], dtype=np.float64), (outputs,)))
            continue
        names[place] = len(splits)
        for key, side in zip(("left", "right"), sides, strict=True):
            side.append(0)
            todo.append((node[key], side, len(splits)))
        splits.append(features.split(node["split"]))
    left, right = (np.array([len(splits) + ~n if n < 0 else n for n in side], dtype=np.int64) for side in sides)
    return features.tree(splits, (left, right), np.array(leaves))
