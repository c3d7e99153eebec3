"""A model of each library from its file to two boards: what quantising costs and what the gateware needs.

Float and firmware metrics are on held-out rows; the firmware's integers are the reference's, which each build proves on
its RTL. Models that do not fit on the iCE40 are only synthesised for it. Accuracy in percent, R2 for regressions.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from data_sets import FOLDER, split

os.environ.setdefault("KERAS_BACKEND", "torch")  # HGQ2's models are read with Keras

from gatesmith.aim import Aim
from gatesmith.contract import Contract
from gatesmith.errors import DesignDoesNotFit, GatesmithError
from gatesmith.flow import build_firmware
from gatesmith.frontends import read_model
from gatesmith.model import reference
from gatesmith.model.ensemble import TreeEnsemble
from gatesmith.model.graph import Graph
from gatesmith.proof import GRAPH_FILE

MODELS = Path(__file__).parent / "training" / "models"
BOARDS = {"ice40": "icebreaker", "ecp5": "ulx3s-85f"}
RESOURCES = {"ice40": "ICESTORM_LC", "ecp5": "TRELLIS_COMB"}
IMAGES = {"keras-digits-cnn": (..., None), "torch-digits-cnn": (slice(None), None)}
PUBLISHED = {
    "qonnx-jets": (FOLDER / "models" / "qkeras_jettagging.onnx", "jets"),
    "bondmachine-banknote": (FOLDER / "bondmachine" / "bm_banknote.json", "bondmachine"),
}
LIBRARIES = {
    "sklearn": "scikit-learn",
    "onnx": "ONNX",
    "keras": "Keras",
    "hgq": "HGQ2",
    "torch": "PyTorch",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
    "catboost": "CatBoost",
    "qonnx": "QONNX",
    "bondmachine": "BondMachine",
}
TRAINED = {"hgq-iris", "hgq-banknote", "qonnx-jets", "onnx-wine-qdq"}
"""Models that have formats already."""


def data_of(name: str) -> Any:
    """The split of a model's data, in the shape of its input."""
    _, rest = name.split("-", 1)
    if name == "qonnx-jets":
        return split("jets")
    key = rest.split("-")[0]
    given = split("images" if name in IMAGES else key)
    if name == "bondmachine-banknote":
        return scaled_banknote()
    if name in IMAGES:
        index = IMAGES[name]
        return given._replace(x=given.x[index], x_test=given.x_test[index])
    return given


def scaled_banknote() -> Any:
    """Scaled as that model's own test rows are: with the mean and deviation of the training rows."""
    given = split("banknote")
    mean, deviation = given.x.mean(axis=0), given.x.std(axis=0)
    return given._replace(x=(given.x - mean) / deviation, x_test=(given.x_test - mean) / deviation)


def metric(graph: Graph, x: Any, y: Any) -> float:
    """Accuracy in percent, or R2."""
    (terminal,) = graph.inputs
    # the widest output holds the scores; others are labels
    output = max(graph.outputs, key=lambda t: t.edge.elements)
    shaped = x.reshape(len(x), *terminal.edge.shape)
    given = reference.infer_real(graph, {terminal.edge.name: shaped})[output.edge.name]
    if not np.issubdtype(np.asarray(y).dtype, np.integer):
        return float(1 - np.sum((given.ravel() - y) ** 2) / np.sum((y - y.mean()) ** 2))
    classes = given.reshape(len(x), -1)
    found = classes.argmax(axis=1) if classes.shape[1] > 1 else (classes[:, 0] > 0).astype(int)
    return float(100 * (found == y).mean())


def is_trees(graph: Graph) -> bool:
    """Whether the trees' engine takes it."""
    return any(isinstance(node, TreeEnsemble) for node in graph.nodes)


def bits(graph: Graph) -> str:
    """Bits of what enters products or trees, smallest to largest."""
    readers = {name for node in graph.nodes if node.kind in {"Dense", "TreeEnsemble"} for name in node.inputs}
    widths = sorted(graph.edges[name].fixed.width for name in readers)
    return "-".join(str(width) for width in dict.fromkeys((widths[0], widths[-1])))


def measure(name: str, path: Path) -> dict[str, Any]:
    """One row of the table."""
    given = data_of(name)
    graph = read_model(path, name=name)
    (terminal,) = graph.inputs
    x = given.x.reshape(len(given.x), *terminal.edge.shape)
    trained = name in TRAINED
    aim: Any = 8
    if trained:
        aim = 7 if name == "qonnx-jets" else 8
    elif not is_trees(graph):
        aim = Aim(precision="auto", labels=np.asarray(given.y))
    row: dict[str, Any] = {
        "model": name,
        "library": LIBRARIES[name.split("-", maxsplit=1)[0]],
        "float": metric(graph, given.x_test, given.y_test),
        "precision": "as trained" if trained else ("default" if is_trees(graph) else "auto"),
    }
    with tempfile.TemporaryDirectory() as scratch:
        calibration = Path(scratch) / "calibration.npz"
        np.savez(calibration, **{terminal.edge.name: x})
        for family, board in BOARDS.items():
            row |= {f"{family}_{key}": value for key, value in built(path, board, calibration, aim, name, row).items()}
    if "metric" in row:
        row["firmware"] = row.pop("metric")
    return row


def built(path: Path, board: str, calibration: Path, aim: Any, name: str, row: dict[str, Any]) -> dict[str, Any]:
    """What one board needs; only the estimate where the model does not fit."""
    try:
        made = build_firmware(path, board, calibration=calibration, precision=aim, name=name)
    except DesignDoesNotFit as error:
        return {"fits": False, "why": str(error)}
    firmware = made.firmware
    integer = Graph.from_bytes(firmware.reports[GRAPH_FILE])
    given = data_of(name)
    row["metric"] = metric(integer, given.x_test, given.y_test)
    row["bits"] = bits(integer)
    family = next(key for key, value in BOARDS.items() if value == board)
    contract: Contract = firmware.contract
    return {
        "fits": True,
        "logic": firmware.report.to_json()["utilization"][RESOURCES[family]]["used"],
        "fmax_mhz": round(firmware.report.fmax_hz / 1e6, 1),
        "cycles": firmware.latency_cycles,
        "input_bits": contract.input_bits,
        "verified": list(firmware.verified),
    }


def main() -> None:
    """All models, or those named."""
    warnings.simplefilter("ignore")
    paths = {path.stem: (path, "") for path in sorted(MODELS.iterdir())} | PUBLISHED
    wanted = sys.argv[1:] or [name for name, (path, _) in paths.items() if path.exists()]
    rows = []
    for name in wanted:
        start = time.monotonic()
        try:
            row = measure(name, paths[name][0])
        except GatesmithError as error:
            row = {"model": name, "error": f"{type(error).__name__}: {error}"}
        row["seconds"] = round(time.monotonic() - start, 1)
        print(json.dumps(row), file=sys.stderr, flush=True)
        rows.append(row)
    losses = [row["float"] - row["firmware"] for row in rows if "firmware" in row and row["float"] > 1]
    print(json.dumps({"rows": rows, "mean_loss_points": math.fsum(losses) / max(len(losses), 1), "models": len(rows)}))


if __name__ == "__main__":
    main()
