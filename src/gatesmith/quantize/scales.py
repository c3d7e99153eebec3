"""Where the factors of a float graph go: into weights, to the host, or next to the sum that they belong to.

A Scale node costs a multiplier for each element. It moves up, to the product or the input that its numbers come from,
or down, to the one that reads them, through nodes that it commutes with; there it vanishes. Weights that lie on a grid
which the model was trained with stay as they are: a factor that would take them off it stays beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from gatesmith.model.graph import Graph
from gatesmith.model.node import Node, Real
from gatesmith.model.nodes import Clip, Dense, Gather, LookupTable, Max, ReLU, Reshape, Scale
from gatesmith.quantize.rewrite import Rewriter, holds_grid, host_scale

__all__ = ["moved_scale"]

FLOAT_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class _Factor:
    """``x * weight + bias`` for an edge; both have the edge's shape."""

    weight: Real
    bias: Real

    @property
    def uniform(self) -> tuple[float, float] | None:
        """The one weight and bias of all elements."""
        weight, bias = float(self.weight.flat[0]), float(self.bias.flat[0])
        return (weight, bias) if (self.weight == weight).all() and (self.bias == bias).all() else None

    @property
    def is_positive(self) -> bool:
        """Whether it commutes with a maximum against zero."""
        return bool((self.weight > 0).all() and not self.bias.any())


def moved_scale(graph: Graph) -> Graph | None:
    """The graph with one Scale node fewer, or one nearer to the end; None when all are where they belong."""
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        if isinstance(node, Scale):
            for rule in (_is_nothing, _up, _down, _up_bending, _to_host):
                if (changed := rule(rewriter, node)) is not None:
                    return changed
    return None


def _factor(node: Scale) -> _Factor:
    shape = node.output.shape
    return _Factor(np.broadcast_to(node.weight, shape), np.broadcast_to(node.bias, shape))


def _vanished(node: Node) -> Reshape:
    """A Reshape to the same shape costs nothing and keeps the edge's name for its readers."""
    return Reshape(name=node.name, inputs=node.inputs, output=node.output)


def _is_nothing(rewriter: Rewriter, node: Scale) -> Graph | None:
    if (node.weight == 1).all() and not node.bias.any():
        return rewriter.rebuilt({node.name: [_vanished(node)]})
    return None


def _up_bending(rewriter: Rewriter, node: Scale) -> Graph | None:
    """The same past activations that then clip elsewhere, which costs more than the ones before."""
    return _up(rewriter, node, bends=True)


def _up(rewriter: Rewriter, node: Scale, *, bends: bool = False) -> Graph | None:
    """Towards the input or the product that the numbers come from."""
    factor, edge = _factor(node), node.inputs[0]
    changes: dict[str, list[Node]] = {node.name: [_vanished(node)]}
    while rewriter.is_inner(edge):
        writer = rewriter.writers.get(edge)
        if writer is None:
            return _into_input(rewriter, edge, factor, changes)
        if isinstance(writer, Scale):
            first = _factor(writer)
            merged = _Factor(first.weight * factor.weight, first.bias * factor.weight + factor.bias)
            return rewriter.rebuilt(changes | {writer.name: [_scale(writer, merged)]})
        if isinstance(writer, LookupTable) and (same := factor.uniform) is not None:
            outer = (writer.outer[0] * same[0], writer.outer[1] * same[0] + same[1])
            return rewriter.rebuilt(changes | {writer.name: [replace(writer, outer=outer)]})
        if isinstance(writer, Dense):
            into = _into_columns(rewriter, writer, factor)
            return None if into is None else rewriter.rebuilt(changes | {writer.name: [into]})
        before = _before(rewriter, writer, factor, bends=bends)
        if before is None:
            return None
        factor, changed = before
        changes[writer.name] = [changed]
        edge = writer.inputs[0]
    return None


def _scale(node: Scale, factor: _Factor) -> Scale:
    return replace(node, weight=_small(factor.weight), bias=_small(factor.bias))


def _small(values: Real) -> Real:
    """The same numbers without axes along which they are equal."""
    for axis in range(values.ndim):
        first = values.take([0], axis=axis)
        values = first if (values == first).all() else values
    return values


def _into_input(rewriter: Rewriter, edge: str, factor: _Factor, changes: dict[str, list[Node]]) -> Graph | None:
    terminal = rewriter.input(edge)
    host = host_scale(factor.weight, factor.bias)
    inputs = tuple(replace(t, host=(*t.host, host)) if t is terminal else t for t in rewriter.graph.inputs)
    return rewriter.rebuilt(changes, inputs=inputs)


def _into_columns(rewriter: Rewriter, dense: Dense, factor: _Factor) -> Dense | None:
    shape = dense.bias.shape
    weight, bias = (values.reshape(-1, *shape) for values in (factor.weight, factor.bias))
    if (weight != weight[0]).any() or (bias != bias[0]).any():
        return None
    scaled = dense.weight * weight[0][..., None, :]
    if rewriter.keeps(dense) and not holds_grid(scaled):
        return None
    return replace(dense, weight=scaled, bias=dense.bias * weight[0] + bias[0])


def _before(rewriter: Rewriter, node: Node, factor: _Factor, *, bends: bool) -> tuple[_Factor, Node] | None:
    """What the factor is before this node, and the node then; None when it cannot pass."""
    shape = rewriter.graph.edges[node.inputs[0]].shape
    if isinstance(node, Reshape):
        return _Factor(factor.weight.reshape(shape), factor.bias.reshape(shape)), node
    if isinstance(node, ReLU) and factor.is_positive:
        return factor, node
    if isinstance(node, ReLU | Clip):
        return _before_clip(node, factor) if bends else None
    if not isinstance(node, Gather):
        return None
    inside = node.index >= 0
    fills = {float(v) for v in (factor.weight[~inside] * node.fill + factor.bias[~inside]).ravel()}
    weight, bias = np.ones(int(np.prod(shape))), np.zeros(int(np.prod(shape)))
    weight[node.index[inside]], bias[node.index[inside]] = factor.weight[inside], factor.bias[inside]
    # an element that is picked several times has to have the same factor each time
    if (weight[node.index[inside]] != factor.weight[inside]).any():
        return None
    if (bias[node.index[inside]] != factor.bias[inside]).any() or len(fills) > 1:
        return None
    return _Factor(weight.reshape(shape), bias.reshape(shape)), replace(node, fill=fills.pop() if fills else 0.0)


def _before_clip(node: ReLU | Clip, factor: _Factor) -> tuple[_Factor, Node] | None:
    same = factor.uniform
    if same is None or same[0] <= 0:
        return None
    ends = np.array([0.0, FLOAT_MAX] if isinstance(node, ReLU) else [node.low, node.high])
    low, high = np.clip(ends * same[0] + same[1], -FLOAT_MAX, FLOAT_MAX)
    return factor, Clip(name=node.name, inputs=node.inputs, output=node.output, low=float(low), high=float(high))


def _down(rewriter: Rewriter, node: Scale) -> Graph | None:
    """Towards the product that reads the numbers."""
    factor, edge = _factor(node), node.output.name
    changes: dict[str, list[Node]] = {node.name: [_vanished(node)]}
    while rewriter.is_inner(edge):
        (reader,) = rewriter.readers[edge]
        if isinstance(reader, Scale):
            last = _factor(reader)
            merged = _Factor(factor.weight * last.weight, factor.bias * last.weight + last.bias)
            return rewriter.rebuilt(changes | {reader.name: [_scale(reader, merged)]})
        if isinstance(reader, LookupTable) and (same := factor.uniform) is not None:
            inner = (same[0] * reader.inner[0], same[1] * reader.inner[0] + reader.inner[1])
            return rewriter.rebuilt(changes | {reader.name: [replace(reader, inner=inner)]})
        if isinstance(reader, Dense):
            into = _into_rows(rewriter, reader, factor)
            return None if into is None else rewriter.rebuilt(changes | {reader.name: into})
        behind = _behind(reader, factor)
        if behind is None:
            return None
        factor, changed = behind
        changes[reader.name] = [changed]
        edge = reader.output.name
    return None


def _into_rows(rewriter: Rewriter, dense: Dense, factor: _Factor) -> list[Node] | None:
    rows = dense.weight.shape[:-1]
    weight, bias = (values.reshape(-1, *rows) for values in (factor.weight, factor.bias))
    if (weight != weight[0]).any() or (bias != bias[0]).any():
        return None
    offset = dense.bias + (bias[0][..., None, :] @ dense.weight)[..., 0, :]
    scaled = dense.weight * weight[0][..., None]
    if not rewriter.keeps(dense) or holds_grid(scaled):
        return [replace(dense, weight=scaled, bias=offset)]
    first = weight.flat[0]
    if (weight != first).any():
        return None
    inner = replace(dense.output, name=_fresh(rewriter, f"{dense.output.name}/sum"))
    name = _fresh(rewriter, f"{dense.name}/factor")
    return [
        replace(dense, bias=np.zeros_like(dense.bias), output=inner),
        Scale(name=name, inputs=(inner.name,), output=dense.output, weight=np.array(first), bias=offset),
    ]


def _fresh(rewriter: Rewriter, name: str) -> str:
    taken = {*rewriter.graph.edges, *(node.name for node in rewriter.graph.nodes)}
    return name if name not in taken else next(n for n in _numbered(name) if n not in taken)


def _numbered(name: str) -> Iterator[str]:
    i = 0
    while True:
        yield f"{name}/{i}"
        i += 1


def _behind(node: Node, factor: _Factor) -> tuple[_Factor, Node] | None:
    """What the factor is behind this node, and the node then; None when it cannot pass."""
    if isinstance(node, Reshape):
        shape = node.output.shape
        return _Factor(factor.weight.reshape(shape), factor.bias.reshape(shape)), node
    if isinstance(node, ReLU):
        return (factor, node) if factor.is_positive else None
    if isinstance(node, Max):
        weight, bias = factor.weight[..., :1], factor.bias[..., :1]
        same = (factor.weight == weight).all() and (factor.bias == bias).all() and (weight > 0).all()
        return (_Factor(weight[..., 0], bias[..., 0]), node) if same else None
    if not isinstance(node, Gather):
        return None
    inside = node.index >= 0
    if not inside.all():
        first, offset = factor.weight.flat[0], factor.bias.flat[0]
        if (factor.weight != first).any() or (factor.bias != offset).any() or first == 0:
            return None
        fill = float((node.fill - offset) / first)
        if fill * first + offset != node.fill:
            return None
        full = np.ones(node.output.shape)
        return _Factor(full * first, full * offset), replace(node, fill=fill)
    return _Factor(factor.weight.ravel()[node.index], factor.bias.ravel()[node.index]), node


def _to_host(rewriter: Rewriter, node: Scale) -> Graph | None:
    """An output's factors are the host's work, when the model's weights have to stay."""
    name = node.output.name
    if not rewriter.trained or name not in rewriter.outputs or rewriter.readers[name]:
        return None
    factor = _factor(node)
    host = host_scale(factor.weight, factor.bias)
    outputs = tuple(replace(t, host=(host, *t.host)) if t.edge.name == name else t for t in rewriter.graph.outputs)
    return rewriter.rebuilt({node.name: [_vanished(node)]}, outputs=outputs)
