"""LightGBM models: text files, read without LightGBM, and boosters and estimators in memory.

The text is lines of ``key=value``: a head, one block for each tree, and what is not needed after ``end of trees``.
"""

# Ref: LightGBM 4.7, src/boosting/gbdt_model_text.cpp (the text), include/LightGBM/tree.h: decision_type (bit 0:
# Ref: categories, bit 1: missing goes left, bits 2 and 3: missing is nothing, zero or NaN), NumericalDecision (x <=
# Ref: threshold in float64; NaN is 0 unless it is the missing value); kZeroThreshold, below which the predictor
# Ref: leaves a number out as a zero; children below 0 are leaves ~n
# Ref: src/objective/*.hpp, ConvertOutput: binary and cross_entropy sigmoid, multiclass softmax, sqrt squares

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.errors import ModelUnreadable, UnsupportedOperation
from gatesmith.frontends.ensembles import Forest, Tree, checked_features, class_names, column
from gatesmith.frontends.frontend import Frontend, GraphBuilder
from gatesmith.frontends.reading import reading
from gatesmith.model.graph import Graph

__all__ = ["LightgbmFrontend"]

Real = NDArray[np.float64]
Flags = NDArray[np.bool_]

SIGMOID = {"binary", "cross_entropy"}
SOFTMAX = {"multiclass"}
ONE_BY_ONE = {"multiclassova"}
PLAIN = {
    "custom",
    "fair",
    "huber",
    "lambdarank",
    "mape",
    "quantile",
    "rank_xendcg",
    "regression",
    "regression_l1",
}
"""What is predicted is the sum itself."""

KEYS = {"decision_type", "is_linear", "leaf_value", "left_child", "num_cat", "num_leaves", "right_child"}
KEYS |= {"split_feature", "threshold"}

CATEGORIES, GOES_LEFT, MISSING_SHIFT = 1, 2, 2
ZERO, NAN = 1, 2
ZERO_THRESHOLD = float(np.float32(1e-35))
INFINITE = 1e300
"""Written in place of infinity."""


class LightgbmFrontend(Frontend):
    """Text files, Booster, and the estimators of lightgbm.sklearn."""

    name = "lightgbm"

    def accepts(self, source: object) -> bool:
        if isinstance(source, Path):
            with source.open("rb") as file:
                head = file.read(64)
            return head.startswith((b"tree\nversion=", b"tree\r\nversion="))
        return type(source).__module__.split(".")[0] == "lightgbm"

    def read(self, source: object, *, name: str, trust_pickle: bool) -> Graph:
        del trust_pickle  # text runs no code
        label = repr(str(source)) if isinstance(source, Path) else type(source).__name__
        with reading("LightGBM", label):
            return _graph(_blocks(_lines(source)), name, getattr(source, "classes_", ()))


def _lines(source: Any) -> Iterator[bytes]:
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield from file
        return
    booster = getattr(source, "booster_", source)
    yield from io.BytesIO(booster.model_to_string().encode())


Block = dict[str, str]


def _blocks(lines: Iterator[bytes]) -> Iterator[Block]:
    """The head, then each tree."""
    block: Block = {}
    head = True
    for raw in lines:
        key, _, value = raw.rstrip(b"\r\n").partition(b"=")
        if key == b"Tree":
            yield block
            block, head = {}, False
        elif key == b"end of trees":
            yield block
            return
        else:
            word = key.decode()
            if head or word in KEYS:
                block[word] = value.decode()
    raise ModelUnreadable("LightGBM model ends before its trees do")


def _refuse(what: str, reason: str) -> UnsupportedOperation:
    return UnsupportedOperation(f"LightGBM model has {what}; {reason}", operation=what)


@dataclass(frozen=True, kw_only=True)
class _Head:
    """What is said of all trees."""

    objective: str
    sigmoid: float
    groups: int
    features: int
    averages: bool

    @classmethod
    def of(cls, block: Block) -> _Head:
        name, *words = block.get("objective", "custom").split()
        facts = dict(word.partition(":")[::2] for word in words)
        possible = SIGMOID | SOFTMAX | ONE_BY_ONE | PLAIN
        if name not in possible:
            raise _refuse(f"the objective {name!r}", f"possible are {', '.join(sorted(possible))}")
        if "sqrt" in facts:
            raise _refuse("reg_sqrt, which squares the sum", "train on square roots instead")
        groups = int(block["num_tree_per_iteration"])
        if groups < 1:
            raise ModelUnreadable(f"LightGBM model has {groups} trees for each iteration, 1 or more are needed")
        return cls(
            objective=name,
            sigmoid=float(facts.get("sigmoid", 1.0)),
            groups=groups,
            features=checked_features(int(block["max_feature_idx"]) + 1),
            averages="average_output" in block,
        )


def _graph(blocks: Iterator[Block], name: str, classes: Any) -> Graph:
    head = _Head.of(next(blocks))
    forest = _forest(head, list(_trees(head, blocks)))
    builder = GraphBuilder(name)
    scores = forest.place(builder, "trees", builder.input("input", (head.features,)))
    labels = class_names(classes, scores.elements)
    if head.objective in SIGMOID | SOFTMAX:
        host = (HostOperation(kind=HostOperationKind.SOFTMAX),)
        builder.output(scores, "probabilities", host=host, labels=labels)
    else:
        builder.output(scores, "scores" if head.groups > 1 else "predictions", labels=labels)
    return builder.graph()


def _trees(head: _Head, blocks: Iterator[Block]) -> Iterator[tuple[Tree, bool]]:
    """Each tree, and whether it knows missing values."""
    binary = head.objective in SIGMOID
    for index, block in enumerate(blocks):
        yield _tree(block, index % head.groups + binary, head.groups + binary)


def _forest(head: _Head, trees: list[tuple[Tree, bool]]) -> Forest:
    if not trees or len(trees) % head.groups:
        raise ModelUnreadable(f"LightGBM model has {len(trees)} trees for {head.groups} outputs")
    factor = head.sigmoid if head.objective in SIGMOID else 1.0
    if head.averages:
        factor /= len(trees) // head.groups
    knows_missing = any(knows for _, knows in trees)
    forest = Forest(0.0)
    for tree, _ in trees:
        tree.value[...] *= factor
        forest.add(tree if knows_missing else replace(tree, missing=None))
    return forest


def _numbers(block: Block, key: str, dtype: type[np.generic], count: int) -> NDArray[Any]:
    found = np.array(block[key].split(), dtype=dtype) if count else np.zeros(0, dtype=dtype)
    if len(found) != count:
        raise ModelUnreadable(f"LightGBM model has {len(found)} of {key} where {count} are needed")
    return found


def _tree(block: Block, place: int, columns: int) -> tuple[Tree, bool]:
    leaves = int(block["num_leaves"])
    splits = leaves - 1
    if block.get("is_linear", "0") != "0":
        raise _refuse("linear trees", "constants at the leaves are possible; train with linear_tree=False")
    kind = _numbers(block, "decision_type", np.int64, splits)
    if int(block.get("num_cat", "0")) or np.any(kind & CATEGORIES):
        raise _refuse("splits by categories", "numbers are possible; encode them before the model")
    threshold = _numbers(block, "threshold", np.float64, splits)
    threshold, missing = _directed(threshold, (kind & GOES_LEFT) != 0, kind >> MISSING_SHIFT)
    children = (_numbers(block, f"{side}_child", np.int64, splits) for side in ("left", "right"))
    left, right = (np.where(child < 0, splits + ~child, child) for child in children)
    value = np.concatenate([np.zeros(splits), _numbers(block, "leaf_value", np.float64, leaves)])
    ends = np.full(leaves, -1)
    none = np.zeros(leaves)
    tree = Tree(
        feature=np.concatenate([_numbers(block, "split_feature", np.int64, splits), ends]),
        threshold=np.concatenate([threshold, none]),
        left=np.concatenate([left, ends]),
        right=np.concatenate([right, ends]),
        value=column(value, place, columns),
        missing=np.concatenate([missing, none != 0]),
    )
    return tree, bool(np.any(kind >> MISSING_SHIFT == NAN))


def _directed(threshold: Real, default_left: Flags, absent: NDArray[np.int64]) -> tuple[Real, Flags]:
    """Thresholds that know where zero goes, and where NaN goes: with the zeros, unless it is a missing value itself."""
    zero_is_left = threshold >= 0
    zero = absent == ZERO
    beyond = np.abs(threshold) > ZERO_THRESHOLD
    if np.any(zero & beyond & (zero_is_left != default_left)):
        raise _refuse(
            "zeros that are missing values and go against their side of a threshold", "train with zero_as_missing=False"
        )
    # numbers up to 1e-35 are zeros, which go to one side of a threshold among them as a whole
    goes_left = np.where(zero, default_left, zero_is_left)
    edges = np.where(goes_left, ZERO_THRESHOLD, np.nextafter(-ZERO_THRESHOLD, -np.inf))
    threshold = np.where(beyond, threshold, edges)
    threshold = np.where(np.abs(threshold) >= INFINITE, np.copysign(np.inf, threshold), threshold)
    return threshold, np.where(absent == 0, zero_is_left, default_left)
