"""The estimate beside real builds, a table in gateware, and a build whose precision was searched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from models import float_graph, integer_graph, trained
from requirements import require_build, require_family

from gatesmith.aim import Aim
from gatesmith.boards import find_board
from gatesmith.errors import BuildError
from gatesmith.estimate import ERROR, estimate
from gatesmith.firmware import Link
from gatesmith.flow import build_firmware
from gatesmith.gateware.engines import build_core, plan_logic
from gatesmith.gateware.top import compose
from gatesmith.toolchain import execute, plan
from gatesmith.tools import cache_path


@pytest.mark.parametrize("name", ["diabetes", "iris-tanh"])
def test_a_build_needs_what_was_predicted(name: str) -> None:
    """A table among them: synthesis once refused one whose output goes straight into a register."""
    board = find_board("ice40-hx8k-b-evn")
    require_family(board.family)
    graph = integer_graph(name, 5)
    found = estimate(graph, board)
    core = build_core(plan_logic(graph), cutoff=found.cutoff)
    link = Link(divisor=4, clock_hz=board.clock_hz)
    design = compose(core, contract=graph.contract(), link=link, build_id="0" * 32)
    report = execute(plan(design, board), cache=cache_path("builds")).report
    for resource, use in found.utilization.items():
        assert use.used == pytest.approx(report.utilization[resource].used, rel=ERROR)
        assert use.available == report.utilization[resource].available
    assert found.latency_cycles == design.latency_cycles


def test_a_build_searches_its_precision(tmp_path: Path) -> None:
    require_build("icebreaker")
    model = trained("diabetes")
    np.savez(tmp_path / "samples.npz", x=model.x, y=model.y)
    built = build_firmware(
        model.estimator,
        "icebreaker",
        calibration=tmp_path / "samples.npz",
        precision=Aim(precision="auto", tolerance=1.0),
        name="auto",
        graph=float_graph("diabetes"),
    )
    firmware = built.firmware
    assert firmware.parameters["precision"] == "auto"
    assert firmware.quantization["search"]["metric"] == "r2"
    assert firmware.quantization["search"]["loss"] <= 1.0
    curve = json.loads(firmware.reports["precision.json"])
    assert curve["chosen"]["luts"] < max(point["luts"] for point in curve["curve"])
    assert firmware.reports["precision.svg"].startswith(b"<svg")
    assert "rtl" in firmware.verified
    assert "search" in built.seconds


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "best"}, "precision 'best' is not possible; it is a number of bits, auto or exact"),
        ({"precision": 8, "tolerance": 1.0}, "tolerance is of precision 'auto' alone, and precision is 8"),
        ({"precision": "exact", "prune": True}, "prune is of precision 'auto' alone"),
        ({"precision": 8, "labels": np.zeros(3)}, "labels is of precision 'auto' alone"),
    ],
)
def test_options_of_a_search_without_one(options: dict[str, object], words: str) -> None:
    with pytest.raises(BuildError, match=words):
        Aim(**options)  # type: ignore[arg-type]
