"""More samples than there are for calibration, made of these: near ones, and ones on the way from one to another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gatesmith.model.node import Real

__all__ = ["denser", "mixed"]

ENOUGH_SAMPLES, MOST_COPIES, NEAR_RANKS = 20_000, 9, 3
"""From so many samples on none are added; copies of the samples at most, and how far in rank a value may move."""

MIXTURES = 20_000


def denser(x: Real) -> Real:
    """A few samples, and more like them: each feature takes a value that is near in rank among those that were seen.

    A few hundred samples leave wide gaps around a threshold, in which it could move without any of them telling. So
    the new values lie in the gaps, where a feature's values are not few ones that come again and again.
    """
    copies = min(ENOUGH_SAMPLES // len(x) - 1, MOST_COPIES)
    if copies < 1:
        return x
    generator = np.random.default_rng(0)
    parts = [x]
    order = np.argsort(x, axis=0, kind="stable")
    rank = np.argsort(order, axis=0, kind="stable")
    seen = np.take_along_axis(x, order, axis=0)
    is_dense = _is_dense(seen)
    for _ in range(copies):
        place = np.clip(rank + generator.integers(-NEAR_RANKS, NEAR_RANKS + 1, size=x.shape), 0, len(x) - 1)
        with np.errstate(over="ignore", invalid="ignore"):  # what a float32 cannot say stays as it was
            near, next_one = (
                np.take_along_axis(seen, np.minimum(place + i, len(x) - 1), axis=0).astype(np.float32) for i in (0, 1)
            )
            between = (near + (next_one - near) * generator.random(x.shape, dtype=np.float32)).astype(np.float64)
        made = np.where(is_dense, between, near)
        parts.append(np.where(np.isnan(x) | np.isnan(made), x, made))
    return np.concatenate(parts)


def mixed(x: Real) -> Real:
    """Samples on the way from one to another, up to the middle of it.

    A model is sure of the samples that it was trained on, and those are what most give for calibration; of what lies
    between them it is as unsure as of others. A feature of few values that come again and again keeps to these.
    """
    generator = np.random.default_rng(1)
    first, other = x[generator.integers(len(x), size=(2, MIXTURES))]
    share = generator.random((MIXTURES, 1)) / 2
    with np.errstate(over="ignore"):
        between = (first + (other - first) * share).astype(np.float32).astype(np.float64)
    made = np.where(
        _is_dense(np.sort(x, axis=0)), between, np.where(generator.random(first.shape) < share, other, first)
    )
    return np.asarray(np.where(np.isnan(first) | np.isnan(made), first, made))


def _is_dense(seen: Real) -> NDArray[np.bool_]:
    """Whether a feature's sorted values are mostly different ones."""
    return np.asarray(np.count_nonzero(np.diff(seen, axis=0), axis=0) > len(seen) / 2)
