"""Operators of the ``ai.onnx.ml`` domain that exporters of classical models put around a network."""

# Ref: ONNX ai.onnx.ml operators: Scaler ((x - offset) * scale), LinearRegressor (coefficients by target), and
# Ref: ArrayFeatureExtractor, with which skl2onnx turns the index of a class into its label

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gatesmith.frontends.onnx_operators import Call, Value

__all__ = ["ML_OPERATORS"]


def _scaler(call: Call) -> Value:
    x = call.real()
    scale, offset = (
        call.for_sample(np.array(call.attribute(key, d)), x.shape) for key, d in (("scale", 1), ("offset", 0))
    )
    return call.builder.scale(call.name, x, scale, -offset * scale)


def _linear_regressor(call: Call) -> Value:
    x, targets = call.flat(), call.attribute("targets", 1)
    transform = call.attribute("post_transform", b"NONE").decode()
    if transform != "NONE":
        raise call.refuse(f"has the post_transform {transform}, NONE is possible")
    weight = np.array(call.attribute("coefficients"), dtype=np.float64).reshape(targets, x.elements).T
    bias = np.array(call.attribute("intercepts", [0.0] * targets), dtype=np.float64)
    return call.builder.dense(call.name, x, weight, bias)


def _array_feature_extractor(call: Call) -> Value:
    labels, index = call.constant(0).ravel(), call.edge(1)
    if index.elements != 1 or not any(n.kind == "ArgMax" and n.output.name == index.name for n in call.builder.nodes):
        raise call.refuse("picks features, which is possible only for the label of an ArgMax")
    if labels.dtype.kind not in "iu" or labels.tolist() != list(range(len(labels))):
        raise call.refuse(f"maps classes to the labels {labels.tolist()[:4]}...; labels 0, 1, 2, ... are possible")
    call.dtype = labels.dtype
    return call.builder.reshape(call.name, index, ())


ML_OPERATORS: dict[str, Callable[[Call], Value]] = {
    "ArrayFeatureExtractor": _array_feature_extractor,
    "LinearRegressor": _linear_regressor,
    "Scaler": _scaler,
}
"""Every operator of the domain that is read."""
