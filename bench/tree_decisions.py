"""How many decisions of trees the default precision keeps, on samples that the quantiser has not seen.

Every data set with every kind of ensemble: trained and calibrated on 70 % of the rows, the library's own ``predict`` on
the other 30 % is what has to be kept. Small sets are split several times. ``bits`` are the bits that all different
comparisons of a model look at, ``leaf_bits`` its output's, so what more decisions cost is in the same table.

    python bench/tree_decisions.py [FOLDER_OF_DATA]
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import xgboost
from data_sets import FOLDER
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import train_test_split

from gatesmith.frontends import read_model
from gatesmith.gateware.forest import plant
from gatesmith.model import reference
from gatesmith.quantize import quantize

MODELS: dict[str, Callable[[int], Any]] = {
    "RandomForest": lambda seed: RandomForestClassifier(50, max_depth=8, random_state=seed),
    "GradientBoosting": lambda seed: GradientBoostingClassifier(n_estimators=30, max_depth=4, random_state=seed),
    "HistGradientBoosting": lambda seed: HistGradientBoostingClassifier(max_iter=30, max_depth=4, random_state=seed),
    "XGBoost": lambda seed: xgboost.XGBClassifier(
        n_estimators=50, max_depth=4, learning_rate=0.3, base_score=0.5, random_state=seed
    ),
    "LightGBM": lambda seed: lightgbm.LGBMClassifier(n_estimators=50, max_depth=4, verbosity=-1, random_state=seed),
}
ROWS_HELD = 1000
"""About as many rows are held out of each set, in all its splits together."""

MOST_SPLITS = 5


def sets(folder: Path) -> dict[str, tuple[Any, Any]]:
    """Inputs and classes by name; the published sets where the folder is."""
    bundled = {"iris": load_iris, "wine": load_wine, "cancer": load_breast_cancer, "digits": load_digits}
    found: dict[str, tuple[Any, Any]] = {name: load(return_X_y=True) for name, load in bundled.items()}
    if folder.is_dir():
        table = _rows(folder / "banknote" / "banknote.csv")
        found["banknote"] = table[:, :-1].astype(float), table[:, -1].astype(int)
        table = np.concatenate([_rows(folder / "magic" / f"magic_{part}.csv") for part in ("train", "test")])
        found["magic"] = table[:, :10].astype(float), (table[:, 10] == "g").astype(int)
        with np.load(folder / "jets" / "jsc_openml_1000.npz") as held:
            found["jets"] = held["x"].astype(float), held["y"].astype(int)
    return found


def _rows(path: Path) -> Any:
    with path.open() as file:
        return np.array(list(csv.reader(file))[1:])


def compared_bits(graph: Any) -> int:
    """Bits that the different comparisons look at: of trailing ones in a bound no bit matters."""
    forest = plant(graph)
    return sum(forest.input.width - ((test.bound + 1) & -(test.bound + 1)).bit_length() + 1 for test in forest.tests)


def measured(x: Any, y: Any, make: Callable[[int], Any]) -> dict[str, Any]:
    """Decisions that change on held-out rows, over all splits."""
    x = x.astype(np.float32)
    splits = int(np.clip(round(ROWS_HELD / (0.3 * len(x))), 1, MOST_SPLITS))
    held = changed = bits = leaf_bits = 0
    for seed in range(splits):
        inside, outside, classes, _ = train_test_split(x, y, test_size=0.3, random_state=seed, stratify=y)
        estimator = make(seed).fit(inside, classes)
        graph, _ = quantize(read_model(estimator), inside)
        given = reference.infer_real(graph, {"input": outside})[graph.outputs[0].edge.name].argmax(axis=1)
        wanted = np.searchsorted(estimator.classes_, estimator.predict(outside))
        held, changed = held + len(outside), changed + int(np.sum(given != wanted))
        bits, leaf_bits = bits + compared_bits(graph), max(leaf_bits, graph.outputs[0].edge.fixed.width)
    return {"held_out": held, "changed": changed, "bits": round(bits / splits), "leaf_bits": leaf_bits}


def main() -> None:
    """All pairs whose data is here."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    rows = []
    for data, (x, y) in sets(folder).items():
        for name, make in MODELS.items():
            row = {"data": data, "model": name, **measured(x, y, make)}
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
    kept = [1 - row["changed"] / row["held_out"] for row in rows]
    print(json.dumps({"kept_mean": float(np.mean(kept)), "kept_least": min(kept), "rows": rows}))


if __name__ == "__main__":
    main()
