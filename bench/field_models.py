"""Models that others published, built and asked over the wire of an emulated board.

``banknote``: BondMachine's network 4-1-2 with softmax, searched for probabilities within 1e-3 of the float model's and
compared with the 256 answers of its FPGA. ``jets``: a QKeras network of 6 bits, kept as it was trained behind its
inputs, on 1,000 labelled jets. ``digits``: Brevitas' TFC with 2 bits, its integer graph alone: no firmware.

COMB and fmax are those of the whole design with its link, the LUT sites those of the core alone (see ``trees.py``).

    python bench/field_models.py [FOLDER_OF_DATA]
"""
# Ref: BondMachineHQ/ml-zedboard, outputs/banknote-authentication: the FPGA's answers, those of hls4ml's firmware, and
# Ref: the report on hls4ml's IP core; fastmachinelearning/qonnx_model_zoo: the QONNX files

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from trees import DATA, sites, synthesize

from gatesmith import build_firmware, open_device
from gatesmith.aim import Aim
from gatesmith.firmware import Firmware
from gatesmith.flow import Build
from gatesmith.frontends import read_model
from gatesmith.gateware.engines import build_core, plan_logic
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.proof import GRAPH_FILE
from gatesmith.quantize import quantize

WITHIN = 1e-3
CUTOFF = 4
"""Of the cores whose LUT sites are counted: the one that these clocks choose."""

BANKNOTE_PEERS = {
    "hls4ml's core, 4-1-32-2, xc7z010, its report": {"lut": 6611, "ff": 9942, "dsp": 80},
}
JET_PEERS = {
    "the same network, published": {"accuracy": 0.762},
    "da4ml 0.6 alone, one rounding more, same tools": {"xc7_sites": 29048, "ecp5_comb": 46159},
}


def numbers(path: Path) -> Any:
    """Every number of a text file, a line to a row."""
    rows = [re.findall(r"-?\d+\.\d+(?:e-?\d+)?", line) for line in path.read_text().splitlines()]
    return np.array([[float(number) for number in row] for row in rows if row])


def banknote_inputs(folder: Path) -> Any:
    """Numbers as BondMachine writes them: ``0f`` and the decimals."""
    with (folder / "bm_banknote_inputs.csv").open() as file:
        return np.array([[float(cell.removeprefix("0f")) for cell in row] for row in csv.reader(file)])


def from_the_wire(firmware: Firmware, x: Any) -> Any:
    """What a client of the emulated board gets."""
    (given,), (taken,) = firmware.contract.inputs, firmware.contract.outputs
    with open_device("emulator:field") as device:
        device.program(firmware)
        return firmware.contract.decode(device.infer(firmware.contract.encode({given.spec.name: x})))[taken.spec.name]


def xc7_sites(graph: Graph) -> int:
    """LUT sites of the core alone."""
    core = build_core(plan_logic(graph), cutoff=CUTOFF)
    with tempfile.TemporaryDirectory() as scratch:
        return sites(synthesize(Path(scratch), core, "synth_xilinx -family xc7 -noiopad -flatten"))[0]


def built(build: Build) -> dict[str, Any]:
    """What the toolchain says."""
    firmware = build.firmware
    used = {name: each.used for name, each in firmware.report.utilization.items() if each.used}
    return {
        "board": firmware.board,
        "utilization": used,
        "fmax_mhz": round((firmware.report.fmax_hz or 0) / 1e6, 1),
        "clock_mhz": firmware.clock_hz / 1e6,
        "latency_cycles": firmware.latency_cycles,
        "verified": list(firmware.verified),
    }


def compared(given: Any, wanted: Any) -> dict[str, Any]:
    """Probabilities beside those of the FPGA."""
    errors = np.abs(given - wanted)
    return {
        "samples": len(wanted),
        "within_1e-3": int((errors <= WITHIN).all(axis=1).sum()),
        "max_error": float(f"{errors.max():.2e}"),
        "same_class": float((given.argmax(axis=1) == wanted.argmax(axis=1)).mean()),
    }


def banknote(folder: Path) -> dict[str, Any]:
    """BondMachine's own benchmark, on two families."""
    x, wanted = banknote_inputs(folder), numbers(folder / "bm_output.txt")
    rows = []
    for board in ("icebreaker", "ulx3s-85f"):
        aim = Aim(precision="auto", max_error=WITHIN)
        build = build_firmware(folder / "bm_banknote.json", board, calibration=x, precision=aim)
        given = from_the_wire(build.firmware, x[: len(wanted)])
        graph = Graph.from_bytes(build.firmware.reports[GRAPH_FILE])
        rows.append({**built(build), "xc7_sites": xc7_sites(graph), "xc7_dsp": 0, **compared(given, wanted)})
    theirs = compared(numbers(folder / "hls4ml_output.txt"), wanted)
    return {"rows": rows, "hls4ml_firmware": theirs, "peers": BANKNOTE_PEERS}


def jets(folder: Path) -> dict[str, Any]:
    """1,000 jets through the board."""
    with np.load(folder / "jets" / "jsc_openml_1000.npz") as held:
        x, y = held["x"], held["y"]
    path = folder / "models" / "qkeras_jettagging.onnx"
    build = build_firmware(path, "ulx3s-85f", calibration=x, precision=7)
    integer = Graph.from_bytes(build.firmware.reports[GRAPH_FILE])
    given, floats = from_the_wire(build.firmware, x), read_model(path)
    return {
        **built(build),
        "xc7_sites": xc7_sites(integer),
        "jets": len(y),
        "accuracy": round(float((given.argmax(axis=1) == y).mean()), 4),
        "accuracy_float": round(float((answers(floats, x).argmax(axis=1) == y).mean()), 4),
        "differ_from_reference": int((np.abs(given - answers(integer, x)) > 1e-6).any(axis=1).sum()),
        "peers": JET_PEERS,
    }


def digits(folder: Path) -> dict[str, Any]:
    """10,000 images through the integer graph."""
    images, labels = (
        np.frombuffer(gzip.decompress((folder / "mnist" / f"t10k-{name}-ubyte.gz").read_bytes()), np.uint8)
        for name in ("images-idx3", "labels-idx1")
    )
    x, y = (images[16:].reshape(-1, 1, 28, 28) / 255).astype(np.float32), labels[8:]
    floats = read_model(folder / "models" / "TFC_2W2A.onnx")
    integer, _ = quantize(floats, x[:500])
    given = answers(integer, x)
    return {
        "images": len(y),
        "accuracy": round(float((given.argmax(axis=1) == y).mean()), 4),
        "max_difference_to_float": float(np.abs(given - answers(floats, x)).max()),
    }


def answers(graph: Graph, x: Any) -> Any:
    """The only output of a graph."""
    (given,), (taken,) = graph.inputs, graph.outputs
    return reference.infer_real(graph, {given.edge.name: x})[taken.edge.name]


def main() -> None:
    """Everything; the data is not part of the project."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    if not folder.is_dir():
        sys.exit(f"there is no folder {folder}; give that of bondmachine, jets, mnist and models")
    found = {}
    for name, measure in {"banknote": lambda: banknote(folder / "bondmachine"), "jets": lambda: jets(folder)}.items():
        found[name] = measure()
        print(json.dumps(found[name]), file=sys.stderr, flush=True)
    print(json.dumps({**found, "digits": digits(folder)}))


if __name__ == "__main__":
    main()
