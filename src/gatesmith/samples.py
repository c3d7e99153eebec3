"""Samples from a file: ``.npz``, ``.npy`` or ``.csv``, by content that runs nothing."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import TensorMismatch

__all__ = ["load_samples"]


def load_samples(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays by name; the array of a ``.npy`` or ``.csv`` file has the name ``""``.

    A first row of a ``.csv`` that is not numbers is taken for a header.

    Raises
    ------
    TensorMismatch
        When the file is missing, damaged, of another kind, or holds something else than numbers.
    """
    if not path.is_file():
        raise TensorMismatch(f"file {str(path)!r} does not exist", path=str(path))
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if path.suffix == ".npy":
            return {"": np.load(path, allow_pickle=False)}
        if path.suffix == ".csv":
            return {"": _read_csv(path)}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, csv.Error) as error:
        raise TensorMismatch(f"file {str(path)!r} cannot be read: {error}", path=str(path)) from error
    raise TensorMismatch(f"file {str(path)!r} is not one of .npz, .npy and .csv", path=str(path))


def _read_csv(path: Path) -> NDArray[np.float64]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row]
    if rows and not all(map(_is_number, rows[0])):
        rows = rows[1:]
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise ValueError(f"sample {number} has {len(row)} columns, the first has {len(rows[0])}")
    return np.array(rows, dtype=np.float64)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
