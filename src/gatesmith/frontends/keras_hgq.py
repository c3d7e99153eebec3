"""HGQ2 models: Keras layers whose formats were trained, for each number of a tensor one of its own if need be.

The formats are what the library itself says they are, and weights are what its quantisers make of them, so nothing is
left to choose. A tensor with several formats is taken apart by format, rounded, and put together again.
"""
# Ref: hgq2 0.2.0: FixedPointQuantizerBase.kif (sign, integer and fraction bits), bw_mapper.bw_to_x; round_mode RND is
# Ref: half up, RND_CONV half to even, TRN down (S_ is for training); overflow_mode SAT_SYM leaves out the lowest number

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.fixed import FixedPoint, Overflow, Rounding
from gatesmith.frontends.keras_call import Call, Softmaxed
from gatesmith.frontends.keras_layers import LAYERS
from gatesmith.model.node import Edge

__all__ = ["HGQ_LAYERS"]

ROUNDINGS = {"RND": Rounding.HALF_UP, "RND_CONV": Rounding.HALF_EVEN, "TRN": Rounding.TRUNCATE}
OVERFLOWS = {"WRAP": Overflow.WRAP, "SAT": Overflow.SATURATE, "SAT_SYM": Overflow.SATURATE}


def _numbers(tensor: Any) -> NDArray[np.float64]:
    from keras import ops

    return np.asarray(ops.convert_to_numpy(tensor), dtype=np.float64)


def _formats(call: Call, quantizer: Any, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Sign, integer and fraction bits of each number; shape (3, elements)."""
    inner = quantizer.quantizer
    if not hasattr(inner, "kif"):
        raise call.refuse(f"rounds with {type(inner).__name__}, fixed-point formats are possible")
    if getattr(quantizer, "scaler", None) is not None or getattr(quantizer, "affine", None) is not None:
        raise call.refuse("rounds scaled numbers, which have no fixed-point format")
    kif = [_numbers(inner.bw_mapper.bw_to_x(bits, (1, *shape))) for bits in inner.kif]
    return np.stack([np.broadcast_to(bits, (1, *shape)).ravel() for bits in kif]).astype(np.int64)


def rounded(call: Call, x: Edge, quantizer: Any, name: str) -> Edge:
    """An edge in the formats of one of the library's quantisers."""
    bits = _formats(call, quantizer, x.shape)
    inner = quantizer.quantizer
    mode = str(inner.round_mode).upper().removeprefix("S_")
    overflow = str(inner.overflow_mode).upper()
    if mode not in ROUNDINGS or overflow not in OVERFLOWS:
        raise call.refuse(f"rounds with {mode} and {overflow}; possible are {[*ROUNDINGS]} and {[*OVERFLOWS]}")
    kinds, which = np.unique(bits, axis=1, return_inverse=True)
    places = np.full(x.elements, -1, dtype=np.int64)
    parts: list[Edge] = []
    done = 0
    for number, (signed, integer, fraction) in enumerate(kinds.T.tolist()):
        mine = np.flatnonzero(which.ravel() == number)
        if signed + integer + fraction <= 0:
            continue  # nothing is left of these
        format = FixedPoint(bool(signed), integer, fraction)
        label = f"{name}/{format}" if len(kinds.T) > 1 else name
        part = x if len(mine) == x.elements else call.builder.gather(f"{label}/part", x, mine)
        if overflow == "SAT_SYM" and signed:
            end = format.step * format.max_integer
            part = call.builder.clip(f"{label}/ends", part, -end, end)
        part = call.builder.quantize(label, part, format, rounding=ROUNDINGS[mode], overflow=OVERFLOWS[overflow])
        if len(mine) == x.elements:
            return part
        parts.append(part)
        places[mine] = done + np.arange(len(mine))
        done += len(mine)
    if not parts:
        return call.builder.gather(name, x, places.reshape(x.shape))
    whole = parts[0] if len(parts) == 1 else call.builder.concat(f"{name}/joined", parts)
    return call.builder.gather(name, whole, places.reshape(x.shape))


def _wrapped(kind: str, *, weights: bool = True) -> Callable[[Call], Edge]:
    """Keras' own layer between the trained roundings, with the weights as the library rounds them."""

    def run(call: Call) -> Edge:
        layer = call.layer.source
        if layer is None:
            raise call.refuse("is known in memory only; load the model with Keras and hgq2")
        inputs = tuple(
            rounded(call, x, quantizer, f"{call.name}/in{i or ''}") if layer.enable_iq else x
            for i, (x, quantizer) in enumerate(zip(call.inputs, _input_quantizers(layer, call), strict=True))
        )
        own = call.layer
        if weights:
            given = [layer.qkernel, layer.qbias]
            own = replace(own, weights=[_numbers(tensor) for tensor in given if tensor is not None])
        return _given_out(call, LAYERS[kind](Call(call.builder, replace(own, kind=kind), inputs)))

    return run


def _given_out(call: Call, result: Edge) -> Edge:
    """What a layer gives, in the formats that it has for that."""
    if not call.layer.source.enable_oq:
        return result
    if isinstance(result, Softmaxed):
        raise call.refuse("rounds a softmax, which the host computes after the gateware; it must be last")
    return rounded(call, result, call.layer.source.oq, f"{call.name}/out")


def _input_quantizers(layer: Any, call: Call) -> list[Any]:
    if not layer.enable_iq:
        return [None] * len(call.inputs)
    given = layer.iq
    found = list(given.quantizers) if hasattr(given, "quantizers") else [given]
    if len(found) != len(call.inputs):
        raise call.refuse(f"has {len(found)} roundings for {len(call.inputs)} inputs")
    return found


def _einsum_dense(call: Call) -> Edge:
    layer = call.layer.source
    inputs, _, output = layer.equation.partition("->")
    data, _, kernel = inputs.partition(",")
    shared = [c for c in kernel if c in data]
    if len(kernel) != 2 or shared != [data[-1]] or output[:-1] != data[:-1] or kernel[0] != data[-1]:
        raise call.refuse(
            f"has the equation {layer.equation!r}; a product along the last axis is possible: ...a,ab->...b"
        )
    return _wrapped("Dense")(call)


def _table(call: Call) -> Edge:
    layer = call.layer.source
    x = rounded(call, call.x, layer.iq, f"{call.name}/in") if layer.enable_iq else call.x
    return _given_out(call, LAYERS["Activation"](Call(call.builder, call.layer, (x,))))


def _quantizer(call: Call) -> Edge:
    return rounded(call, call.x, call.layer.source, call.name)


HGQ_LAYERS: dict[str, Callable[[Call], Edge]] = {
    "QAdd": _wrapped("Add", weights=False),
    "QBatchNormDense": _wrapped("Dense"),
    "QConv1D": _wrapped("Conv1D"),
    "QConv2D": _wrapped("Conv2D"),
    "QDense": _wrapped("Dense"),
    "QEinsumDense": _einsum_dense,
    **{
        f"Q{kind}{axes}D": _wrapped(f"{kind}{axes}D", weights=False)
        for kind in ("AveragePooling", "MaxPooling", "GlobalAveragePooling", "GlobalMaxPooling")
        for axes in (1, 2)
    },
    "QSubtract": _wrapped("Subtract", weights=False),
    "QUnaryFunctionLUT": _table,
    "Quantizer": _quantizer,
}
"""Layers of hgq2 that are read."""
