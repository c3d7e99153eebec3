"""How the formats of a build are chosen: a number of bits, none that changes a decision, or a search and its tolerance.

Light to import: what does the work is imported when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.boards import Board
from gatesmith.errors import BuildError
from gatesmith.model.graph import Graph

__all__ = ["AUTO", "MAX_ERRORS", "PRECISION_WORDS", "TOLERANCE", "TOLERANCES", "Aim", "Quantized"]

AUTO = "auto"
PRECISION_WORDS = (AUTO, "exact")

TOLERANCE = 0.5
"""Points that a search may lose unless more is asked for."""

BITS = (2, 16)

TOLERANCES = (0.0, 50.0)
"""Points that a search can be told to lose."""

MAX_ERRORS = (1e-30, 1e30)
"""Errors of an output that a search can be told to keep to: outputs of float32 differ by none beyond these."""

SHOWN = 40
"""Characters of what somebody gave that are repeated to them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantized:
    """An integer graph, how it came about, and files about that for people."""

    graph: Graph
    facts: Mapping[str, Any]
    reports: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Aim:
    """What is asked of the quantiser.

    Parameters
    ----------
    precision : int or str
        Bits everywhere; ``auto`` or ``exact``.
    tolerance : float, optional
        Of ``auto``: points of accuracy, agreement or R2 that may be lost.
    max_error : float, optional
        Of ``auto``: most that any output of a calibration sample may be from the float model's.
    labels : str or Path of a file, or ndarray, optional
        Of ``auto``: classes or targets of the calibration data, whose file may hold them itself.
    prune : bool
        Of ``auto``: small weights may be set to zero.

    Raises
    ------
    BuildError
        When the precision is no such word, a limit is out of range, or another option is given without a search.
    """

    precision: int | str = 8
    tolerance: float | None = None
    max_error: float | None = None
    labels: str | Path | NDArray[Any] | None = None
    prune: bool = False

    def __post_init__(self) -> None:
        given: object = self.precision
        if isinstance(given, np.integer):
            object.__setattr__(self, "precision", int(given))
        is_number = isinstance(self.precision, int) and not isinstance(self.precision, bool)
        if not is_number and self.precision not in PRECISION_WORDS:
            words = " or ".join(PRECISION_WORDS)
            raise BuildError(f"precision {_shown(self.precision)} is not possible; it is a number of bits, {words}")
        if isinstance(self.precision, int) and not BITS[0] <= self.precision <= BITS[1]:
            raise BuildError(f"precision {_shown(self.precision)} bits, {BITS[0]} to {BITS[1]} are possible")
        given = {
            "tolerance": self.tolerance,
            "max error": self.max_error,
            "labels": self.labels,
            "prune": self.prune or None,
        }
        stray = [word for word, value in given.items() if value is not None]
        if stray and self.precision != AUTO:
            raise BuildError(f"{stray[0]} is of precision {AUTO!r} alone, and precision is {self.precision}")
        _check("tolerance", self.tolerance, TOLERANCES, " points")
        _check("max error", self.max_error, MAX_ERRORS)

    @property
    def stage(self) -> str:
        """What the work is called when its progress is told."""
        return "search" if self.precision == AUTO else "quantize"

    @property
    def points(self) -> float:
        """That may be lost."""
        return TOLERANCE if self.tolerance is None else self.tolerance

    def parameters(self) -> dict[str, Any]:
        """What decides the result, beside the data."""
        if self.precision != AUTO:
            return {"precision": self.precision}
        bound = {} if self.max_error is None else {"max_error": float(self.max_error)}
        # one number has one form, whether it came as 1, 1.0 or -0.0
        return {"precision": self.precision, "tolerance": float(self.points) + 0.0, **bound, "prune": self.prune}

    def quantized(
        self, graph: Graph, data: Any, *, board: Board, clock_hz: int | None, progress: Callable[[str, float], None]
    ) -> Quantized:
        """Choose the formats of a float graph.

        Parameters
        ----------
        data : mapping of str to ndarray, or ndarray, shape (samples, *input shape)
            Calibration data.

        Raises
        ------
        ModelError, BuildError
            See :func:`gatesmith.quantize.quantize` and :func:`gatesmith.explore.search_precision`.
        """
        if self.precision != AUTO:
            from gatesmith.quantize import quantize

            integer, report = quantize(graph, data, precision=self.precision)
            return Quantized(graph=integer, facts=report.to_json())
        from gatesmith.explore import labels_of, search_precision

        found = search_precision(
            graph,
            data,
            labels=labels_of(graph, self.labels, data),
            tolerance=self.points,
            max_error=self.max_error,
            prune=self.prune,
            board=board,
            clock_hz=clock_hz,
            progress=progress,
        )
        return Quantized(graph=found.graph, facts=found.facts(), reports=found.files(graph.name))


def _check(word: str, value: object, bounds: tuple[float, float], unit: str = "") -> None:
    if value is None:
        return
    low, high = bounds
    numbers = int | float | np.integer | np.floating
    if isinstance(value, bool) or not isinstance(value, numbers) or not low <= value <= high:
        shown = f"{value:g}" if isinstance(value, float) else _shown(value)
        raise BuildError(f"{word} is {shown}{unit}, {low:g} to {high:g} are possible")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
