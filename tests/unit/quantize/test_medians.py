"""Trees of which the host takes the weighted median; scikit-learn's own prediction is the witness."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.ensemble import AdaBoostRegressor

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.errors import ModelError
from gatesmith.frontends import read_model
from gatesmith.gateware.engines import plan_logic
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.model.vectors import corner_vectors, random_vectors
from gatesmith.quantize import quantize


@pytest.fixture(scope="module", params=["linear", "square", "exponential"])
def boosted(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    x, y = load_diabetes(return_X_y=True)
    x = x.astype(np.float32)
    return AdaBoostRegressor(n_estimators=12, loss=request.param, random_state=0).fit(x[::2], y[::2]), x


def test_the_float_graph_is_the_library(boosted: tuple[Any, Any]) -> None:
    model, x = boosted
    graph = read_model(model)
    assert (reference.infer_real(graph, {"input": x})["predictions"].ravel() == model.predict(x)).all()
    assert Graph.from_bytes(graph.to_bytes()).digest == graph.digest
    # the mean, or other weights, would be something else
    (terminal,) = graph.outputs
    even = HostOperation(kind=HostOperationKind.MEDIAN, weights=(1.0,) * terminal.edge.elements)
    planted = replace(graph, outputs=(replace(terminal, host=(even,)),))
    assert (reference.infer_real(planted, {"input": x})["predictions"].ravel() != model.predict(x)).any()


@pytest.mark.parametrize(("precision", "error"), [(8, 1 / 64), ("exact", 1e-6)])
def test_numbers_are_kept(boosted: tuple[Any, Any], precision: Any, error: float) -> None:
    model, x = boosted
    graph, report = quantize(read_model(model), x[::2], precision=precision)
    wanted = model.predict(x)
    given = reference.infer_real(graph, {"input": x})["predictions"].ravel()
    assert np.sqrt(np.mean((given - wanted) ** 2)) <= error * np.std(wanted)
    assert report.agreement is None
    contract = graph.contract()
    assert contract.outputs[0].spec.shape == (-1, 1)
    assert contract.output_bits == 12 * graph.outputs[0].edge.fixed.width
    # the plan's integers, over the wire's bytes, are the reference's number
    integers = np.concatenate([corner_vectors(graph), random_vectors(graph, 300)])
    found = plan_logic(graph).infer(integers)
    assert (found == reference.infer(graph, integers)).all()


def test_a_median_elsewhere_is_refused(boosted: tuple[Any, Any]) -> None:
    graph = read_model(boosted[0])
    median = HostOperation(kind=HostOperationKind.MEDIAN, weights=(1.0,) * 3)
    with pytest.raises(ModelError, match=r"median of edge 'predictions' has 3 weights, the edge has the shape \[12\]"):
        replace(graph, outputs=(replace(graph.outputs[0], host=(median,)),))
    ten = replace(median, weights=(1.0,) * 10)
    with pytest.raises(ModelError, match="input 'input' has an operation of the host that is for outputs"):
        replace(graph, inputs=(replace(graph.inputs[0], host=(ten,)),))
