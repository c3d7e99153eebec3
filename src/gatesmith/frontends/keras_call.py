"""A Keras layer at work: what it reads, its arguments and weights, its activation, and the error that names it."""

# Ref: Keras 3 API, activations: hard_sigmoid is relu6(x + 3) / 6; relu's max_value, negative_slope and threshold

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gatesmith.errors import UnsupportedOperation
from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.frontends.keras_file import Layer
from gatesmith.model.node import Edge, Real

__all__ = ["Call", "Softmaxed", "activation", "leaky", "relu"]

ZERO, ONE = np.array(0.0), np.array(1.0)
TABLES = {"exponential": "exp", "swish": "silu", "hard_silu": "hard_swish"} | {
    name: name for name in ("sigmoid", "tanh", "elu", "selu", "silu", "softplus", "softsign", "mish", "hard_swish")
}
"""Activations that are functions of the graph, by Keras' names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Softmaxed(Edge):
    """The softmax of an edge, which the host computes: what is before it may be read beside it."""

    @classmethod
    def of(cls, before: Edge) -> Softmaxed:
        return cls(name=before.name, shape=before.shape)

    @property
    def before(self) -> Edge:
        return Edge(name=self.name, shape=self.shape)


@dataclass(frozen=True)
class Call:
    """A layer at work on edges."""

    builder: GraphBuilder
    layer: Layer
    inputs: tuple[Edge, ...]

    @property
    def x(self) -> Edge:
        if len(self.inputs) != 1:
            raise self.refuse(f"reads {len(self.inputs)} tensors, one is needed")
        return self.inputs[0]

    @property
    def name(self) -> str:
        return self.layer.name

    @property
    def channels_last(self) -> bool:
        return str(self.option("data_format")) != "channels_first"

    def option(self, key: str, default: Any = None) -> Any:
        """One of the layer's arguments."""
        found = self.layer.config.get(key)
        return default if found is None else found

    def weights(self, count: int) -> list[Real]:
        """All weights of the layer, so many."""
        if len(self.layer.weights) != count:
            raise self.refuse(f"has {len(self.layer.weights)} weights, {count} are needed")
        return self.layer.weights

    def refuse(self, reason: str) -> UnsupportedOperation:
        """The error that names this layer."""
        kind = self.layer.kind
        return UnsupportedOperation(f"layer {self.name!r} ({kind}) {reason}", node=self.name, operation=kind)

    def activated(self, x: Edge) -> Edge:
        """The activation that the layer has as an argument."""
        return activation(self, x, self.option("activation", "linear"), f"{self.name}/activation")


def activation(call: Call, x: Edge, given: Any, name: str) -> Edge:
    """An activation by its name, or as it is serialised."""
    options: dict[str, Any] = {}
    while isinstance(given, dict):
        options = given["config"] if isinstance(given.get("config"), dict) else {}
        given = given["config"] if isinstance(given.get("config"), str) else _snake(given["class_name"])
    builder = call.builder
    match given:
        case "linear":
            return x
        case "relu" | "re_lu":
            return relu(call, x, options, name)
        case "relu6":
            return builder.clip(name, x, 0.0, 6.0)
        case "leaky_relu":
            return leaky(call, x, np.array(options.get("negative_slope", 0.2)), name)
        case "hard_sigmoid":
            return builder.clip(name, builder.scale(f"{name}/line", x, ONE / 6.0, ONE / 2.0), 0.0, 1.0)
        case "gelu":
            return builder.table(name, x, "gelu_tanh" if options.get("approximate") else "gelu")
        case "softmax":
            return Softmaxed.of(x)
    if given not in TABLES:
        known = ", ".join(sorted([*TABLES, "gelu", "hard_sigmoid", "leaky_relu", "linear", "relu", "relu6", "softmax"]))
        raise call.refuse(f"has the activation {given!r}; supported are {known}")
    return builder.table(name, x, TABLES[given])


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


def relu(call: Call, x: Edge, options: dict[str, Any], name: str) -> Edge:
    slope, top, threshold = (options.get(key) or 0.0 for key in ("negative_slope", "max_value", "threshold"))
    if threshold:
        raise call.refuse(f"has the threshold {threshold}, 0 is possible")
    if slope and top:
        raise call.refuse(f"has a slope of {slope} and a largest value of {top}; one of them is possible")
    if slope:
        return leaky(call, x, np.array(slope), name)
    return call.builder.clip(name, x, 0.0, float(top)) if top else call.builder.relu(name, x)


def leaky(call: Call, x: Edge, slope: Real, name: str) -> Edge:
    """``slope * x + (1 - slope) * max(x, 0)``."""
    builder = call.builder
    below = builder.scale(f"{name}/slope", x, slope, ZERO)
    above = builder.scale(f"{name}/rest", builder.relu(f"{name}/relu", x), 1.0 - slope, ZERO)
    return builder.add(name, below, above)
