"""BondMachine's neural networks: the JSON of neuralbond, a list of nodes in layers and a list of weights between them.

Every layer has nodes of one kind. A layer of softmax nodes over all nodes before it is computed on the host.
"""

# Ref: BondMachineHQ/bmexamples, alveou55c_ml_accelerator/banknote.json: Nodes (Layer, Pos, Type, Bias) and Weights
# Ref: (Layer, PosCurrLayer, PosPrevLayer, Value); summation and linear nodes give their sum as it is

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.errors import ModelUnreadable, UnsupportedOperation
from gatesmith.frontends.frontend import Frontend, GraphBuilder
from gatesmith.frontends.reading import json_of, reading
from gatesmith.model.graph import Graph
from gatesmith.model.nodes import Edge

__all__ = ["NeuralbondFrontend"]

HEAD_BYTES = 4096
MAX_WEIGHTS = 1 << 24

KINDS: dict[str, Callable[[GraphBuilder, str, Edge], Edge]] = {
    "linear": lambda _builder, _name, x: x,
    "output": lambda _builder, _name, x: x,
    "relu": lambda builder, name, x: builder.relu(name, x),
    "sigmoid": lambda builder, name, x: builder.table(name, x, "sigmoid"),
    "summation": lambda _builder, _name, x: x,
    "tanh": lambda builder, name, x: builder.table(name, x, "tanh"),
}
"""What a node makes of its sum."""


@dataclass(frozen=True, kw_only=True)
class _Layer:
    kind: str
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    @property
    def passes(self) -> bool:
        """Whether it gives what it gets."""
        return (
            KINDS.get(self.kind) in {KINDS["linear"], KINDS["output"], KINDS["summation"]}
            and not self.bias.any()
            and np.array_equal(self.weight, np.eye(*self.weight.shape))
        )


class NeuralbondFrontend(Frontend):
    """``.json`` files with nodes and weights."""

    name = "neuralbond"

    def accepts(self, source: object) -> bool:
        if not isinstance(source, Path):
            return False
        with source.open("rb") as file:
            head = file.read(HEAD_BYTES)
        return head.lstrip()[:1] == b"{" and b'"Nodes"' in head and b'"Layer"' in head

    def read(self, source: object, *, name: str, trust_pickle: bool) -> Graph:
        del trust_pickle  # JSON runs no code
        if not isinstance(source, Path):
            raise UnsupportedOperation("models of neuralbond are files")
        with reading("neuralbond", repr(str(source))):
            model = json_of(source)
            return _graph(_layers(model["Nodes"], model["Weights"]), name)


def _layers(nodes: list[dict[str, Any]], weights: list[dict[str, Any]]) -> list[_Layer]:
    """The layers in order, the inputs first."""
    widths: dict[int, int] = {}
    for node in nodes:
        widths[node["Layer"]] = widths.get(node["Layer"], 0) + 1
    if sorted(widths) != list(range(len(widths))) or len(widths) < 2:
        raise ModelUnreadable(f"neuralbond model has the layers {sorted(widths)[:8]}, two or more from 0 are needed")
    if sum(widths[i] * widths[i + 1] for i in range(len(widths) - 1)) > MAX_WEIGHTS:
        raise UnsupportedOperation(f"neuralbond model has layers of more than {MAX_WEIGHTS} weights; use smaller ones")
    before = [0, *(widths[i] for i in range(len(widths) - 1))]
    matrices = [np.zeros((before[i], widths[i])) for i in range(len(widths))]
    biases = [np.full(widths[i], np.nan) for i in range(len(widths))]
    kinds: list[set[str]] = [set() for _ in widths]
    for node in nodes:
        place = _place(node["Pos"], widths[node["Layer"]])
        biases[node["Layer"]][place] = node["Bias"]
        kinds[node["Layer"]].add(str(node["Type"]))
    for each in weights:
        layer = _place(each["Layer"], len(widths))
        row, column = _place(each["PosPrevLayer"], before[layer]), _place(each["PosCurrLayer"], widths[layer])
        matrices[layer][row, column] += each["Value"]
    mixed = next((sorted(each) for each in kinds if len(each) != 1), None)
    if mixed:
        raise UnsupportedOperation(f"neuralbond model has a layer of the kinds {', '.join(mixed)}; one is possible")
    return [
        _Layer(kind=kind.pop(), weight=weight, bias=bias)
        for kind, weight, bias in zip(kinds, matrices, biases, strict=True)
    ]


def _place(place: Any, count: int) -> int:
    if not isinstance(place, int) or not 0 <= place < count:
        raise ValueError(f"place {place} of {count}")
    return place


def _graph(layers: list[_Layer], name: str) -> Graph:
    first, *rest = layers
    if first.kind != "input":
        raise ModelUnreadable(f"neuralbond model begins with {first.kind}, input is needed")
    builder = GraphBuilder(name)
    x = builder.input("input", (len(first.bias),))
    softmax = False
    for place, layer in enumerate(rest, 1):
        if softmax and not layer.passes:
            raise UnsupportedOperation(
                f"layer {place} ({layer.kind}) reads a softmax, which the host computes after the gateware; it must be "
                f"last"
            )
        if layer.kind == "softmax":
            softmax = _checked_softmax(layer, place)
        elif layer.kind in KINDS:
            if not layer.passes:
                x = KINDS[layer.kind](builder, layer.kind, builder.dense(f"layer{place}", x, layer.weight, layer.bias))
        else:
            raise UnsupportedOperation(
                f"layer {place} has nodes of the kind {layer.kind!r}; supported are {', '.join(sorted(KINDS))}, softmax"
            )
    if softmax:
        builder.output(x, "probabilities", host=(HostOperation(kind=HostOperationKind.SOFTMAX),))
    else:
        builder.output(x, "predictions")
    return builder.graph()


def _checked_softmax(layer: _Layer, place: int) -> bool:
    if layer.weight.shape[0] != layer.weight.shape[1] or not (layer.weight == 1).all() or layer.bias.any():
        raise UnsupportedOperation(f"layer {place} weighs its softmax; weights of 1 over as many nodes are possible")
    return True
