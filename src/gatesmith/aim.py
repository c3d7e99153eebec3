"""How the formats of a build are chosen: a number of bits, none that changes a decision, or a search and its tolerance.

Light to import: what does the work is imported when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gatesmith.boards import Board
from gatesmith.errors import BuildError
from gatesmith.model.graph import Graph

__all__ = ["AUTO", "PRECISION_WORDS", "TOLERANCE", "Aim", "Quantized"]

AUTO = "auto"
PRECISION_WORDS = (AUTO, "exact")

TOLERANCE = 0.5
"""Points that a search may lose unless more is asked for."""


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
        When the precision is no such word, or another option is given without a search.
    """

    precision: int | str = 8
    tolerance: float | None = None
    max_error: float | None = None
    labels: str | Path | NDArray[Any] | None = None
    prune: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.precision, str) and self.precision not in PRECISION_WORDS:
            words = " or ".join(PRECISION_WORDS)
            raise BuildError(f"precision {self.precision!r} is not possible; it is a number of bits, {words}")
        given = {
            "tolerance": self.tolerance,
            "max error": self.max_error,
            "labels": self.labels,
            "prune": self.prune or None,
        }
        stray = [word for word, value in given.items() if value is not None]
        if stray and self.precision != AUTO:
            raise BuildError(f"{stray[0]} is of precision {AUTO!r} alone, and precision is {self.precision}")

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
        bound = {} if self.max_error is None else {"max_error": self.max_error}
        return {"precision": self.precision, "tolerance": self.points, **bound, "prune": self.prune}

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
        ModelError
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
