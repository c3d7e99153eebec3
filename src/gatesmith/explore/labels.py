"""Labels of the calibration data: classes by number or by name, or targets, checked against the graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import CalibrationNeeded, TensorMismatch
from gatesmith.explore.goal import classifying
from gatesmith.model.graph import Graph, Terminal
from gatesmith.model.nodes import ArgMax
from gatesmith.quantize.calibrate import MAX_SAMPLES, array_names
from gatesmith.samples import load_samples

__all__ = ["LABEL_NAMES", "check_labels", "labels_of"]

LABEL_NAMES = ("y", "labels", "label", "y_train", "y_test", "target", "targets")
"""Arrays of a calibration file that are taken for labels."""

SPLITS = ("_train", "_test")


def labels_of(graph: Graph, given: str | Path | NDArray[Any] | None, calibration: Any) -> NDArray[Any] | None:
    """Labels as they were given, or those that lie beside the samples under one of ``LABEL_NAMES``.

    Of a file with a training and a test part, the labels are those of the part that the samples are.

    Raises
    ------
    CalibrationNeeded
        When their file cannot be read, or holds several arrays and none of such a name; or when there are no samples.
    """
    if isinstance(given, str | Path):
        return _read(Path(given))
    if given is not None or not isinstance(calibration, Mapping):
        return given
    samples = {*array_names(graph, calibration).values()}
    own = {split for split in SPLITS for name in samples if name.endswith(split)}
    others = tuple({*SPLITS} - own) if own else ()
    found = [name for name in LABEL_NAMES if name in calibration and name not in samples and not name.endswith(others)]
    found.sort(key=lambda name: not name.endswith(tuple(own)))
    return calibration[found[0]] if found else None


def _read(path: Path) -> NDArray[Any]:
    try:
        arrays = load_samples(path)
    except TensorMismatch as error:
        raise CalibrationNeeded(f"labels: {error}", path=str(path)) from error
    named = [arrays[name] for name in LABEL_NAMES if name in arrays]
    if not named and len(arrays) != 1:
        raise CalibrationNeeded(
            f"labels: file {str(path)!r} holds {len(arrays)} arrays and none of them is called {LABEL_NAMES[0]!r}",
            path=str(path),
        )
    return named[0] if named else next(iter(arrays.values()))


def check_labels(graph: Graph, labels: NDArray[Any] | None, *, samples: int | None, kept: int) -> NDArray[Any] | None:
    """Class numbers, int64 of shape (samples,), or targets, float64 of shape (samples, outputs).

    Parameters
    ----------
    samples, kept : int
        Samples of the calibration data, and how many of them are used: labels are thinned out alike.

    Raises
    ------
    CalibrationNeeded
        When they are not as many as the samples, or not what the model can answer.
    """
    if labels is None:
        return None
    given = np.asarray(labels)
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.ndim == 0 or len(given) != samples:
        raise CalibrationNeeded(
            f"there are {0 if given.ndim == 0 else len(given)} labels for {samples} samples of calibration data; give "
            f"one for each",
            labels=0 if given.ndim == 0 else len(given),
            samples=samples,
        )
    terminal = classifying(graph)
    checked = _targets(graph, given) if terminal is None else _classes(graph, terminal, given)
    return checked[:: -(-len(given) // MAX_SAMPLES)][:kept]


def _targets(graph: Graph, labels: NDArray[Any]) -> NDArray[np.float64]:
    width = sum(math.prod(terminal.spec.shape[1:]) for terminal in graph.outputs)
    if labels.dtype.kind not in "fiub":
        raise CalibrationNeeded(
            f"labels have the dtype {labels.dtype}; the model gives numbers, so targets are numbers"
        )
    flat = labels.astype(np.float64).reshape(len(labels), -1)
    if flat.shape[1] != width:
        raise CalibrationNeeded(f"labels have {flat.shape[1]} numbers for each sample, the model gives {width}")
    if not np.isfinite(flat).all():
        row = int(np.argmax(~np.isfinite(flat).all(axis=1)))
        raise CalibrationNeeded(f"labels hold a number that is not finite, the first in row {row}", row=row)
    return flat


def _classes(graph: Graph, terminal: Terminal, labels: NDArray[Any]) -> NDArray[np.int64]:
    if labels.ndim != 1:
        raise CalibrationNeeded(f"labels have the shape {list(labels.shape)}, one class for each sample is needed")
    names = next((t.labels for t in (terminal, *graph.outputs) if t.labels), ())
    classes = _class_count(graph, terminal)
    words = [_word(label) for label in labels.tolist()]
    if names and set(words) <= set(names):
        return np.array([names.index(word) for word in words], dtype=np.int64)
    if labels.dtype.kind not in "fiub" and all(word.isdecimal() for word in words):
        labels = np.array(words, dtype=np.float64)  # numbers that were kept as words or objects
    if labels.dtype.kind not in "fiub" or not np.all(labels == np.rint(labels)):
        unknown = [word for word in words if word not in names]
        wrong = next((word for word in unknown if not word.isdecimal()), unknown[0])
        known = f"classes are {', '.join(names)}" if names else f"classes are numbers from 0 to {classes - 1}"
        raise CalibrationNeeded(f"label {wrong!r} is no class of the model; {known}", label=wrong)
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        raise CalibrationNeeded(
            f"label {outside[0]:g} is no class of the model; classes are numbers from 0 to {classes - 1}",
            label=float(outside[0]),
        )
    return labels.astype(np.int64)


def _word(label: Any) -> str:
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def _class_count(graph: Graph, terminal: Terminal) -> int:
    if terminal.edge.elements > 1:
        return terminal.edge.elements
    node = next(n for n in graph.nodes if isinstance(n, ArgMax) and n.output.name == terminal.edge.name)
    return int(np.prod(graph.edges[node.inputs[0]].shape))
