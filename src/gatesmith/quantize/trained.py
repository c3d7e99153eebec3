"""Formats that a model was trained with, kept: where they are, and constants just fine enough not to change them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gatesmith.fixed import FixedPoint, Overflow, Rounding
from gatesmith.model.graph import Terminal
from gatesmith.model.node import Node, Real
from gatesmith.model.nodes import Clip, Gather, Max, Quantize, ReLU, Reshape
from gatesmith.quantize.formats import on_grid
from gatesmith.quantize.rewrite import Rewriter

__all__ = ["Rounded", "fewest_bits", "input_format", "next_rounding"]

MOST_CASES = 1 << 23
"""Values that :func:`fewest_bits` tries for each number of bits at most."""

MOST_BITS = 22
"""Of a factor."""


def input_format(rewriter: Rewriter, terminal: Terminal) -> FixedPoint | None:
    """The format to which the model itself rounds an input first thing; the host can do that."""
    found: set[FixedPoint] = set()
    waiting = list(rewriter.readers[terminal.edge.name])
    if terminal.edge.name in rewriter.outputs:
        return None
    while waiting:
        node = waiting.pop()
        if isinstance(node, Quantize):
            if (node.rounding, node.overflow) != (Rounding.HALF_EVEN, Overflow.SATURATE):
                return None
            found.add(node.format)
        elif isinstance(node, Reshape | Gather | Clip) and node.output.name not in rewriter.outputs:
            waiting += rewriter.readers[node.output.name]
            if isinstance(node, Clip) and not _clips_within(node, waiting):
                return None
        else:
            return None
    return found.pop() if len(found) == 1 else None


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
