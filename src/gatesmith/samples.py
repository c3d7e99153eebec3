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

MAX_UNPACKED_BYTES = 4 << 30


def load_samples(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays by name; the array of a ``.npy`` or ``.csv`` file has the name ``""``.

    A first row of a ``.csv`` without a single number is taken for a header.

    Raises
    ------
    TensorMismatch
        When the file is missing, damaged, of another kind, or holds something else than numbers.
    """
    try:
        if not path.is_file():
            raise TensorMismatch(f"file {str(path)!r} {_missing(path)}", path=str(path))
        if path.suffix == ".csv":
            return {"": _read_csv(path)}
        if path.suffix in {".npy", ".npz"}:
            return _read_numpy(path)
    except TensorMismatch:
        raise
    except Exception as error:
        # damaged headers and archives raise whatever their parsers do, a tokenizer's error too
        words = " ".join(str(error).split()) or type(error).__name__
        raise TensorMismatch(f"file {str(path)!r} cannot be read: {words}", path=str(path)) from error
    raise TensorMismatch(f"file {str(path)!r} is not one of .npz, .npy and .csv", path=str(path))


def _missing(path: Path) -> str:
    return "is a folder" if path.is_dir() else "does not exist"


def _read_numpy(path: Path) -> dict[str, NDArray[Any]]:
    """Told apart by content: a .npz file is a zip, whatever its name."""
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            return {"": np.lib.format.read_array(file, allow_pickle=False)}
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_UNPACKED_BYTES:
            raise ValueError(f"it unpacks to {size} bytes, {MAX_UNPACKED_BYTES} are possible")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            values = {name: arrays[name] for name in arrays.files}
    for name, array in values.items():
        if not isinstance(array, np.ndarray):  # a member that is no .npy comes as bytes
            raise ValueError(f"member {name!r} is no array")
    return values


def _read_csv(path: Path) -> NDArray[np.float64]:
    # utf-8-sig: spreadsheets write a mark at the beginning, which is no part of the first number
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [(number, row) for number, row in enumerate(csv.reader(file), 1) if row]
    if rows and not any(map(_is_number, rows[0][1])):
        rows = rows[1:]
    for number, row in rows:
        if len(row) != len(rows[0][1]):
            raise ValueError(f"row {number} has {len(row)} columns, the first sample has {len(rows[0][1])}")
        column = next((i for i, text in enumerate(row, 1) if not _is_number(text)), None)
        if column is not None:
            raise ValueError(f"row {number}, column {column} is {row[column - 1]!r}, a number is needed")
    return np.array([row for _, row in rows], dtype=np.float64)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
