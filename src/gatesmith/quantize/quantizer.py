"""A float graph and calibration data in, an integer graph and what it cost out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import AccuracyLost, UnsupportedOperation
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.model.nodes import ArgMax
from gatesmith.quantize.allocate import ROUNDING, allocate
from gatesmith.quantize.calibrate import check_calibration
from gatesmith.quantize.exact_trees import allocate_exact
from gatesmith.quantize.fold import fold, with_scaled_inputs
from gatesmith.quantize.precision import Precision
from gatesmith.quantize.projected import allocate_projected, is_projected
from gatesmith.quantize.trees import allocate_trees, holds_trees

__all__ = ["QuantizationReport", "quantize", "report"]

EXACT = "exact"

SCALING_GAIN = 0.25
"""Inputs are scaled on the host when that brings the squared error below this share."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizationReport:
    """What quantising cost, on the calibration data.

    ``agreement`` is the share of samples whose largest output is the float model's, None for a single output;
    ``max_abs_error`` the largest difference of any output. ``precision_bits`` is None where trees were kept exactly.
    """

    precision_bits: int | None
    samples: int
    agreement: float | None
    max_abs_error: float

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return {
            "precision_bits": self.precision_bits,
            "samples": self.samples,
            "agreement": self.agreement,
            "max_abs_error": self.max_abs_error,
            "rounding": ROUNDING.value,
        }


def quantize(
    graph: Graph, calibration: Mapping[str, NDArray[Any]] | NDArray[Any] | None, *, precision: int | str | Precision = 8
) -> tuple[Graph, QuantizationReport]:
    """An integer graph that does what the float graph does.

    Parameters
    ----------
    graph : Graph
        A float graph.
    calibration : mapping of str to ndarray, or ndarray, shape (samples, *input shape)
        What the model sees in use; see :func:`gatesmith.quantize.calibrate.check_calibration`.
    precision : int, str or Precision
        Bits of weights and activations, 2 to 16, everywhere or by tensor; ``exact`` keeps every decision of trees.

    Raises
    ------
    CalibrationNeeded
        When there is no usable calibration data.
    AccuracyLost
        When the precision is out of range, a value of the float graph is not finite, or numbers are too far apart.
    UnsupportedOperation
        When the graph is an integer graph already.
    """
    if isinstance(precision, str) and precision != EXACT:
        raise AccuracyLost(f"precision {precision!r} is not possible; it is a number of bits or {EXACT}")
    if graph.is_integer:
        raise UnsupportedOperation(f"graph {graph.name!r} has formats already, a float graph is needed")
    data = check_calibration(graph, calibration)
    folded = fold(graph)
    if isinstance(precision, str):
        integer = allocate_exact(folded, data)
        return integer, report(graph, integer, data, None)
    bits = Precision.of(precision)
    if holds_trees(folded):
        integer = (allocate_projected if is_projected(folded) else allocate_trees)(folded, data, bits.default)
        return integer, report(graph, integer, data, bits.default)
    integer = allocate(folded, data, bits)
    scaled = with_scaled_inputs(folded, data)
    if scaled is not folded:
        # features of very different ranges need it; for the rest the host is left out
        other = allocate(scaled, data, bits)
        if _squared_error(graph, other, data) < SCALING_GAIN * _squared_error(graph, integer, data):
            integer = other
    return integer, report(graph, integer, data, bits.default)


def _squared_error(graph: Graph, integer: Graph, data: dict[str, NDArray[Any]]) -> float:
    wanted, given = reference.infer_real(graph, data), reference.infer_real(integer, data)
    return sum(float(np.mean((real - given[name]) ** 2)) for name, real in wanted.items())


def report(graph: Graph, integer: Graph, data: Mapping[str, NDArray[Any]], precision: int | None) -> QuantizationReport:
    """What an integer graph of a float graph cost, on this data."""
    wanted = reference.infer_real(graph, data)
    given = reference.infer_real(integer, data)
    agreements: list[float] = []
    errors: list[float] = []
    for name, real in wanted.items():
        errors.append(float(np.max(np.abs(real - given[name]))))
        if real.ndim > 1 and real.shape[-1] > 1:
            agreements.append(float(np.mean(np.argmax(real, axis=-1) == np.argmax(given[name], axis=-1))))
        elif any(isinstance(node, ArgMax) and node.output.name == name for node in graph.nodes):
            agreements.append(float(np.mean(real == given[name])))
    return QuantizationReport(
        precision_bits=precision,
        samples=len(next(iter(data.values()))),
        agreement=min(agreements) if agreements else None,
        max_abs_error=max(errors),
    )
