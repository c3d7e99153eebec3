"""How many adders in a row a pipeline may have: where a build starts, and what it tries when the clock is missed."""

from __future__ import annotations

__all__ = ["CUTOFFS", "first_cutoff", "next_cutoff"]

CUTOFFS = (4, 3, 2, 1)
"""The cheapest first; beyond four, yosys takes minutes to prove its own mapping of the logic."""

LEVEL_NS = {"ice40": 9.0, "ecp5": 2.6, "gowin": 2.6, "gatemate": 5.0}
"""What one adder level costs on a path, placed and routed; only where the search starts depends on it."""


def first_cutoff(family: str, clock_hz: float) -> int:
    """The largest that is likely to reach a clock."""
    return _at_most(1e9 / clock_hz / LEVEL_NS[family])


def next_cutoff(cutoff: int, *, fmax_hz: float, clock_hz: float) -> int | None:
    """What to try after one that reached ``fmax_hz`` only; None after the smallest."""
    if cutoff <= CUTOFFS[-1]:
        return None
    return min(_at_most(cutoff * fmax_hz / clock_hz), _at_most(cutoff - 1))


def _at_most(limit: float) -> int:
    return next((cutoff for cutoff in CUTOFFS if cutoff <= limit), CUTOFFS[-1])
