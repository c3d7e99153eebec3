"""``--precision auto`` beside the same bits everywhere: loss on held-out samples, and LUTs of a real synthesis.

Models are trained with fixed seeds on a training part; calibration is a part of that, with its labels. LUTs are those
of ``synth_ecp5``, carries included, of the whole design, link and all, at the board's clock.

The largest model is searched, for the time that it takes, and not synthesised: that would take far longer.

    python bench/precision.py [--prune] [MODEL...]
"""

from __future__ import annotations

import json
import statistics
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gatesmith.boards import find_board
from gatesmith.estimate import first_cutoff
from gatesmith.explore import search_precision
from gatesmith.explore.goal import goal_for
from gatesmith.firmware import Link
from gatesmith.frontends import read_model
from gatesmith.gateware.engines import build_core, plan_logic
from gatesmith.gateware.top import compose
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.quantize import quantize
from gatesmith.toolchain import plan, synthesize
from gatesmith.tools import cache_path

CALIBRATION = 1000
TOLERANCE = 0.5
LARGE = 2000
"""Weights, beyond which a model is not synthesised."""

BOARDS = ("ulx3s-85f",)
CELLS = {"ulx3s-85f": {"LUT4": 1, "CCU2C": 2}, "ice40-hx8k-b-evn": {"SB_LUT4": 1}}


def _mlp(*hidden: int, **options: Any) -> Any:
    return make_pipeline(StandardScaler(), MLPClassifier(hidden, random_state=0, max_iter=400, **options))


def _jets(samples: int = 12000) -> tuple[Any, Any]:
    return make_classification(
        samples, 16, n_informative=12, n_redundant=2, n_classes=5, n_clusters_per_class=2, class_sep=1.6, random_state=4
    )


MODELS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "iris": (lambda: load_iris(return_X_y=True), lambda: _mlp(8, solver="lbfgs", alpha=0.1)),
    "wine": (lambda: load_wine(return_X_y=True), lambda: _mlp(8, solver="lbfgs", alpha=0.1)),
    "breast cancer": (lambda: load_breast_cancer(return_X_y=True), lambda: _mlp(8, solver="lbfgs", alpha=1.0)),
    "cancer, logistic": (
        lambda: load_breast_cancer(return_X_y=True),
        lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.1)),
    ),
    "digits": (lambda: load_digits(return_X_y=True), lambda: _mlp(16)),
    "digits, tanh": (lambda: load_digits(return_X_y=True), lambda: _mlp(8, activation="tanh")),
    "diabetes": (
        lambda: load_diabetes(return_X_y=True),
        lambda: make_pipeline(
            StandardScaler(), MLPRegressor(hidden_layer_sizes=(8, 4), solver="lbfgs", alpha=3.0, random_state=0)
        ),
    ),
    "jets 16-16-8-5": (_jets, lambda: _mlp(16, 8)),
    "jets 16-64-32-32-5": (_jets, lambda: _mlp(64, 32, 32)),
}


def trained(name: str) -> tuple[Graph, tuple[Any, Any], tuple[Any, Any]]:
    """The float graph, calibration samples with labels, and test samples with labels."""
    load, make = MODELS[name]
    x, y = load()
    y = y / 100 if name == "diabetes" else y
    classes = None if name == "diabetes" else y
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, random_state=1, stratify=classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator = make().fit(x_train, y_train)
    return read_model(estimator, name="model"), (x_train[:CALIBRATION], y_train[:CALIBRATION]), (x_test, y_test)


def loss(graph: Graph, integer: Graph, x: Any, y: Any) -> float:
    """Points of accuracy or R2 that are lost on these samples."""
    data = {graph.inputs[0].edge.name: x}
    goal = goal_for(graph, reference.infer_real(graph, data), y if y.dtype.kind == "i" else y[:, None])
    return goal.measure(reference.infer_real(integer, data)).loss


def luts(integer: Graph, name: str) -> int:
    """Logic cells of a synthesis."""
    board = find_board(name)
    link = Link(divisor=max(4, round(board.clock_hz / board.baud)), clock_hz=board.clock_hz)
    core = build_core(plan_logic(integer), cutoff=first_cutoff(board.family.value, board.clock_hz))
    design = compose(core, contract=integer.contract(), link=link, build_id="0" * 32)
    netlist = json.loads(synthesize(plan(design, board), cache=cache_path("builds")).json)
    count = Counter(cell["type"] for cell in netlist["modules"]["top"]["cells"].values())
    return sum(weight * count[kind] for kind, weight in CELLS[name].items())


def row(name: str, *, prune: bool) -> dict[str, Any]:
    """One model."""
    graph, (x, y), test = trained(name)
    labels = y if y.dtype.kind == "i" else y[:, None]
    found = search_precision(graph, x, labels=labels, tolerance=TOLERANCE, prune=prune, board=BOARDS[-1])
    uniform = {bits: quantize(graph, x, precision=bits)[0] for bits in (8, 7, 6, 5, 4, 3)}
    losses = {bits: round(loss(graph, integer, *test), 3) for bits, integer in uniform.items()}
    result: dict[str, Any] = {
        "model": name,
        "weights": sum(node.weight.size for node in graph.nodes if hasattr(node, "weight")),
        "test_samples": len(test[1]),
        "metric": found.metric,
        "loss_auto": round(loss(graph, found.graph, *test), 3),
        "loss_uniform": losses,
        "bits_auto": [round(bits, 2) for bits in found.chosen.bits],
        "seconds": round(found.seconds, 1),
        "estimated_luts_auto": found.chosen.luts,
        "points": len(found.curve),
    }
    print(json.dumps(result), file=sys.stderr, flush=True)
    for board in BOARDS if result["weights"] <= LARGE else ():
        auto, eight = luts(found.graph, board), luts(uniform[8], board)
        result[board] = {"auto": auto, "uniform_8": eight, "saved_percent": round(100 * (1 - auto / eight), 1)}
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def main() -> None:
    """Every model, and the means."""
    chosen = [name for name in sys.argv[1:] if not name.startswith("-")] or list(MODELS)
    rows = [row(name, prune="--prune" in sys.argv) for name in chosen]
    means: dict[str, Any] = {
        "loss_auto": round(statistics.mean(r["loss_auto"] for r in rows), 3),
        "loss_uniform_8": round(statistics.mean(r["loss_uniform"][8] for r in rows), 3),
    }
    for board in BOARDS:
        saved = [r[board]["saved_percent"] for r in rows if board in r]
        means[board] = {"saved_percent": round(statistics.mean(saved), 1)} if saved else {}
    print(json.dumps({"tolerance": TOLERANCE, "prune": "--prune" in sys.argv, "mean": means, "rows": rows}))


if __name__ == "__main__":
    main()
