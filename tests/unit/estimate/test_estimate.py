"""The estimate as a whole: what it says, for which boards, and what a build refuses because of it."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from cores import used
from forests import forest_graph
from models import integer_graph
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline

from gatesmith.boards import all_boards, find_board
from gatesmith.errors import BuildError, DesignDoesNotFit
from gatesmith.estimate import CUTOFFS, estimate, first_cutoff, next_cutoff, refuse_what_cannot_fit
from gatesmith.estimate.families import AVAILABLE, COSTS
from gatesmith.frontends import read_model
from gatesmith.gateware.engines import build_core, plan_logic
from gatesmith.model.graph import Graph
from gatesmith.quantize import quantize

BOARD = find_board("icebreaker")


@pytest.mark.parametrize("board", all_boards().values(), ids=lambda board: board.name)
def test_every_board_has_its_table_and_answers_at_once(board: object) -> None:
    start = time.perf_counter()
    found = estimate(integer_graph("iris"), board)  # type: ignore[arg-type]
    assert time.perf_counter() - start < 5
    assert found.fits
    assert all(0 < use.used < use.available for use in found.utilization.values())
    assert found.fmax_hz > 1e6
    assert set(found.utilization) <= set(AVAILABLE[board.device])  # type: ignore[attr-defined]
    assert found.logic in COSTS[board.family].resources  # type: ignore[attr-defined]


def test_keys_for_scripts() -> None:
    data = json.loads(json.dumps(estimate(integer_graph("iris"), BOARD).to_json()))
    assert {"board", "fits", "utilization", "fmax_hz", "latency_cycles"} <= set(data)
    assert data["utilization"]["ICESTORM_LC"]["available"] == 5280


def projected_trees() -> Graph:
    x, y = load_wine(return_X_y=True)
    model = make_pipeline(PCA(3, random_state=0), RandomForestClassifier(4, max_depth=3, random_state=0))
    return quantize(read_model(model.fit(x, y)), x)[0]


@pytest.mark.parametrize(
    "graph", [integer_graph("iris"), forest_graph(), projected_trees()], ids=["adders", "trees", "projected"]
)
@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_latency_is_the_core_s(graph: object, cutoff: int) -> None:
    found = estimate(graph, BOARD, cutoff=cutoff)  # type: ignore[arg-type]
    core = used(build_core(plan_logic(graph), cutoff=cutoff))  # type: ignore[arg-type]
    assert found.latency_cycles == core.latency_cycles
    assert found.cutoff == cutoff


def test_a_faster_clock_takes_more_stages() -> None:
    slow = estimate(integer_graph("iris"), BOARD, clock_hz=5_000_000)
    fast = estimate(integer_graph("iris"), BOARD, clock_hz=45_000_000)
    assert fast.cutoff < slow.cutoff
    assert fast.latency_cycles > slow.latency_cycles
    assert fast.fmax_hz > slow.fmax_hz


def test_fewer_bits_need_less() -> None:
    eight, four = (estimate(integer_graph("regressor", bits), BOARD) for bits in (8, 4))
    assert four.luts < 0.7 * eight.luts


def test_an_unknown_part_is_neither_full_nor_empty() -> None:
    found = estimate(integer_graph("iris"), replace(BOARD, device="up9k"))
    assert found.fits is None
    assert found.to_json()["utilization"]["ICESTORM_LC"]["available"] is None
    refuse_what_cannot_fit(found)


def test_only_what_surely_does_not_fit_is_refused() -> None:
    found = estimate(integer_graph("iris"), BOARD)
    luts = found.utilization["ICESTORM_LC"]
    near = replace(found, utilization={"ICESTORM_LC": replace(luts, available=round(luts.used * 0.8))})
    refuse_what_cannot_fit(near)
    far = replace(found, utilization={"ICESTORM_LC": replace(luts, available=round(luts.used * 0.7))})
    with pytest.raises(DesignDoesNotFit, match=r"about \d+ ICESTORM_LC, iCE40UP5K-SG48 has \d+; try") as caught:
        refuse_what_cannot_fit(far)
    assert caught.value.facts["used"] == luts.used


@pytest.mark.parametrize(("options", "words"), [({"cutoff": 0}, "cut-off is 0"), ({"clock_hz": 0}, "0 Hz")])
def test_refusals(options: dict[str, int], words: str) -> None:
    with pytest.raises(BuildError, match=words):
        estimate(integer_graph("iris"), BOARD, **options)  # type: ignore[arg-type]


def test_the_search_for_a_cut_off_ends() -> None:
    cutoff: int | None = first_cutoff("ice40", 1e6)
    seen = []
    while cutoff is not None:
        seen.append(cutoff)
        cutoff = next_cutoff(cutoff, fmax_hz=99.0, clock_hz=100.0)
    assert seen == list(CUTOFFS)
    assert next_cutoff(4, fmax_hz=25.0, clock_hz=100.0) == 1
