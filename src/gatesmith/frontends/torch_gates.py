"""Activations that a program has written out: a product, or a quotient, of data and a function of the same data."""

from __future__ import annotations

import math

import numpy as np

from gatesmith.frontends.torch_call import Array, Call, Value
from gatesmith.model.node import Edge, Node
from gatesmith.model.nodes import Add, Clip, LookupTable, ReLU, Scale

__all__ = ["gated", "softsigned"]

ZERO = np.array(0.0)


def gated(call: Call, a: Edge, b: Edge) -> Value:
    """A number times itself, its sigmoid, its hard sigmoid, or the tanh of its softplus."""
    if a == b:
        return call.builder.table(call.name, a, "square")
    for x, gate in ((a, b), (b, a)):
        match _writer(call, gate):
            case LookupTable(function="sigmoid", inputs=(name,)) if name == x.name:
                return call.builder.table(call.name, x, "silu")
            case LookupTable(function="tanh", inputs=(name,)) if _is_softplus(call, name, x):
                return call.builder.table(call.name, x, "mish")
            case Clip(low=0.0) as clip if (factor := _hard_sigmoid(call, clip, x)) is not None:
                table = call.builder.table(f"{call.name}/hard_swish", x, "hard_swish")
                return call.builder.scale(call.name, table, np.array(factor), ZERO)
    raise call.refuse("multiplies two values that both depend on the data; a constant factor is possible")


def softsigned(call: Call, a: Edge | Array, b: Edge) -> Value:
    """``x / (1 + |x|)``."""
    above = _writer(call, b)
    if isinstance(a, Edge) and isinstance(above, Scale) and (above.weight == 1).all() and (above.bias == 1).all():
        size = _named(call, above.inputs[0])
        # what an absolute value becomes: 2 max(x, 0) - x
        if isinstance(size, Add) and size.inputs[0] != size.inputs[1] and _is_absolute(call, size, a):
            return call.builder.table(call.name, a, "softsign")
    raise call.refuse("divides by a value that depends on the data; a constant divisor is possible")


def _is_absolute(call: Call, size: Add, x: Edge) -> bool:
    twice, negated = (_named(call, name) for name in size.inputs)
    if not (isinstance(twice, Scale) and isinstance(negated, Scale) and negated.inputs == (x.name,)):
        return False
    above = _named(call, twice.inputs[0])
    factors = (
        (twice.weight == 2).all() and (negated.weight == -1).all() and not (twice.bias.any() or negated.bias.any())
    )
    return isinstance(above, ReLU) and above.inputs == (x.name,) and bool(factors)


def _hard_sigmoid(call: Call, clip: Clip, x: Edge) -> float | None:
    """The factor h for which the gate is ``h * clip(x / 6 + 1 / 2, 0, 1)``, if there is one."""
    line = _named(call, clip.inputs[0])
    if not isinstance(line, Scale) or line.inputs != (x.name,) or line.weight.size != 1 or line.bias.size != 1:
        return None
    slope, offset = line.weight.item() / clip.high * 6, line.bias.item() / clip.high * 2
    return clip.high if math.isclose(slope, 1) and math.isclose(offset, 1) else None


def _is_softplus(call: Call, name: str, x: Edge) -> bool:
    writer = _named(call, name)
    return isinstance(writer, LookupTable) and writer.function == "softplus" and writer.inputs == (x.name,)


def _writer(call: Call, edge: Edge) -> Node | None:
    return _named(call, edge.name)


def _named(call: Call, name: str) -> Node | None:
    return next((node for node in reversed(call.builder.nodes) if node.output.name == name), None)
