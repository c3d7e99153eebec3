"""The cheapest precision whose loss is tolerable: one knob after the other is turned down, the most rewarding first.

Each step asks a quick guess for the adders that it saves and the outputs for the error that it adds, and takes the knob
with most bits saved for its error, as long as the loss stays within the tolerance. Part of the calibration data chooses
formats and the rest decides, where there is enough. The engine's own plan is made and weighed at the ends, and in
between as often as time allows: what it says is the curve, and the cheapest point of it is the answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.boards import Board, find_board
from gatesmith.errors import UnsupportedOperation
from gatesmith.explore.goal import Limits
from gatesmith.explore.labels import check_labels
from gatesmith.explore.searcher import Progress, Search, Searcher
from gatesmith.model.graph import Graph
from gatesmith.quantize.calibrate import array_names, check_calibration

__all__ = ["BUDGET_S", "search_precision"]

BUDGET_S = 120.0


def search_precision(
    graph: Graph,
    calibration: Mapping[str, NDArray[Any]] | NDArray[Any] | None,
    *,
    labels: NDArray[Any] | None = None,
    tolerance: float = 0.5,
    max_error: float | None = None,
    prune: bool = False,
    board: str | Board = "ulx3s-85f",
    clock_hz: int | None = None,
    budget_s: float = BUDGET_S,
    progress: Progress | None = None,
) -> Search:
    """Find bits for every tensor of a float graph.

    Parameters
    ----------
    calibration : mapping of str to ndarray, or ndarray, shape (samples, *input shape)
        As for :func:`gatesmith.quantize.quantize`.
    labels : ndarray, shape (samples,) or (samples, outputs), optional
        Classes by number or name, or targets of a regression; without them the float model is what is compared with.
    tolerance : float
        Points of accuracy, agreement or R2 that may be lost, 0 to 50.
    max_error : float, optional
        Most that any output of any sample may be from the float model's, after the host's operations: a probability's
        error where a softmax is last.
    prune : bool
        Whether small weights may be set to zero.
    board : str or Board
        Whose LUTs are counted.
    budget_s : float
        Time after which the best that was found is taken; a plan that would take longer is not begun.

    Raises
    ------
    AccuracyLost
        When a limit or the labels are out of range, or 16 bits lose more than the limits allow.
    BuildError
        When not even one plan can be made in the time.
    CalibrationNeeded
        When there is no usable calibration data.
    """
    limits = Limits(tolerance=tolerance, max_error=max_error)
    if graph.is_integer:
        raise UnsupportedOperation(f"graph {graph.name!r} has formats already, a float graph is needed")
    data = check_calibration(graph, calibration)
    checked = check_labels(graph, labels, samples=_count(graph, calibration), kept=len(next(iter(data.values()))))
    found = board if isinstance(board, Board) else find_board(board)
    return Searcher(
        graph,
        data,
        checked,
        limits=limits,
        board=found,
        clock_hz=clock_hz,
        deadline=time.monotonic() + budget_s,
        tell=progress or (lambda _stage, _done: None),
    ).run(prune=prune)


def _count(graph: Graph, calibration: Mapping[str, NDArray[Any]] | NDArray[Any] | None) -> int:
    """Samples before they are thinned out; a file may hold other arrays beside them."""
    arrays = calibration if isinstance(calibration, Mapping) else {"": calibration}
    return len(np.asarray(arrays[array_names(graph, arrays)[graph.inputs[0].edge.name]]))
