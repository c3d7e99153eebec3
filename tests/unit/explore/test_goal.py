"""What is measured of a precision, against counts by hand and against many more samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from models import float_graph, trained
from sklearn.datasets import load_diabetes
from sklearn.ensemble import AdaBoostRegressor
from sklearn.tree import DecisionTreeRegressor

from gatesmith.explore.goal import CHANGES, Classes, Numbers, classifying, goal_for
from gatesmith.frontends import read_model
from gatesmith.model import reference
from gatesmith.model.graph import Terminal
from gatesmith.model.nodes import Edge

SCORES = Terminal(edge=Edge(name="y", shape=(3,)))


def scores(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3))


def test_nothing_is_lost_by_the_same_outputs() -> None:
    wanted = scores(50)
    measured = Classes(SCORES, wanted, None).measure({"y": wanted})
    assert (measured.value, measured.loss, measured.upper, measured.expected, measured.error) == (100, 0, 0, 0, 0)
    assert measured.within(0.0)


def test_agreement_is_counted() -> None:
    wanted = np.eye(3)[[0, 1, 2, 0]] * 9
    given = np.eye(3)[[0, 1, 2, 1]] * 9
    measured = Classes(SCORES, wanted, None).measure({"y": given})
    assert (measured.value, measured.loss) == (75, 25)
    assert measured.upper == 25 + 100 * math.sqrt(1) / 4


def test_a_class_that_becomes_right_makes_up_for_one_that_becomes_wrong() -> None:
    wanted = np.eye(3)[[0, 1, 2, 0]] * 9
    given = np.eye(3)[[1, 1, 0, 0]] * 9
    goal = Classes(SCORES, wanted, np.array([0, 1, 0, 0]))
    measured = goal.measure({"y": given})
    assert goal.reference == 75
    assert (measured.value, measured.loss) == (75, 0)
    assert measured.upper == 100 * math.sqrt(2) / 4  # and yet two of four changed


def test_few_samples_are_not_taken_at_their_word() -> None:
    """No class of these changes, but the error is as large as the margins: with more samples some would."""
    wanted = np.array([[1.0, 0.0, -1.0]] * 20)
    given = wanted + np.random.default_rng(1).normal(size=wanted.shape) * 0.2
    measured = Classes(SCORES, wanted, None).measure({"y": given})
    assert measured.loss == 0
    assert not measured.within(0.1)


def test_expected_changes_are_no_fewer_than_those_of_many_samples() -> None:
    wanted, noise = scores(20_000), np.random.default_rng(2).normal(size=(20_000, 3)) * 0.05
    few = Classes(SCORES, wanted[:300], None).measure({"y": (wanted + noise)[:300]})
    many = Classes(SCORES, wanted, None).measure({"y": wanted + noise})
    assert many.loss <= few.expected <= 3 * many.loss


def test_a_softmax_is_undone_for_margins() -> None:
    graph, x = float_graph("iris"), trained("iris").x
    goal = goal_for(graph, reference.infer_real(graph, {"input": x}), None)
    assert isinstance(goal, Classes)
    inner = next(node for node in graph.nodes if node.output.name == graph.outputs[0].edge.name).output.name
    logits = reference.evaluate(graph, {"input": x})[inner]
    differences = logits - logits.max(axis=1, keepdims=True)
    assert np.allclose(-goal.margins, differences, atol=1e-9)


def test_r2_of_targets() -> None:
    targets = np.array([[0.0], [1.0], [2.0], [3.0]])
    wanted = targets + 0.1
    goal = Numbers({"y": wanted}, targets)
    assert goal.reference == pytest.approx(100 * (1 - 0.01 / 1.25))
    measured = goal.measure({"y": targets + 0.2})
    assert measured.loss == pytest.approx(100 * 0.03 / 1.25)
    assert measured.error == pytest.approx(0.01 / 1.25)
    assert measured.changed == pytest.approx(100 * 0.01 / 1.25 / CHANGES)


def test_without_targets_the_float_model_is_the_target() -> None:
    wanted = np.arange(10.0)[:, None]
    goal = Numbers({"y": wanted}, None)
    assert goal.reference == 100
    assert goal.measure({"y": wanted + 1}).loss == pytest.approx(100 / wanted.var())


def test_which_output_tells_the_class() -> None:
    terminal = classifying(float_graph("iris"))
    assert terminal is not None
    assert terminal.edge.name == "probabilities"
    assert classifying(float_graph("diabetes")) is None


def test_numbers_of_which_the_host_makes_one_are_no_classes() -> None:
    data = load_diabetes()
    model = AdaBoostRegressor(DecisionTreeRegressor(max_depth=2), n_estimators=4, random_state=0)
    graph = read_model(model.fit(data.data, data.target))
    assert graph.outputs[0].edge.elements > 1
    assert classifying(graph) is None
