"""Formats that a model was trained with, kept: where they are, and constants just fine enough not to change them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gatesmith.fixed import FixedPoint, Overflow, Rounding
from gatesmith.host import HostOperation, HostOperationKind
from gatesmith.model.graph import Terminal
from gatesmith.model.node import Node, Real
from gatesmith.model.nodes import Clip, Gather, Max, Quantize, ReLU, Reshape
from gatesmith.quantize.formats import on_grid
from gatesmith.quantize.rewrite import Rewriter, host_scale

__all__ = ["InputRounding", "Rounded", "fewest_bits", "input_rounding", "next_rounding"]

FLOOR = HostOperation(kind=HostOperationKind.FLOOR)

MOST_CASES = 1 << 23
"""Values that :func:`fewest_bits` tries for each number of bits at most."""

MOST_BITS = 22
"""Of a factor."""


@dataclass(frozen=True, kw_only=True)
class InputRounding:
    """What the model itself does to an input first thing, so that the host can do it.

    Parameters
    ----------
    format : FixedPoint
        Holds every number that is then left.
    host : tuple of HostOperation
        What the host does before it rounds to the format.
    """

    format: FixedPoint
    host: tuple[HostOperation, ...]


def input_rounding(rewriter: Rewriter, terminal: Terminal, values: Real) -> InputRounding | None:
    """The model's rounding of each element of an input; None where there is none, or different ones of one element.

    Parameters
    ----------
    values : ndarray of float64, shape (samples, *input shape)
        What the input carries on the calibration data.
    """
    found = _first_roundings(rewriter, terminal)
    if found is None:
        return None
    kinds = {node.rounding for node in found if node is not None}
    formats = {node.format for node in found if node is not None}
    saturates = all(node.overflow is Overflow.SATURATE for node in found if node is not None)
    if kinds == {Rounding.HALF_EVEN}:
        # just what the host does at the end, for one format
        one = len(formats) == 1 and saturates
        return InputRounding(format=formats.pop(), host=()) if one else None
    if Rounding.HALF_EVEN in kinds:
        return None
    units = np.array([0 if node is None else node.format.fraction_bits for node in found])
    half = np.array([0.5 if node is not None and node.rounding is Rounding.HALF_UP else 0.0 for node in found])
    host = (host_scale(np.exp2(units), half), FLOOR, host_scale(np.exp2(-units), np.zeros(len(units))))
    signed = any(format.signed for format in formats) or bool(values.min() < 0)
    integer_bits = max(format.integer_bits for format in formats)
    if not saturates:
        # beyond its format a number wraps, in gateware, from what was seen
        largest = float(np.max(np.abs(values), initial=1.0))
        integer_bits = max(integer_bits, math.frexp(largest)[1])
    return InputRounding(format=FixedPoint(signed, integer_bits, int(units.max())), host=host)


def _first_roundings(rewriter: Rewriter, terminal: Terminal) -> list[Quantize | None] | None:
    """For each element of an input the rounding that it meets first; None when something else reads it."""
    edge = terminal.edge
    found: list[Quantize | None] = [None] * edge.elements
    waiting = [(edge.name, np.arange(edge.elements).reshape(edge.shape))]
    while waiting:
        name, index = waiting.pop()
        if name in rewriter.outputs:
            return None
        for node in rewriter.readers[name]:
            if isinstance(node, Quantize):
                for place in np.unique(index[index >= 0]).tolist():
                    if found[place] is not None and _meaning(found[place]) != _meaning(node):
                        return None
                    found[place] = node
            elif isinstance(node, Gather):
                if node.fill and (node.index < 0).any():
                    return None
                waiting.append((node.output.name, np.where(node.index < 0, -1, index.ravel()[node.index])))
            elif isinstance(node, Reshape):
                waiting.append((node.output.name, index.reshape(node.output.shape)))
            elif isinstance(node, Clip) and _clips_within(node, rewriter.readers[node.output.name]):
                waiting.append((node.output.name, index))
            else:
                return None
    return found if any(node is not None for node in found) else None


def _meaning(node: Quantize | None) -> tuple[object, ...]:
    return () if node is None else (node.format, node.rounding, node.overflow)


def _clips_within(clip: Clip, readers: list[Node]) -> bool:
    """Whether the clip's ends are numbers of the format that follows: rounding and clipping then commute."""
    return all(isinstance(node, Quantize) and node.format.holds([clip.low, clip.high]) for node in readers)


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """What the model makes of a sum before anything else reads it: element by element, rising, and rounded."""

    path: tuple[Node, ...]

    def __call__(self, values: Real) -> Real:
        for node in self.path:
            values = node.evaluate([values], [None])
        return values


def next_rounding(rewriter: Rewriter, edge: str) -> Rounded | None:
    """The rounding that an edge goes through and nothing else, with the activations before it."""
    path: list[Node] = []
    while rewriter.is_inner(edge):
        (node,) = rewriter.readers[edge]
        if isinstance(node, Quantize):
            return Rounded(path=(*path, node)) if node.overflow is Overflow.SATURATE else None
        if isinstance(node, ReLU | Clip):
            path.append(node)
        elif not isinstance(node, Reshape | Gather | Max):  # these commute with all that rises
            return None
        edge = node.output.name
    return None


def fewest_bits(
    weight: Real,
    bias: Real,
    *,
    ends: tuple[Real, Real],
    fraction_bits: int,
    room: int,
    rounded: Callable[[Real], Real],
) -> int | None:
    """Fraction bits of a factor that change no result for any value that there can be.

    The offset then has ``fraction_bits`` more.

    Parameters
    ----------
    weight, bias : ndarray of float64
        They broadcast to the shape of ``ends``.
    ends : tuple of ndarray of float64
        Smallest and largest value of each element, multiples of ``2**-fraction_bits``.
    room : int
        Most fraction bits of the factor.
    rounded : callable
        What follows ``x * weight + bias``.

    Returns
    -------
    int or None
        None when there are too many values to try, or no factor will do.
    """
    given = np.broadcast_arrays(weight, bias, *ends)
    cases = np.unique(np.stack([values.ravel() for values in given]), axis=1)
    counts = np.ldexp(cases[3] - cases[2], fraction_bits) + 1
    if counts.sum() > MOST_CASES:
        return None
    element = np.repeat(np.arange(len(counts)), counts.astype(np.int64))
    start = np.cumsum(counts) - counts
    x = cases[2][element] + np.ldexp(np.arange(len(element)) - start[element], -fraction_bits)
    wanted = rounded(x * cases[0][element] + cases[1][element])
    top = int(np.ceil(np.log2(np.max(np.abs(weight), initial=2.0**-40))))
    for grid in range(-top, min(MOST_BITS - top, room) + 1):
        factor, offset = on_grid(cases[0], grid), on_grid(cases[1], grid + fraction_bits)
        if (rounded(x * factor[element] + offset[element]) == wanted).all():
            return grid
    return None
