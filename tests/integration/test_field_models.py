"""Models that others published: quantised ones imported without loss, down to the integers of the gateware's adders.

BondMachine's benchmark holds what its own FPGA answered: those are the numbers that ours are compared with.
"""

from __future__ import annotations

import csv
import gzip
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from qonnx_oracle import answers

from gatesmith.aim import Aim
from gatesmith.boards import find_board
from gatesmith.fixed import Rounding
from gatesmith.frontends import read_model
from gatesmith.gateware.trace import trace
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.model.nodes import Requantize
from gatesmith.quantize import quantize

DATA = Path(__file__).parents[3] / "shared" / "data"
JETS, DIGITS = DATA / "models" / "qkeras_jettagging.onnx", DATA / "models" / "TFC_2W2A.onnx"
BONDMACHINE = DATA / "bondmachine"

pytestmark = pytest.mark.skipif(not JETS.exists(), reason="the models are no part of the project")


def jets() -> tuple[NDArray[Any], NDArray[Any]]:
    found = np.load(DATA / "jets" / "jsc_openml_1000.npz")
    return found["x"], found["y"]


def digits() -> tuple[NDArray[Any], NDArray[Any]]:
    images, labels = (
        np.frombuffer(gzip.decompress((DATA / "mnist" / name).read_bytes()), np.uint8)
        for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
    )
    return (images[16:].reshape(-1, 1, 28, 28) / 255).astype(np.float32), labels[8:]


def accuracy(graph: Graph, x: NDArray[Any], y: NDArray[Any]) -> float:
    (given,), (output,) = graph.inputs, graph.outputs
    return float((reference.infer_real(graph, {given.edge.name: x})[output.edge.name].argmax(axis=1) == y).mean())


def test_jets_are_read_without_loss() -> None:
    x, y = jets()
    graph = read_model(JETS)
    wanted = answers(onnx.load(JETS), {"global_in": x})["global_out"]
    assert np.abs(reference.infer_real(graph, {"global_in": x})["global_out"] - wanted).max() < 1e-6
    assert accuracy(graph, x, y) == pytest.approx(0.774)


def test_jets_are_quantised_without_loss() -> None:
    """On what the input's format can say, every probability is onnxruntime's."""
    x, y = jets()
    integer, _ = quantize(read_model(JETS), x, precision=7)
    format = integer.inputs[0].edge.fixed
    rounded = format.dequantize(format.quantize(x)).astype(np.float32)
    wanted = answers(onnx.load(JETS), {"global_in": rounded})["global_out"]
    given = reference.infer_real(integer, {"global_in": rounded})["global_out"]
    assert np.abs(given - wanted).max() < 1e-6
    assert (given.argmax(axis=1) == wanted.argmax(axis=1)).all()
    assert accuracy(integer, x, y) >= 0.774
    few = format.quantize(x[:50])
    assert (trace(integer).infer(few) == reference.infer(integer, few)).all()


def test_a_lost_rounding_is_seen() -> None:
    x, _ = jets()
    integer, _ = quantize(read_model(JETS), x, precision=7)
    up = (replace(n, rounding=Rounding.HALF_UP) if isinstance(n, Requantize) else n for n in integer.nodes)
    other = replace(integer, nodes=tuple(up))
    integers = integer.inputs[0].edge.fixed.quantize(x)
    assert (reference.infer(other, integers) != reference.infer(integer, integers)).any()


def test_digits_are_read_and_quantised_without_loss() -> None:
    x, y = digits()
    graph = read_model(DIGITS)
    (name,), wanted = (t.edge.name for t in graph.outputs), answers(onnx.load(DIGITS), {"0": x[:2000]})
    given = reference.infer_real(graph, {"0": x[:2000]})[name]
    assert np.abs(given - wanted[name]).max() < 1e-6
    integer, _ = quantize(graph, x[:500])
    assert np.abs(reference.infer_real(integer, {"0": x[:2000]})[name] - given).max() < 1e-12
    assert accuracy(integer, x, y) == pytest.approx(0.9660)


def banknotes() -> tuple[NDArray[Any], NDArray[Any]]:
    """All inputs, and what BondMachine's FPGA answered to the first of them."""
    with (BONDMACHINE / "bm_banknote_inputs.csv").open() as file:
        x = np.array([[float(cell.removeprefix("0f")) for cell in row] for row in csv.reader(file)])
    answers = re.findall(r"[.\d]+(?:e-?\d+)?", (BONDMACHINE / "bm_output.txt").read_text())
    return x, np.array(answers, float).reshape(-1, 2)


def test_banknotes_are_answered_as_by_bondmachine() -> None:
    """The precision is searched, and every probability is within 1e-3 of the FPGA's."""
    x, wanted = banknotes()
    assert (x.shape, wanted.shape) == ((275, 4), (256, 2))
    graph = read_model(BONDMACHINE / "bm_banknote.json")
    assert np.abs(reference.infer_real(graph, {"input": x[:256]})["probabilities"] - wanted).max() < 1e-6
    board = find_board("icebreaker")
    errors = {}
    for bound in (None, 1e-3):
        aim = Aim(precision="auto", max_error=bound)
        integer = aim.quantized(graph, x, board=board, clock_hz=None, progress=lambda _stage, _done: None).graph
        integers = integer.inputs[0].edge.fixed.quantize(x)
        assert (trace(integer).infer(integers) == reference.infer(integer, integers)).all()
        given = reference.infer_real(integer, {"input": x[:256]})["probabilities"]
        errors[bound] = np.abs(given - wanted).max()
    assert (given.argmax(axis=1) == wanted.argmax(axis=1)).all()
    assert errors[1e-3] <= 1e-3 < errors[None]  # without a bound the classes alone are kept
