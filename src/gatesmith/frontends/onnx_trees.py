"""Ensembles of trees in ONNX files: classifier, regressor, and TreeEnsemble, which replaces both since opset 5.

Nodes lie in one list for all trees. Thresholds are compared in the data's own type.
"""

# Ref: ONNX ai.onnx.ml operators TreeEnsembleClassifier, TreeEnsembleRegressor (version 3: *_as_tensor in double),
# Ref: TreeEnsemble (version 5)
# Ref: onnxruntime, core/providers/cpu/ml/tree_ensemble_aggregator.h: of two classes that have scores for one, the
# Ref: other is 1 - s when all weights are positive, otherwise -s; _set_score_binary and write_scores

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.frontends.ensembles import MAX_NODES, MAX_VALUES, Forest, Tree
from gatesmith.frontends.onnx_classes import class_labels, give_scores, post_transform
from gatesmith.frontends.onnx_operators import Call, Operator, Value
from gatesmith.model.nodes import Edge

__all__ = ["TREE_OPERATORS"]

Real = NDArray[np.float64]
Integers = NDArray[np.int64]

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
ORDERED = 4
"""How many of them compare by order."""

TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
AVERAGE, SUM = 0, 1


@dataclass(frozen=True, kw_only=True)
class _Nodes:
    """The nodes of all trees side by side; children are places in the same list, negative at leaves.

    ``trees`` holds the places of each tree's nodes, its root first.
    """

    trees: list[Integers]
    feature: Integers
    threshold: Real
    mode: Integers
    true: Integers
    false: Integers
    missing: NDArray[np.bool_]
    value: Real


def _numbers(call: Call, key: str, dtype: Any, default: Any = None) -> NDArray[Any]:
    """An attribute that is a list, or a tensor of doubles under a longer name."""
    from onnx import numpy_helper

    found = call.attribute(f"{key}_as_tensor")
    if found is None:
        found = call.attribute(key, default)
    if found is None:
        raise call.refuse(f"has no {key}")
    if hasattr(found, "raw_data"):
        found = numpy_helper.to_array(found)
    return np.asarray(found, dtype=dtype).ravel()


def _data(call: Call) -> Edge:
    """Whole numbers are compared as they are."""
    x = call.edge()
    if len(x.shape) != 1:
        raise call.refuse(f"has data of shape {[-1, *x.shape]}, a flat sample is needed; flatten it before")
    return x


def _listed(call: Call, prefix: str, outputs: int) -> _Nodes:
    """The nodes as the two older operators list them: by numbers of trees and nodes."""
    trees, ids = (_numbers(call, f"nodes_{key}", np.int64) for key in ("treeids", "nodeids"))
    names = [mode.decode() for mode in call.attribute("nodes_modes", [])]
    codes = {name: place for place, name in enumerate((*MODES, "LEAF"))}
    unknown = sorted(set(names) - set(codes))
    if unknown or not 0 < len(names) <= MAX_NODES:
        raise call.refuse(f"has {len(names)} nodes, of unknown kinds {unknown}; at most {MAX_NODES} are possible")
    mode = np.array([codes[name] for name in names])
    places = _Places(trees, ids)
    leaf = mode == codes["LEAF"]
    true, false = (
        np.where(leaf, -1, places.of(trees, np.where(leaf, ids, _numbers(call, f"nodes_{key}nodeids", np.int64))))
        for key in ("true", "false")
    )
    value = _empty(call, len(names), outputs)
    rows = places.of(*(_numbers(call, f"{prefix}_{key}", np.int64) for key in ("treeids", "nodeids")))
    ids = _outputs(call, f"{prefix}_ids", outputs)
    np.add.at(value, (rows, ids), _numbers(call, f"{prefix}_weights", np.float64))
    missing = _numbers(call, "nodes_missing_value_tracks_true", np.int64, [0] * len(names)) != 0
    order = np.argsort(trees, kind="stable")
    return _Nodes(
        trees=np.split(order, np.flatnonzero(np.diff(trees[order])) + 1),
        feature=_numbers(call, "nodes_featureids", np.int64),
        threshold=_numbers(call, "nodes_values", np.float64),
        mode=mode,
        true=true,
        false=false,
        missing=missing if missing.size else np.zeros(len(names), dtype=bool),
        value=value,
    )


def _empty(call: Call, nodes: int, outputs: int) -> Real:
    if not 0 < nodes * outputs <= MAX_VALUES:
        raise call.refuse(f"has {nodes} nodes for {outputs} outputs, {MAX_VALUES} numbers are possible")
    return np.zeros((nodes, outputs))


def _outputs(call: Call, key: str, count: int) -> Integers:
    ids = _numbers(call, key, np.int64)
    if ids.size and not (ids.min() >= 0 and ids.max() < count):
        raise call.refuse(f"has {key} from {ids.min()} to {ids.max()} for {count} outputs")
    return ids


class _Places:
    """Where the node of a number is, in a tree of a number."""

    def __init__(self, trees: Integers, ids: Integers) -> None:
        self.trees, self.tree = np.unique(trees, return_inverse=True)
        self.first, self.span = int(ids.min()), int(ids.max()) - int(ids.min()) + 1
        if self.span > 1 << 40:
            raise ValueError(f"nodes are numbered from {self.first} over {self.span}")
        keys = self.tree * self.span + ids - self.first
        self.order = np.argsort(keys, kind="stable")
        self.keys = keys[self.order]
        if np.any(self.keys[1:] == self.keys[:-1]):
            raise ValueError("a tree has two nodes of one number")

    def of(self, trees: Integers, ids: Integers) -> Integers:
        if trees.shape != ids.shape:
            raise ValueError(f"{trees.size} trees are named for {ids.size} nodes")
        tree = np.clip(np.searchsorted(self.trees, trees), 0, len(self.trees) - 1)
        keys = tree * self.span + ids - self.first
        found = np.clip(np.searchsorted(self.keys, keys), 0, len(self.keys) - 1)
        known = (self.trees[tree] == trees) & (ids >= self.first) & (ids < self.first + self.span)
        if not np.all(known & (self.keys[found] == keys)):
            raise ValueError("a node that does not exist is named")
        return self.order[found]


def _forest(call: Call, nodes: _Nodes, bias: Real) -> Forest:
    sizes = {len(each) for each in (nodes.feature, nodes.threshold, nodes.mode, nodes.missing)}
    if len(sizes) > 1:
        raise call.refuse(f"has lists of {sorted(sizes)} nodes")
    inner = nodes.true >= 0
    if np.any(inner & (nodes.mode >= ORDERED)):
        kinds = sorted({MODES[code] for code in nodes.mode[inner & (nodes.mode >= ORDERED)]})
        raise call.refuse(f"compares by {', '.join(kinds)}; {', '.join(MODES[:ORDERED])} are possible")
    strict = (nodes.mode == MODES.index("BRANCH_LT")) | (nodes.mode == MODES.index("BRANCH_GTE"))
    flipped = (nodes.mode == MODES.index("BRANCH_GTE")) | (nodes.mode == MODES.index("BRANCH_GT"))
    dtype = np.dtype(np.float64 if call.dtype == np.float64 else np.float32)
    threshold = nodes.threshold.astype(dtype)
    # x < t is x <= the number before t
    threshold = np.where(strict, np.nextafter(threshold, dtype.type(-np.inf)), threshold).astype(np.float64)
    left, right = np.where(flipped, nodes.false, nodes.true), np.where(flipped, nodes.true, nodes.false)
    missing = (nodes.missing != flipped) if nodes.missing.any() else None
    forest = Forest(bias)
    local = np.zeros(len(inner), dtype=np.int64)
    for own in nodes.trees:
        local[own] = np.arange(len(own))
        forest.add(
            Tree(
                feature=nodes.feature[own],
                threshold=threshold[own],
                left=np.where(left[own] < 0, -1, local[left[own]]),
                right=np.where(right[own] < 0, -1, local[right[own]]),
                value=nodes.value[own],
                missing=None if missing is None else missing[own],
            )
        )
    return forest


def _classifier(call: Call) -> None:
    x, labels = _data(call), class_labels(call, "classlabels_int64s", "classlabels_strings")
    transform, classes = post_transform(call), len(labels)
    nodes = _listed(call, "class", classes)
    base = _numbers(call, "base_values", np.float64, [])
    if base.size and base.size != classes and not (base.size == 1 and classes == 2):
        raise call.refuse(f"has {base.size} base values for {classes} classes")
    scored = set(_numbers(call, "class_ids", np.int64).tolist())
    if classes != 2 or len(scored) > 1:
        if base.size and classes == 2 and base.any():
            raise call.refuse("has base values, and scores for both of two classes")
        bias = base if base.size else np.zeros(classes)
        if transform == "LOGISTIC":
            nodes = _of_opposite_scores(call, nodes)
            transform = "SOFTMAX"
    else:
        nodes, bias = _of_one_score(call, nodes, base, scored.pop() if scored else 0, transform)
        transform = "SOFTMAX" if transform == "LOGISTIC" else transform
    scores = _forest(call, nodes, bias).place(call.builder, call.name, x)
    give_scores(call, scores, labels, softmax=transform == "SOFTMAX")


def _of_opposite_scores(call: Call, nodes: _Nodes) -> _Nodes:
    """The sigmoids of -z and z are the softmax of 0 and z."""
    if nodes.value.shape[1] != 2 or not np.array_equal(nodes.value[:, 0], -nodes.value[:, 1]):
        raise call.refuse("has a sigmoid for each class (LOGISTIC), which is possible for two classes only")
    return replace(nodes, value=nodes.value * np.array([0.0, 1.0]))


def _of_one_score(call: Call, nodes: _Nodes, base: Real, scored: int, transform: str) -> tuple[_Nodes, Real]:
    """Two columns where all trees score one of two classes."""
    if scored == 1 and (base.size or transform == "LOGISTIC"):
        raise call.refuse("has base values or a sigmoid, and scores for the second of two classes alone")
    if base.size > 1:
        raise call.refuse(f"has {base.size} base values, and scores for one of two classes")
    score = nodes.value[:, scored]
    start = float(base.sum())
    if scored == 1 or transform == "LOGISTIC":
        first, bias = 0.0, np.array([0.0, start])
    else:
        if transform == "SOFTMAX":
            raise call.refuse("has a softmax over a score for one of two classes")
        all_positive = bool(np.all(_numbers(call, "class_weights", np.float64) >= 0))
        first, bias = -1.0, np.array([1.0 - start if all_positive else -start, start])
    return replace(nodes, value=np.stack([first * score, score], axis=1)), bias


def _regressor(call: Call) -> Value:
    x, targets = _data(call), call.attribute("n_targets", 1)
    nodes = _listed(call, "target", targets)
    kind = call.attribute("aggregate_function", b"SUM").decode()
    if kind not in {"SUM", "AVERAGE"}:
        raise call.refuse(f"aggregates by {kind}; SUM and AVERAGE are possible")
    return _regression(call, x, nodes, average=kind == "AVERAGE", transform=post_transform(call))


def _regression(call: Call, x: Edge, nodes: _Nodes, *, average: bool, transform: str) -> Value:
    targets = nodes.value.shape[1]
    if average:
        nodes = replace(nodes, value=nodes.value / len(nodes.trees))
    base = _numbers(call, "base_values", np.float64, [])
    if base.size not in {0, targets}:
        raise call.refuse(f"has {base.size} base values for {targets} targets")
    forest = _forest(call, nodes, base if base.size else np.zeros(targets))
    scores = forest.place(call.builder, call.name, x)
    if call.dtype != np.float64 or call.node.op_type == "TreeEnsembleRegressor":
        call.dtype = np.dtype(np.float32)
    if transform == "LOGISTIC":
        return call.builder.table(f"{call.name}/sigmoid", scores, "sigmoid")
    if transform == "SOFTMAX":
        call.reader.softmax.add(call.node.output[0])
    return scores


def _ensemble(call: Call) -> Value:
    """The newer operator: splits and leaves in lists of their own, a place in either for each branch."""
    x, targets = _data(call), call.attribute("n_targets", 1)
    transform, kind = TRANSFORMS[call.attribute("post_transform", 0)], call.attribute("aggregate_function", SUM)
    if transform not in TRANSFORMS[:3] or kind not in {AVERAGE, SUM}:
        raise call.refuse(f"has the post_transform {transform} and the aggregate_function {kind}; sums are possible")
    weights = _numbers(call, "leaf_weights", np.float64)
    modes = _numbers(call, "nodes_modes", np.int64)
    splits, leaves = len(modes), len(weights)
    value = _empty(call, splits + leaves, targets)
    value[np.arange(splits, splits + leaves), _outputs(call, "leaf_targetids", targets)] = weights
    true, false = (_branches(call, side, splits) for side in ("true", "false"))
    single = true == false  # a tree of one leaf is a split with that leaf on both sides
    nodes = _Nodes(
        trees=[_below(root, true, false, splits + leaves) for root in _numbers(call, "tree_roots", np.int64)],
        feature=_longer(_numbers(call, "nodes_featureids", np.int64), leaves),
        threshold=_longer(_numbers(call, "nodes_splits", np.float64), leaves),
        mode=_longer(modes, leaves),
        true=np.concatenate([np.where(single, -1, true), np.full(leaves, -1)]),
        false=np.concatenate([np.where(single, -1, false), np.full(leaves, -1)]),
        missing=_longer(_numbers(call, "nodes_missing_value_tracks_true", np.int64, [0] * splits) != 0, leaves),
        value=np.concatenate([np.where(single[:, None], value[true], 0.0), value[splits:]]),
    )
    return _regression(call, x, nodes, average=kind == AVERAGE, transform=transform)


def _longer(values: NDArray[Any], count: int) -> NDArray[Any]:
    return np.concatenate([values, np.zeros(count, dtype=values.dtype)])


def _branches(call: Call, side: str, splits: int) -> Integers:
    """Places of children, the leaves after the splits."""
    places = _numbers(call, f"nodes_{side}nodeids", np.int64)
    return np.where(_numbers(call, f"nodes_{side}leafs", np.int64) != 0, places + splits, places)


def _below(root: int, true: Integers, false: Integers, count: int) -> Integers:
    """The root's tree, itself first."""
    level, found, left = np.array([root]), [], count
    while level.size:
        if level.size > left or level.min() < 0 or level.max() >= count:
            raise ValueError(f"the tree at node {root} leads back or to nowhere")
        found.append(level)
        left -= level.size
        inner = level[level < len(true)]
        level = np.unique(np.concatenate([true[inner], false[inner]]))
    return np.concatenate(found)


TREE_OPERATORS: dict[str, Operator] = {
    "TreeEnsemble": _ensemble,
    "TreeEnsembleClassifier": _classifier,
    "TreeEnsembleRegressor": _regressor,
}
"""Operators that are a sum over trees."""
