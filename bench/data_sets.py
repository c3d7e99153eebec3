"""The data of the benchmarks: scikit-learn's own and, where the folder is there, published sets; split once for all."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.model_selection import train_test_split

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"


class Split(NamedTuple):
    """float32 inputs, classes or targets."""

    x: Any
    y: Any
    x_test: Any
    y_test: Any


def _bundled(load: Callable[..., Any]) -> Callable[[], tuple[Any, Any]]:
    return lambda: load(return_X_y=True)


def _banknote() -> tuple[Any, Any]:
    with (FOLDER / "banknote" / "banknote.csv").open() as file:
        rows = [[float(value) for value in row] for row in list(csv.reader(file))[1:]]
    table = np.array(rows)
    return table[:, :-1], table[:, -1].astype(int)


def _images() -> tuple[Any, Any]:
    x, y = load_digits(return_X_y=True)
    return x.reshape(-1, 8, 8) / 16, y


SETS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "iris": _bundled(load_iris),
    "wine": _bundled(load_wine),
    "cancer": _bundled(load_breast_cancer),
    "digits": _bundled(load_digits),
    "images": _images,
    "diabetes": _bundled(load_diabetes),
    "banknote": _banknote,
}


@cache
def split(name: str) -> Split:
    """70 % to train and calibrate with, 30 % held out."""
    if name == "magic":
        return _magic()
    if name == "jets":
        # there are only the thousand rows of the test: they calibrate too, without their labels
        found = np.load(FOLDER / "jets" / "jsc_openml_1000.npz")
        return Split(found["x"], found["y"], found["x"], found["y"])
    x, y = SETS[name]()
    stratify = None if name == "diabetes" else y
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, random_state=0, stratify=stratify)
    return Split(x_train.astype(np.float32), y_train, x_test.astype(np.float32), y_test)


def _magic() -> Split:
    parts = []
    for part in ("train", "test"):
        with (FOLDER / "magic" / f"magic_{part}.csv").open() as file:
            rows = list(csv.reader(file))[1:]
        parts += [np.array([r[:10] for r in rows], np.float32), np.array([r[10] == "g" for r in rows], int)]
    return Split(*parts)
