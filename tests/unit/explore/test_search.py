"""The search: it keeps its tolerance, saves logic, says what it saw, and refuses what makes no sense."""

from __future__ import annotations

import json
from functools import cache
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from forests import forest_graph
from models import float_graph, trained
from networks import mlp, network
from sklearn.datasets import load_diabetes
from sklearn.ensemble import AdaBoostRegressor, RandomForestClassifier
from sklearn.metrics import r2_score
from sklearn.tree import DecisionTreeRegressor

from gatesmith.boards import find_board
from gatesmith.errors import AccuracyLost, BuildError, CalibrationNeeded, UnsupportedOperation
from gatesmith.estimate import estimate
from gatesmith.explore import Search, frontier, labels_of, search_precision
from gatesmith.explore.goal import Measured
from gatesmith.explore.knobs import Knob, Setting, settings_of
from gatesmith.explore.labels import check_labels
from gatesmith.explore.searcher import Searcher
from gatesmith.frontends import read_model
from gatesmith.model import reference
from gatesmith.model.nodes import Dense, LookupTable
from gatesmith.quantize import fold, quantize

BOARD = find_board("icebreaker")


@cache
def searched(name: str, **options: Any) -> Search:
    model = trained(name)
    return search_precision(float_graph(name), model.x, labels=model.y, board=BOARD, **options)


def accuracy(graph: Any, name: str) -> float:
    outputs = reference.infer_real(graph, {"input": trained(name).x})["probabilities"]
    return 100 * float(np.mean(outputs.argmax(axis=1) == trained(name).y))


@pytest.mark.parametrize("name", ["iris", "iris-tanh", "cancer"])
def test_the_loss_is_tolerable_and_logic_is_saved(name: str) -> None:
    found = searched(name)
    lost = accuracy(float_graph(name), name) - accuracy(found.graph, name)
    assert lost <= 0.5
    assert found.chosen.loss == pytest.approx(lost)
    eight = estimate(quantize(float_graph(name), trained(name).x)[0], BOARD).luts
    assert found.chosen.luts == estimate(found.graph, BOARD).luts < eight


def test_a_regression_keeps_its_r2() -> None:
    found, model = searched("regressor"), trained("regressor")
    given = reference.infer_real(found.graph, {"input": model.x})["predictions"][:, 0]
    r2 = 100 * (1 - np.mean((given - model.y) ** 2) / model.y.var())
    assert found.metric == "r2"
    assert found.chosen.metric == pytest.approx(r2)
    assert r2 >= found.limit


def test_formats_are_those_that_the_precision_says() -> None:
    found = searched("regressor")
    for node in found.graph.nodes:
        if isinstance(node, Dense):
            bits = found.precision.weights[node.name]
            assert max(bits if isinstance(bits, tuple) else (bits,)) <= 8
            source = found.graph.edges[node.inputs[0]].fixed.width
            assert source <= max(found.precision.activations.values())


def test_tables_are_made_smaller_too() -> None:
    found = searched("iris-tanh")
    table = next(node for node in found.graph.nodes if isinstance(node, LookupTable))
    assert table.table is not None
    assert len(table.table) < 256


def test_a_higher_tolerance_is_not_dearer() -> None:
    assert searched("iris-tanh", tolerance=5.0).chosen.luts <= searched("iris-tanh").chosen.luts


@pytest.mark.parametrize("name", ["iris", "regressor"])
def test_no_output_is_further_off_than_it_may_be(name: str) -> None:
    loose, close = searched(name), searched(name, max_error=0.002)
    (key,), x = (t.edge.name for t in float_graph(name).outputs), {"input": trained(name).x}
    wanted = reference.infer_real(float_graph(name), x)[key]
    far, near = (np.abs(reference.infer_real(each.graph, x)[key] - wanted).max() for each in (loose, close))
    assert near <= 0.002 < far
    assert close.chosen.luts > loose.chosen.luts
    assert close.facts()["search"]["max_error"] == close.to_json()["max_error"] == 0.002
    assert "max_error" not in loose.to_json()


def test_the_same_search_gives_the_same_bytes() -> None:
    again = search_precision(float_graph("iris"), trained("iris").x, labels=trained("iris").y, board=BOARD)
    assert again.graph.digest == searched("iris").graph.digest
    assert again.files("iris") == searched("iris").files("iris")


def test_a_prune_knob_sets_the_smallest_weights_to_zero() -> None:
    graph = fold(float_graph("iris"))
    setting: Setting | None = settings_of(graph, 8, with_prune=True)
    for _ in range(4):
        assert setting is not None
        setting = setting.turned(Knob(kind="prune", name="layer0"))
    assert setting is not None
    assert setting.pruned == {"layer0": pytest.approx(0.4)}
    share = {n.name: float(np.mean(n.weight == 0)) for n in setting.applied(graph).nodes if isinstance(n, Dense)}
    assert share["layer0"] == pytest.approx(0.4, abs=0.1)
    assert share["layer1"] == 0


def test_a_search_that_may_prune_keeps_its_tolerance() -> None:
    found = searched("iris-tanh", prune=True, tolerance=2.0)
    assert accuracy(float_graph("iris-tanh"), "iris-tanh") - accuracy(found.graph, "iris-tanh") <= 2.0


def test_without_labels_the_float_model_is_followed() -> None:
    found = search_precision(float_graph("iris"), trained("iris").x, board=BOARD)
    assert found.metric == "agreement"
    assert found.reference == 100
    assert found.chosen.metric >= 99.5


@pytest.mark.parametrize(
    ("name", "tolerance"), [("two inputs", 2.0), ("residual", 5.0), ("tables", 20.0), ("clip", 2.0), ("images", 2.0)]
)
def test_every_kind_of_network_is_searched(name: str, tolerance: float) -> None:
    graph, data = network(name)
    found = search_precision(graph, data, board=BOARD, tolerance=tolerance, budget_s=4)
    wanted, given = reference.infer_real(graph, data)["y"], reference.infer_real(found.graph, data)["y"]
    assert 100 * np.mean(wanted.argmax(axis=1) != given.argmax(axis=1)) <= tolerance


def test_trees_get_one_number_of_bits() -> None:
    model = trained("iris")
    estimator = RandomForestClassifier(n_estimators=6, max_depth=4, random_state=0).fit(model.x, model.y)
    graph = read_model(estimator, name="forest")
    found = search_precision(graph, model.x, labels=model.y, board=BOARD)
    assert found.precision.weights == {}
    assert found.chosen.kind == "uniform"
    assert found.chosen.luts == min(point.luts for point in found.curve if point.tolerable)


def test_the_curve_is_told_as_data_and_drawn() -> None:
    found = searched("iris")
    files = found.files("iris")
    data = json.loads(files["precision.json"])
    assert len([point for point in data["curve"] if point["chosen"]]) == 1
    assert {point["kind"] for point in data["curve"]} == {"search", "uniform"}
    assert set(data["precision"]) == {"weights", "activations", "default", "bias_correction", "pruned"}
    picture = ElementTree.fromstring(files["precision.svg"])
    circles = [each for each in picture if each.tag.endswith("circle")]
    assert len(circles) >= 3
    width, height = (float(v) for v in picture.attrib["viewBox"].split()[2:])
    assert all(0 <= float(c.attrib["cx"]) <= width and 0 <= float(c.attrib["cy"]) <= height for c in circles)


def test_nothing_on_the_frontier_is_beaten() -> None:
    points = searched("iris").curve
    best = frontier(points)
    assert best
    for point in best:
        assert not any(p.luts < point.luts and p.metric > point.metric for p in points)


def test_a_search_that_judges_wrongly_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: every loss is tolerable. What the other tests prove then no longer holds."""
    monkeypatch.setattr(Measured, "within", lambda _self, _tolerance: True)
    model = trained("iris")
    found = search_precision(float_graph("iris"), model.x, labels=model.y, board=BOARD)
    assert accuracy(float_graph("iris"), "iris") - accuracy(found.graph, "iris") > 0.5


class Clock:
    """Stands in for the module time: it goes on by a little when it is read, and by ``plan_s`` with each plan."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, plan_s: float) -> None:
        self.now, self.plan_s, self.plans = 0.0, plan_s, 0
        for module in ("search", "searcher"):
            monkeypatch.setattr(f"gatesmith.explore.{module}.time", self)
        monkeypatch.setattr("gatesmith.explore.searcher.estimate", self.estimate)

    def monotonic(self) -> float:
        self.now += 0.001
        return self.now

    def estimate(self, *args: Any, **named: Any) -> Any:
        self.now, self.plans = self.now + self.plan_s, self.plans + 1
        return estimate(*args, **named)


def in_three_seconds(told: list[float]) -> Search:
    x = np.random.default_rng(0).normal(size=(300, 16))
    graph, board = mlp(16, 24, 12, 5, seed=1), find_board("ulx3s-85f")
    return search_precision(
        graph, x, board=board, budget_s=3.0, tolerance=5.0, progress=lambda _s, done: told.append(done)
    )


@pytest.mark.parametrize(("plan_s", "plans"), [(0.05, 7), (0.4, 2), (1.6, 1), (2.9, 1)])
def test_time_is_kept(plan_s: float, plans: int, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    clock = Clock(monkeypatch, plan_s)
    found = in_three_seconds(told)
    assert found.seconds <= 3.0
    assert clock.plans >= plans
    assert told == sorted(told)
    assert 0 < told[0] <= told[-1] < 1


def test_a_search_that_does_not_look_at_the_clock_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, 1.6)
    monkeypatch.setattr("gatesmith.explore.searcher.planning_effort", lambda _graph: 0.0)
    assert in_three_seconds([]).seconds > 3.0


def test_a_plan_that_takes_too_long_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 0.1)
    monkeypatch.setattr("gatesmith.explore.searcher.planning_effort", lambda _graph: 1e9)
    with pytest.raises(
        BuildError, match=r"one plan of .* takes about \d+ s, .* has 3 s for several; give bits"
    ) as caught:
        in_three_seconds([])
    assert clock.plans == 0
    needed = caught.value.facts["plan_s"]
    assert isinstance(needed, float)
    assert needed > 3


@pytest.mark.parametrize("tolerance", [-0.1, 51.0, float("nan")])
def test_a_tolerance_out_of_range(tolerance: float) -> None:
    with pytest.raises(AccuracyLost, match=r"tolerance is .* points, 0 to 50 are possible"):
        search_precision(float_graph("iris"), trained("iris").x, tolerance=tolerance)


@pytest.mark.parametrize("error", [0.0, -1.0, float("inf"), float("nan")])
def test_a_max_error_out_of_range(error: float) -> None:
    with pytest.raises(AccuracyLost, match=r"max error is .*, a positive number is needed"):
        search_precision(float_graph("iris"), trained("iris").x, max_error=error)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros(3), "3 labels for 150 samples"),
        (np.full(150, 3), "label 3 is no class of the model; classes are numbers from 0 to 2"),
        (np.full(150, 1e30), r"label 1e\+30 is no class of the model"),
        (np.full(150, -1), "label -1 is no class of the model"),
        (np.full(150, "7"), "label 7 is no class of the model"),
        (np.array(["0"] * 149 + ["x"]), "label 'x' is no class"),
        (np.full(150, 0.5), "label '0.5' is no class"),
        (np.full(150, "setosa"), "label 'setosa' is no class"),
        (np.zeros((150, 2)), r"shape \[150, 2\], one class for each"),
        (np.array(1), "0 labels for 150"),
    ],
)
def test_labels_that_are_none(labels: np.ndarray, words: str) -> None:
    with pytest.raises(CalibrationNeeded, match=words):
        search_precision(float_graph("iris"), trained("iris").x, labels=labels)


@pytest.mark.parametrize("kind", [str, object, np.float32, np.uint8])
def test_numbers_of_classes_of_any_kind(kind: Any) -> None:
    graph, labels = float_graph("iris"), trained("iris").y
    found = check_labels(graph, labels.astype(kind), samples=150, kept=150)
    assert found is not None
    assert found.dtype == np.int64
    assert (found == labels).all()


def test_labels_are_those_of_the_samples() -> None:
    """A file with a training and a test part, as many samples in each, and other things beside them."""
    graph, x, y = float_graph("iris"), trained("iris").x, trained("iris").y
    train, test = {"x_train": x[::2], "y_train": y[::2]}, {"x_test": x[1::2], "y_test": y[1::2]}
    for file in (train | test, test | train, test | {"y_train": y[::2]}):
        assert labels_of(graph, None, file) is test["y_test"]
    assert labels_of(graph, None, train | {"y_test": y[1::2]}) is train["y_train"]
    assert labels_of(graph, None, train | {"y": y}) is train["y_train"]
    assert labels_of(graph, None, {"x": x, "y_train": y}) is y
    assert labels_of(graph, None, {"x_train": x, "y_test": y}) is None
    assert labels_of(graph, None, {"labels": x}) is None
    beside = test | {"x_train": np.zeros((999, 4)), "names": np.array(["a", "b", "c"])}
    assert search_precision(graph, beside, labels=y[1::2], board=BOARD, tolerance=50).metric == "accuracy"


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.full(442, "a"), "targets are numbers"),
        (np.zeros((442, 2)), "2 numbers for each sample, the model gives 1"),
        (np.full(442, np.inf), "not finite, the first in row 0"),
    ],
)
def test_targets_that_are_none(labels: np.ndarray, words: str) -> None:
    with pytest.raises(CalibrationNeeded, match=words):
        search_precision(float_graph("diabetes"), trained("diabetes").x, labels=labels)


def test_further_refusals() -> None:
    with pytest.raises(CalibrationNeeded, match="no calibration data"):
        search_precision(float_graph("iris"), None)
    with pytest.raises(UnsupportedOperation, match="formats already"):
        search_precision(forest_graph(), np.zeros((5, 3)))


def test_a_max_error_that_nothing_meets() -> None:
    with pytest.raises(
        AccuracyLost, match=r"16 bits everywhere miss .* outputs by .*, and 1e-09 .* higher --max-error"
    ):
        search_precision(float_graph("iris"), trained("iris").x, max_error=1e-9)


def test_a_tolerance_that_nothing_meets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Searcher, "_tolerable", lambda _self, _trial: False)
    with pytest.raises(AccuracyLost, match=r"16 bits everywhere lose .* 0.5 may be lost; use a higher --tolerance"):
        search_precision(float_graph("iris"), trained("iris").x)


def test_targets_of_what_the_host_makes_one_number_of() -> None:
    data = load_diabetes()
    model = AdaBoostRegressor(DecisionTreeRegressor(max_depth=2), n_estimators=4, random_state=0)
    graph = read_model(model.fit(data.data, data.target))
    found = search_precision(graph, data.data, labels=data.target, board=BOARD)
    given = reference.infer_real(found.graph, {"input": data.data})["predictions"]
    assert given.shape == (len(data.data), 1)
    assert r2_score(data.target, given) >= model.score(data.data, data.target) - 0.005
