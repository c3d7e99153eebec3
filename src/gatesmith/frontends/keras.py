"""Keras 3 models: sequential and functional ones, from ``.keras`` files or in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.errors import GatesmithError, ModelUnreadable, UnsupportedOperation
from gatesmith.frontends.frontend import SPLIT, Frontend, GraphBuilder
from gatesmith.frontends.keras_call import Call, Softmaxed
from gatesmith.frontends.keras_file import Layer, Model, Reference, model_of_file, model_of_object
from gatesmith.frontends.keras_hgq import HGQ_LAYERS
from gatesmith.frontends.keras_layers import LAYERS
from gatesmith.frontends.reading import members
from gatesmith.model.graph import Graph
from gatesmith.model.node import Edge

__all__ = ["KerasFrontend"]


class KerasFrontend(Frontend):
    """``.keras`` files, which need no Keras to be read, and ``keras.Model`` objects."""

    name = "keras"

    def accepts(self, source: object) -> bool:
        if not isinstance(source, Path):
            return any(kind.__module__.startswith("keras.") and kind.__name__ == "Model" for kind in type(source).mro())
        return {"config.json", "model.weights.h5"} <= {*members(source)}

    def read(self, source: Any, *, name: str, trust_pickle: bool) -> Graph:
        del trust_pickle  # nothing in a .keras file runs
        model = model_of_file(source) if isinstance(source, Path) else model_of_object(source)
        try:
            return _Reader(model, name).run()
        except GatesmithError:
            raise
        except Exception as error:
            # sizes and options that no layer could have
            raise ModelUnreadable(f"not a valid Keras model: {type(error).__name__} {error}") from error


class _Reader:
    """Places one model's layers, each when what it reads is there."""

    def __init__(self, model: Model, name: str) -> None:
        self.model = model
        self.builder = GraphBuilder(name, reserved=frozenset(name for name, _ in model.outputs))

    def run(self) -> Graph:
        given = {name: self._input(self.model.layers[name]) for name in self.model.inputs}
        found = self._placed(self.model, given)
        for name, reference in self.model.outputs:
            edge = found[reference]
            if isinstance(edge, Softmaxed):
                self.builder.output(edge.before, name, host=(HostOperation(kind=HostOperationKind.SOFTMAX),))
            else:
                self.builder.output(edge, name)
        return self.builder.graph()

    def _input(self, layer: Layer) -> Edge:
        shape = layer.config.get("batch_shape")
        if not shape or len(shape) < 2 or any(not isinstance(size, int) or size < 1 for size in shape[1:]):
            raise UnsupportedOperation(
                f"input {layer.name!r} has the shape {shape}; a batch first, then fixed sizes are needed",
                node=layer.name,
            )
        return self.builder.input(layer.name, tuple(shape[1:]))

    def _placed(self, model: Model, given: dict[str, Edge]) -> dict[Reference, Edge]:
        """The edge of every call of every layer."""
        found: dict[Reference, Edge] = {(name, 0): edge for name, edge in given.items()}
        waiting = [
            (layer, i, call)
            for layer in model.layers.values()
            for i, call in enumerate(layer.calls)
            if (layer.name, i) not in found
        ]
        while waiting:
            later = []
            for layer, i, call in waiting:
                if all(reference in found for reference in call):
                    found[layer.name, i] = self._layer(layer, tuple(found[reference] for reference in call))
                else:
                    later.append((layer, i, call))
            if len(later) == len(waiting):
                raise ModelUnreadable(f"layer {later[0][0].name!r} reads what no layer before it gives")
            waiting = later
        return found

    def _layer(self, layer: Layer, inputs: tuple[Edge, ...]) -> Edge:
        if layer.inner is not None:
            return self._inner(layer, layer.inner, inputs)
        known = LAYERS | HGQ_LAYERS
        if layer.kind not in known:
            names = ", ".join(sorted(known))
            raise UnsupportedOperation(
                f"layer {layer.name!r} ({layer.kind}) is not supported; supported are {names}; {SPLIT}",
                node=layer.name,
                operation=layer.kind,
            )
        result = known[layer.kind](Call(self.builder, layer, inputs))
        # a layer that changes nothing gives the very edge that it reads
        if any(isinstance(edge, Softmaxed) for edge in inputs) and not any(result is edge for edge in inputs):
            raise UnsupportedOperation(
                f"layer {layer.name!r} ({layer.kind}) reads a softmax, which the host computes after the gateware; "
                f"it must be last",
                node=layer.name,
                operation=layer.kind,
            )
        return result

    def _inner(self, layer: Layer, model: Model, inputs: tuple[Edge, ...]) -> Edge:
        if len(model.inputs) != len(inputs) or len(model.outputs) != 1:
            raise UnsupportedOperation(
                f"layer {layer.name!r} is a model with {len(model.inputs)} inputs and {len(model.outputs)} outputs; "
                f"as many inputs as it reads and one output are possible",
                node=layer.name,
            )
        found = self._placed(model, dict(zip(model.inputs, inputs, strict=True)))
        return found[model.outputs[0][1]]
