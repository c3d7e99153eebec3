"""Operators of the ``ai.onnx.ml`` domain: linear models and scalers here, trees and what is around classes beside it.

A classifier's label is the index of the largest score where the labels are 0, 1, 2, ...; other names go with the
scores, and an output that would give them is left out.
"""

# Ref: ONNX ai.onnx.ml operators: Scaler ((x - offset) * scale), LinearRegressor (coefficients by target),
# Ref: LinearClassifier (coefficients by class; post_transform)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gatesmith.frontends.onnx_classes import CLASS_OPERATORS, class_labels, give_scores, post_transform
from gatesmith.frontends.onnx_operators import Call, Operator, Value
from gatesmith.frontends.onnx_trees import TREE_OPERATORS

__all__ = ["ML_OPERATORS"]

Real = NDArray[np.float64]


def _scaler(call: Call) -> Value:
    x = call.real()
    scale, offset = (
        call.for_sample(np.array(call.attribute(key, d)), x.shape) for key, d in (("scale", 1), ("offset", 0))
    )
    return call.builder.scale(call.name, x, scale, -offset * scale)


def _linear_regressor(call: Call) -> Value:
    x, targets = call.flat(), call.attribute("targets", 1)
    transform = post_transform(call)
    if transform != "NONE":
        raise call.refuse(f"has the post_transform {transform}, NONE is possible")
    weight = np.array(call.attribute("coefficients"), dtype=np.float64).reshape(targets, x.elements).T
    bias = np.array(call.attribute("intercepts", [0.0] * targets), dtype=np.float64)
    return call.builder.dense(call.name, x, weight, bias)


def _linear_classifier(call: Call) -> None:
    x, names = call.flat(), class_labels(call, "classlabels_ints", "classlabels_strings")
    weight = np.array(call.attribute("coefficients"), dtype=np.float64).reshape(-1, x.elements).T
    bias = np.array(call.attribute("intercepts", [0.0] * weight.shape[1]), dtype=np.float64)
    transform, columns = post_transform(call), weight.shape[1]
    if len(names) != 2 and len(names) != columns:
        raise call.refuse(f"has {columns} scores for {len(names)} classes")
    if columns == 1:
        raise call.refuse("has one score for two classes; export it with one for each")
    if transform == "LOGISTIC":
        if columns != 2 or not (_opposite(weight) and _opposite(bias)):
            raise call.refuse("has a sigmoid for each class (LOGISTIC), which is possible for two classes only")
        weight, bias = weight.copy(), bias.copy()
        weight[:, 0], bias[0] = 0.0, 0.0  # the sigmoids of -z and z are the softmax of 0 and z
        transform = "SOFTMAX"
    scores = call.builder.dense(call.name, x, weight, bias)
    give_scores(call, scores, names, softmax=transform == "SOFTMAX")


def _opposite(columns: Real) -> bool:
    return bool(np.array_equal(columns[..., 0], -columns[..., 1]))


ML_OPERATORS: dict[str, Operator] = {
    **CLASS_OPERATORS,
    **TREE_OPERATORS,
    "LinearClassifier": _linear_classifier,
    "LinearRegressor": _linear_regressor,
    "Scaler": _scaler,
}
"""Every operator of the domain that is read."""
