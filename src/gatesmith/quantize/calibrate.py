"""Calibration data: read from a file or taken as arrays, checked against the graph's inputs.

Ranges are chosen from what the model sees, so data unlike its inputs is refused here, with the numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import CalibrationNeeded, TensorMismatch
from gatesmith.model.ensemble import TreeEnsemble
from gatesmith.model.graph import Graph
from gatesmith.samples import load_samples

__all__ = ["MAX_SAMPLES", "array_names", "check_calibration", "load_calibration"]

MAX_SAMPLES = 20_000
"""Samples that are used; more are thinned out evenly."""

HOW = "give some with --calibration X.npz, X.npy or X.csv, one row for each sample, as the model takes it"


def load_calibration(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of a ``.npz``, ``.npy`` or ``.csv`` file; see :func:`gatesmith.samples.load_samples`.

    Raises
    ------
    CalibrationNeeded
        When the file is missing, damaged, of another kind, or holds no numbers.
    """
    try:
        return load_samples(path)
    except TensorMismatch as error:
        raise CalibrationNeeded(f"calibration {error}; {HOW}", path=str(path)) from error


def check_calibration(graph: Graph, data: Mapping[str, NDArray[Any]] | NDArray[Any] | None) -> dict[str, NDArray[Any]]:
    """The data by input name, thinned to ``MAX_SAMPLES``.

    Parameters
    ----------
    data : mapping of str to ndarray, ndarray, or None
        For each input an array of shape (samples, *input shape); one array alone is the only input's. In a mapping with
        other names an array called ``x`` (or the only one) stands for the only input.

    Raises
    ------
    CalibrationNeeded
        When there is none, its width is wrong, it holds no sample, or a value is not finite. NaN is a missing value
        where the model is of trees that know what to do with one.
    """
    if data is None:
        names = ", ".join(f"{t.edge.name}: {list(t.edge.shape)}" for t in graph.inputs)
        raise CalibrationNeeded(f"model {graph.name!r} has no calibration data for its inputs ({names}); {HOW}")
    given = data if isinstance(data, Mapping) else {"": data}
    arrays = {name: np.asarray(values) for name, values in given.items()}
    may_miss = any(isinstance(node, TreeEnsemble) and node.missing is not None for node in graph.nodes)
    keys = array_names(graph, arrays)
    checked = {
        t.edge.name: _check_one(t.edge.name, t.edge.shape, arrays[keys[t.edge.name]], may_miss=may_miss)
        for t in graph.inputs
    }
    counts = {name: len(values) for name, values in checked.items()}
    if len(set(counts.values())) > 1:
        raise CalibrationNeeded(f"calibration arrays have different numbers of samples: {counts}")
    step = -(-next(iter(counts.values())) // MAX_SAMPLES)
    return {name: values[::step] for name, values in checked.items()}


def array_names(graph: Graph, arrays: Collection[str]) -> dict[str, str]:
    """For each input the name of the array that is taken for it.

    Raises
    ------
    CalibrationNeeded
        When there is none.
    """
    return {terminal.edge.name: _pick(graph, arrays, terminal.edge.name) for terminal in graph.inputs}


def _pick(graph: Graph, arrays: Collection[str], name: str) -> str:
    if name in arrays:
        return name
    if len(graph.inputs) == 1:
        for other in ("x", "X", "x_test", "x_train", "data"):
            if other in arrays:
                return other
        if len(arrays) == 1:
            return next(iter(arrays))
    raise CalibrationNeeded(f"calibration data has {sorted(arrays)}, input {name!r} is not among them; {HOW}")


def _check_one(name: str, shape: tuple[int, ...], values: NDArray[Any], *, may_miss: bool) -> NDArray[np.float64]:
    if values.dtype.kind not in "fiub":
        raise CalibrationNeeded(f"calibration data for input {name!r} has the dtype {values.dtype}, numbers are needed")
    if len(shape) > 1 and values.ndim == 2 and values.shape[1] == int(np.prod(shape)):
        values = values.reshape(-1, *shape)
    if values.ndim == 0 or values.shape[1:] != shape:
        raise CalibrationNeeded(
            f"calibration data for input {name!r} has shape {list(values.shape)}, [samples, "
            f"{', '.join(map(str, shape))}] is needed",
            shape=str(list(values.shape)),
        )
    if len(values) == 0:
        raise CalibrationNeeded(f"calibration data for input {name!r} holds no sample; {HOW}")
    real = values.astype(np.float64)
    bad = np.argwhere(np.isinf(real) if may_miss else ~np.isfinite(real))
    if len(bad):
        where = tuple(int(i) for i in bad[0])
        raise CalibrationNeeded(
            f"calibration data for input {name!r} holds {len(bad)} values that are not finite, the first at row "
            f"{where[0]}: {real[where]}; remove or fill them",
            not_finite=len(bad),
            row=where[0],
        )
    return real
