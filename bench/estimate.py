"""The estimate beside real builds: synthesis, place and route of the test models on each family.

    python bench/estimate.py [--fit]

``--fit`` fits the table of ``gatesmith/estimate/families.py`` to the same builds and prints it on stderr. Builds that
the cache of this machine holds are not run again.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from models import TRAINED, integer_graph
from networks import mlp
from scipy.optimize import least_squares, nnls
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

from gatesmith.boards import Board, find_board
from gatesmith.estimate.estimator import LUTS, count, estimate, features
from gatesmith.estimate.families import COSTS, SLOWNESS
from gatesmith.firmware import Link
from gatesmith.frontends import read_model
from gatesmith.gateware.engines import build_core, plan_logic
from gatesmith.gateware.top import compose
from gatesmith.model.graph import Graph
from gatesmith.quantize import quantize
from gatesmith.toolchain import execute, plan
from gatesmith.tools import cache_path, find_tool

BOARDS = ("ice40-hx8k-b-evn", "ulx3s-25f", "tangnano20k", "gatemate-a1-evb")
DESIGNS = (
    *(("iris", 8, 4), ("iris-tanh", 8, 4), ("cancer", 8, 4), ("diabetes", 8, 4), ("regressor", 8, 4)),
    *(("forest-wine", 8, 4), ("iris", 8, 1), ("regressor", 8, 2), ("boosted-cancer", 8, 4), ("digits", 5, 4)),
    *(("iris", 4, 4), ("regressor", 5, 1), ("boosted-cancer", 8, 1), ("iris-tanh", 6, 2), ("cancer", 5, 1)),
    ("mlp-8-16-8-4", 4, 2),
)
"""Model, bits, cut-off."""

FLIP_FLOPS = ("link", "input_bits", "output_bits", "registers")
CARRIES = ("link", "input_bits", "chains", "chain_bits", "joined_bits", "tree_luts")
RESOURCES = {
    "ice40": {"ICESTORM_LC": None, "ICESTORM_RAM": ("link",)},
    "ecp5": {"TRELLIS_COMB": None, "TRELLIS_FF": FLIP_FLOPS, "DP16KD": ("link",)},
    "gowin": {"LUT4": None, "ALU": CARRIES, "DFF": FLIP_FLOPS, "BSRAM": ("link",)},
    "gatemate": {"CPE_LT": None, "CPE_FF": FLIP_FLOPS, "RAM_HALF": ("link",)},
}
"""Resources that a model decides, and the parts that each depends on; None is all of them."""


EXPECTED = {
    "link": 600,
    "input_bits": 1,
    "output_bits": 1,
    "chains": 1,
    "chain_bits": 1,
    "joined_bits": 2,
    "gates": 1,
    "table_luts": 0.5,
    "tree_luts": 0.8,
    "registers": 0,
    "bare": 1,
}
"""LUTs that a part should need: what the builds cannot tell apart stays near it."""

DOUBT, TIMING_DOUBT = 0.04, 0.1
LUT_SHARE = 0.4
"""Of an adder's time, that a LUT should take."""


def graph_of(name: str, precision: int) -> Graph:
    """The integer graph of a design."""
    if name in TRAINED:
        return integer_graph(name, precision)
    if name.startswith("mlp-"):
        sizes = [int(size) for size in name.split("-")[1:]]
        return quantize(
            mlp(*sizes, seed=1), np.random.default_rng(0).normal(size=(500, sizes[0])), precision=precision
        )[0]
    if name == "boosted-cancer":
        x, y = load_breast_cancer(return_X_y=True)
        estimator: Any = GradientBoostingClassifier(n_estimators=20, max_depth=3, random_state=0)
    else:
        x, y = load_wine(return_X_y=True)
        estimator = RandomForestClassifier(n_estimators=12, max_depth=4, random_state=0)
    return quantize(read_model(estimator.fit(x, y)), x, precision=precision)[0]


def built(graph: Graph, board: Board, cutoff: int) -> Any:
    """The report of a real build."""
    link = Link(divisor=max(4, round(board.clock_hz / board.baud)), clock_hz=board.clock_hz)
    core = build_core(plan_logic(graph), cutoff=cutoff)
    design = compose(core, contract=graph.contract(), link=link, build_id="0" * 32)
    return execute(plan(design, board), cache=cache_path("builds")).report


def rows() -> Iterator[dict[str, Any]]:
    """One for each design and board."""
    for name, precision, cutoff in DESIGNS:
        graph = graph_of(name, precision)
        start = time.perf_counter()
        logic = plan_logic(graph)
        traced = time.perf_counter() - start
        counted = count(logic, cutoff=cutoff)
        contract = graph.contract()
        given = {"input_bits": contract.input_bits, "output_bits": contract.output_bits}
        for board in map(find_board, BOARDS):
            start = time.perf_counter()
            found = estimate(graph, board, cutoff=cutoff, logic=logic) if COSTS else None
            seconds = traced + time.perf_counter() - start
            report = built(graph, board, cutoff)
            names = RESOURCES[board.family.value]
            row = {
                "model": name,
                "precision": precision,
                "cutoff": cutoff,
                "board": board.name,
                "seconds": round(seconds, 3),
                "real": {n: report.utilization[n].used for n in names} | {"fmax_mhz": round(report.fmax_hz / 1e6, 1)},
                "_features": features(counted[0], **given),
                "_paths": counted[1],
                "_family": board.family.value,
            }
            if found:
                row["predicted"] = {n: found.utilization[n].used for n in names}
                row["predicted"]["fmax_mhz"] = round(found.fmax_hz / 1e6, 1)
                row["error"] = {n: round(row["predicted"][n] / max(row["real"][n], 1) - 1, 3) for n in row["real"]}
            print(json.dumps({k: v for k, v in row.items() if k[0] != "_"}), file=sys.stderr, flush=True)
            yield row


def fit(data: list[dict[str, Any]], family: str) -> str:
    """The family's row of the table."""
    mine = [row for row in data if row["_family"] == family]
    keys = list(mine[0]["_features"])
    lines = []
    for resource, chosen in RESOURCES[family].items():
        used = [key for key in keys if chosen is None or key in chosen]
        wanted = np.array([max(row["real"][resource], 1) for row in mine], dtype=float)
        given = np.array([[row["_features"][key] for key in used] for row in mine], dtype=float)
        matrix, target = given / wanted[:, None], np.ones(len(mine))
        if chosen is None:
            scale = np.array([max(EXPECTED[key], 1) for key in used])
            matrix = np.vstack([matrix, DOUBT * np.diag(1 / scale)])
            target = np.append(target, DOUBT * np.array([EXPECTED[key] for key in used]) / scale)
        weights, _ = nnls(matrix, target)
        shown = {key: round(float(w), 3) for key, w in zip(used, weights, strict=True) if w > 5e-4}
        lines.append(f'            "{resource}": {json.dumps(shown)},')
    logic = next(iter(RESOURCES[family]))
    timing = ", ".join(f"{name}={value}" for name, value in fit_timing(mine, logic).items())
    body = "\n".join(lines)
    return (
        f'    Family.{family.upper()}: Costs(\n        logic="{logic}",\n        resources={{\n{body}\n        }},\n'
        f"        timing=Timing({timing}),\n    ),"
    )


def fit_timing(mine: list[dict[str, Any]], logic: str) -> dict[str, float]:
    """Nanoseconds of each part of a path."""
    wanted = np.array([1e3 / row["real"]["fmax_mhz"] for row in mine])

    def predicted(x: Any) -> Any:
        crowd = [max(0.0, np.log2(row["real"][logic] / LUTS)) for row in mine]
        longest = [max(x[0] + x[1] * p.adders + x[2] * p.luts + x[3] * p.bits for p in row["_paths"]) for row in mine]
        return np.maximum(np.array(longest) + x[4] * np.array(crowd), x[5])

    def residuals(x: Any) -> Any:
        # few designs have a LUT on their longest path that is not part of an adder
        doubt = TIMING_DOUBT * np.log((x[2] + 0.01) / (LUT_SHARE * x[1] + 0.01))
        return np.append(np.log(predicted(x) / wanted), doubt)

    shortest = float(wanted.min())
    tries = [
        least_squares(
            residuals,
            [*start, shortest * 0.9],
            bounds=(0, [60.0] * 5 + [shortest * 1.05]),
            loss="soft_l1",
            f_scale=0.3,
        )
        for start in ([3, 2, 1, 0.1, 0.5], [5, 1, 1, 0.2, 1], [2, 4, 2, 0.3, 0.1])
    ]
    best = min(tries, key=lambda one: one.cost)
    names = ("start", "adder", "lut", "bit", "crowd", "link")
    return {name: round(float(value), 2) for name, value in zip(names, best.x, strict=True)}


def summary(data: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and worst error of each resource, by family."""
    result: dict[str, Any] = {}
    for family in RESOURCES:
        mine = [row["error"] for row in data if row["_family"] == family and "error" in row]
        names = mine[0] if mine else {}
        result[family] = {
            name: {
                "mean": round(statistics.mean(abs(one[name]) for one in mine), 3),
                "worst": max((one[name] for one in mine), key=abs),
                "within_25_percent": f"{sum(abs(one[name]) <= 0.25 for one in mine)}/{len(mine)}",
            }
            for name in names
        }
    return result


def main() -> None:
    """Build, compare, and fit where that is asked for."""
    data = list(rows())
    if "--fit" in sys.argv:
        print("\n".join(fit(data, family) for family in RESOURCES), file=sys.stderr)
    tools = {name: find_tool(name).version for name in ("pyosys", "nextpnr-ice40", "nextpnr-ecp5")}
    shown = [{key: value for key, value in row.items() if key[0] != "_"} for row in data]
    print(json.dumps({"tools": tools, "slowness": dict(SLOWNESS), "summary": summary(data), "rows": shown}))


if __name__ == "__main__":
    main()
