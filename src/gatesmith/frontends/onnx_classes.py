"""Classes in ONNX graphs: their labels, their scores, and the operators around both."""

# Ref: ONNX ai.onnx.ml operators: ZipMap, LabelEncoder (keys_* to values_*), Normalizer (MAX, L1, L2),
# Ref: ArrayFeatureExtractor (elements of the last axis), with which skl2onnx turns the index of a class into its label

from __future__ import annotations

from typing import Any

import numpy as np

from gatesmith.frontends.onnx_operators import Call, Operator, Value
from gatesmith.model.nodes import Edge

__all__ = ["CLASS_OPERATORS", "class_labels", "give_scores", "post_transform"]

INDEX = np.dtype(np.int64)


def post_transform(call: Call) -> str:
    """What the node computes at its end: NONE, SOFTMAX or LOGISTIC."""
    transform = str(call.attribute("post_transform", b"NONE").decode())
    if transform not in {"NONE", "SOFTMAX", "LOGISTIC"}:
        raise call.refuse(f"has the post_transform {transform}; NONE, SOFTMAX and LOGISTIC are possible")
    return transform


def class_labels(call: Call, integers: str, strings: str) -> tuple[str, ...]:
    """The classes' labels, from one of two attributes."""
    found = call.attribute(integers) or [name.decode() for name in call.attribute(strings, [])]
    if not found:
        raise call.refuse("has no labels of classes")
    return tuple(map(str, found))


def give_scores(call: Call, scores: Edge, labels: tuple[str, ...], *, softmax: bool) -> None:
    """The two outputs of a classifier: the label of the largest score, and the scores."""
    call.reader.labels[scores.name] = labels
    call.give(1, scores, np.dtype(np.float32))
    if softmax and len(call.node.output) > 1:
        call.reader.softmax.add(call.node.output[1])
    if _is_index(labels):
        call.give(0, call.builder.arg_max(f"{call.name}/label", scores), INDEX)
    else:
        call.reader.class_names.add(call.node.output[0])


def _is_index(labels: tuple[str, ...]) -> bool:
    return labels == tuple(str(place) for place in range(len(labels)))


def _zip_map(call: Call) -> Value:
    scores = call.edge()
    call.reader.labels[scores.name] = class_labels(call, "classlabels_int64s", "classlabels_strings")
    return scores


def _normalizer(call: Call) -> Value:
    norm = call.attribute("norm", b"MAX").decode()
    if norm == "L1" and call.node.input[0] in call.reader.softmax:
        return call.edge()  # a softmax adds up to 1 already
    raise call.refuse(
        f"divides each sample by its {norm} norm, which has no exact translation; normalise before the model"
    )


def _array_feature_extractor(call: Call) -> Value | None:
    data, index = call.value(0), call.value(1)
    if isinstance(data, Edge):
        return _picked(call, call.flat(), np.ravel(call.constant(1)).astype(np.int64))
    if not isinstance(index, Edge):
        return data[..., np.ravel(index)]
    if index.elements != 1:
        raise call.refuse(f"looks up {index.elements} labels for each sample, one is possible")
    return _labelled(call, index, tuple(str(label) for label in _texts(np.ravel(data))))


def _picked(call: Call, x: Edge, places: Any) -> Value:
    if not places.size or places.min() < 0 or places.max() >= x.elements:
        raise call.refuse(f"picks the elements {places.tolist()[:8]} of {x.elements}")
    weight = np.zeros((x.elements, len(places)))
    weight[places, np.arange(len(places))] = 1.0
    return call.builder.dense(call.name, x, weight)


def _label_encoder(call: Call) -> Value | None:
    index = call.edge()
    keys = call.attribute("keys_int64s", [])
    values = call.attribute("values_int64s") or [name.decode() for name in call.attribute("values_strings", [])]
    if list(keys) != list(range(len(values))) or not values:
        raise call.refuse("translates something else than the classes 0, 1, 2, ... to labels")
    return _labelled(call, index, tuple(map(str, values)))


def _texts(labels: Any) -> list[Any]:
    return [label.decode() if isinstance(label, bytes) else label for label in labels.tolist()]


def _labelled(call: Call, index: Edge, labels: tuple[str, ...]) -> Value | None:
    """The label of the class of an index: the index itself, or a name that stays out of the gateware."""
    found = [n for n in call.builder.nodes if n.kind == "ArgMax" and n.output.name == index.name]
    if not found:
        raise call.refuse("looks up a label, which is possible only for the class of an ArgMax")
    call.reader.labels.setdefault(found[0].inputs[0], labels)
    if _is_index(labels):
        call.give(0, call.builder.reshape(call.name, index, ()), INDEX)
    else:
        call.reader.class_names.add(call.node.output[0])
    return None


CLASS_OPERATORS: dict[str, Operator] = {
    "ArrayFeatureExtractor": _array_feature_extractor,
    "LabelEncoder": _label_encoder,
    "Normalizer": _normalizer,
    "ZipMap": _zip_map,
}
"""Operators around the classes of a model."""
