"""Trees behind what computes: scikit-learn's own predictions are the witness, the engine's plan the other one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    AdaBoostRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from gatesmith.errors import AccuracyLost, UnsupportedOperation
from gatesmith.frontends import read_model
from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.gateware.engines import plan_logic
from gatesmith.gateware.forest import Forest, parted
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.model.nodes import Dense
from gatesmith.model.vectors import corner_vectors, random_vectors
from gatesmith.quantize import quantize

DATA = {"wine": load_wine, "cancer": load_breast_cancer, "digits": load_digits}
MODELS = {
    "components": make_pipeline(PCA(6), RandomForestClassifier(8, max_depth=5, random_state=0)),
    "scaled": make_pipeline(StandardScaler(), PCA(5, whiten=True), DecisionTreeClassifier(random_state=0)),
    "truncated": make_pipeline(
        TruncatedSVD(4, random_state=0), HistGradientBoostingClassifier(max_iter=5, max_depth=3)
    ),
}


def vectors(graph: Graph) -> np.ndarray:
    return np.concatenate([corner_vectors(graph), random_vectors(graph, 500)])


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", MODELS)
def test_classes_are_kept_and_the_plan_is_exact(name: str, data: str) -> None:
    x, y = DATA[data](return_X_y=True)
    x = x.astype(np.float32)
    model: Any = MODELS[name].fit(x[::2], y[::2])
    graph, report = quantize(read_model(model), x[::2])
    assert report.agreement is not None
    # a hundredth of some hundred samples, and two more: the last bits of a projection are the machine's
    samples, given = len(x[::2]), reference.infer_real(graph, {"input": x[1::2]})["probabilities"].argmax(axis=1)
    assert samples * (1 - report.agreement) <= 0.01 * samples + 2
    assert np.mean(given == model.predict(x[1::2])) >= 0.98
    integers = vectors(graph)
    plan = plan_logic(graph)
    assert isinstance(plan, Forest)
    assert plan.front is not None
    assert (plan.infer(integers) == reference.infer(graph, integers)).all()


def test_a_wrong_weight_changes_decisions() -> None:
    x, y = load_wine(return_X_y=True)
    graph, _ = quantize(read_model(MODELS["components"].fit(x, y)), x)
    dense = next(node for node in graph.nodes if isinstance(node, Dense))
    planted = replace(dense, weight=dense.weight * np.where(np.arange(dense.weight.shape[1]) == 0, 0.0, 1.0))
    other = replace(graph, nodes=tuple(planted if node is dense else node for node in graph.nodes))
    assert (reference.infer(other, vectors(graph)) != plan_logic(graph).infer(vectors(graph))).any()


@pytest.mark.parametrize(
    "regressor",
    [
        GradientBoostingRegressor(n_estimators=10, random_state=0),
        *(AdaBoostRegressor(n_estimators=10, random_state=seed) for seed in range(4)),
    ],
)
def test_numbers_are_kept(regressor: Any) -> None:
    x, y = load_diabetes(return_X_y=True)
    x = x.astype(np.float32)
    model = make_pipeline(PCA(4), regressor).fit(x, y)
    graph, _ = quantize(read_model(model), x)
    given, wanted = reference.infer_real(graph, {"input": x})["predictions"].ravel(), model.predict(x)
    # where a tree decides otherwise the number is another one, however far: the others are as near as leaves can be
    away = np.abs(given - wanted)
    assert np.mean(away <= np.std(wanted) / 64) >= 0.98
    assert np.median(away) <= np.std(wanted) / 256


def tree_behind(builder: GraphBuilder, edge: Any, x: Any, y: Any) -> Any:
    tree = read_model(DecisionTreeClassifier(random_state=0).fit(x, y)).nodes[0]
    return builder.append(replace(tree, inputs=(edge.name,), output=builder.edge("trees", (3,))))


def test_anything_may_compute_before_trees() -> None:
    x, y = load_iris(return_X_y=True)
    builder = GraphBuilder("mixed")
    hidden = builder.relu("relu", builder.dense("dense", builder.input("input", (4,)), np.eye(4) - 0.1))
    seen = np.maximum(x @ (np.eye(4) - 0.1), 0)
    builder.output(tree_behind(builder, hidden, seen, y), "probabilities")
    graph, report = quantize(builder.graph(), x)
    assert report.agreement is not None
    assert report.agreement >= 0.98  # one of 150 here, two more may
    assert (plan_logic(graph).infer(vectors(graph)) == reference.infer(graph, vectors(graph))).all()


def test_an_input_that_nothing_reads_changes_nothing() -> None:
    x, y = load_iris(return_X_y=True)
    graphs = []
    for unread in (False, True):
        builder = GraphBuilder("mixed")
        inner = builder.dense("dense", builder.input("input", (4,)), np.eye(4) - 0.1)
        if unread:
            builder.input("unread", (2,))
        builder.output(tree_behind(builder, inner, x @ (np.eye(4) - 0.1), y), "probabilities")
        graphs.append(quantize(builder.graph(), {"input": x, "unread": x[:, :2]})[0])
    first, second = (reference.infer_real(graph, {"input": x, "unread": x[:, :2]}) for graph in graphs)
    assert (first["probabilities"].argmax(axis=1) == second["probabilities"].argmax(axis=1)).mean() >= 0.98


def test_what_is_beside_the_trees_is_refused() -> None:
    x, y = load_iris(return_X_y=True)
    builder = GraphBuilder("mixed")
    hidden = builder.dense("dense", builder.input("input", (4,)), np.eye(4)[:, :3] - 0.1)
    trees = tree_behind(builder, hidden, x[:, :3], y)
    both = builder.add("both", hidden, trees)
    builder.output(both, "scores")
    with pytest.raises(UnsupportedOperation, match=r"what is before it are both read by node 'both' \(Add\)"):
        quantize(builder.graph(), x)


def test_an_output_before_the_trees_is_refused() -> None:
    x, y = load_iris(return_X_y=True)
    builder = GraphBuilder("early")
    hidden = builder.dense("dense", builder.input("input", (4,)), np.eye(4)[:, :3] - 0.1)
    trees = tree_behind(builder, hidden, x[:, :3], y)
    builder.output(trees, "scores")
    builder.output(hidden, "hidden")
    with pytest.raises(
        UnsupportedOperation, match="is not needed for output 'hidden'; trees are possible before every"
    ):
        quantize(builder.graph(), x)


def test_exact_is_for_trees_at_the_input() -> None:
    x, y = load_iris(return_X_y=True)
    graph = read_model(make_pipeline(PCA(2), DecisionTreeClassifier()).fit(x, y))
    with pytest.raises(
        UnsupportedOperation,
        match=r"\(Dense\) computes before the trees, precision exact has trees at the input alone, behind a scaler at",
    ):
        quantize(graph, x, precision="exact")


def test_missing_values_do_not_pass_a_projection() -> None:
    x, y = load_iris(return_X_y=True)
    graph = read_model(make_pipeline(PCA(2), DecisionTreeClassifier()).fit(x, y))
    x[3, 1] = np.nan
    with pytest.raises(AccuracyLost, match=r"hold 1 missing values and node .* \(Dense\) computes with them"):
        quantize(graph, x)


def test_a_graph_of_trees_alone_is_not_parted() -> None:
    x, y = load_iris(return_X_y=True)
    graph, _ = quantize(read_model(DecisionTreeClassifier().fit(x, y)), x)
    assert parted(graph) == (None, graph)
