"""Missing values from XGBoost's own predictions to an emulated board, through every door of the server."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import xgboost
from built import rtl_firmware
from requirements import require
from serving import served
from sklearn.datasets import load_breast_cancer

from gatesmith import Client
from gatesmith.devices import open_device
from gatesmith.errors import TensorMismatch
from gatesmith.frontends import read_model
from gatesmith.model.graph import Graph
from gatesmith.quantize import quantize
from gatesmith.quantize.exact_trees import allocate_exact
from gatesmith.quantize.fold import fold
from gatesmith.serve.server import Server

pytest.importorskip("grpc")
KINDS = ["exact", "default"]


def with_holes() -> tuple[np.ndarray, np.ndarray]:
    """Ten features, a fifth of them missing, more often in one class: where NaN goes matters."""
    x, y = load_breast_cancer(return_X_y=True)
    x = x[:, :10].astype(np.float32)
    generator = np.random.default_rng(0)
    x[generator.random(x.shape) < np.where(y, 0.3, 0.1)[:, None]] = np.nan
    return x, y


@pytest.fixture(scope="module")
def estimator() -> xgboost.XGBClassifier:
    x, y = with_holes()
    return xgboost.XGBClassifier(n_estimators=8, max_depth=4).fit(x[::2], y[::2])


@pytest.fixture(scope="module")
def graphs(estimator: xgboost.XGBClassifier) -> dict[str, Graph]:
    x, _ = with_holes()
    graph = read_model(estimator)
    return {"exact": allocate_exact(fold(graph), {"input": x[::2]}), "default": quantize(graph, x[::2])[0]}


@pytest.fixture(scope="module")
def server(graphs: dict[str, Graph]) -> Iterator[Server]:
    for tool in ("verilator", "g++", "pyosys"):
        require(tool)
    models = {
        name: (rtl_firmware(graph, "icebreaker", cutoff=2), open_device(f"emulator:{name}"))
        for name, graph in graphs.items()
    }
    with served(models) as running:
        yield running


@pytest.mark.parametrize("way", ["http", "grpc"])
@pytest.mark.parametrize("name", KINDS)
def test_a_board_says_what_xgboost_says(server: Server, estimator: xgboost.XGBClassifier, name: str, way: str) -> None:
    x, _ = with_holes()
    wanted = estimator.predict(x)
    with Client(server.url if way == "http" else f"grpc://127.0.0.1:{server.grpc_port}") as client:
        given = client.infer(name, {"input": x})["probabilities"].argmax(axis=1)
        assert np.mean(given == wanted) >= (1.0 if name == "exact" else 0.98)
        # zeros in the holes would give other classes
        assert np.sum(wanted != estimator.predict(np.nan_to_num(x))) > 10
        infinite = x.copy()
        infinite[3, 3] = np.inf
        with pytest.raises(TensorMismatch, match="not finite"):
            client.infer(name, {"input": infinite})


@pytest.mark.parametrize("count", [1, 60])
def test_null_is_a_missing_value_in_json(server: Server, estimator: xgboost.XGBClassifier, count: int) -> None:
    x = with_holes()[0][:count]
    rows = [[None if np.isnan(value) else float(value) for value in row] for row in x]
    body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": list(x.shape), "data": rows}]}
    answer = httpx.post(f"{server.url}/v2/models/exact/infer", json=body)
    assert answer.status_code == 200, answer.text
    scores = np.reshape(answer.json()["outputs"][0]["data"], (count, 2))
    assert (scores.argmax(axis=1) == estimator.predict(x)).all()
    instances = httpx.post(f"{server.url}/v1/models/exact:predict", json={"instances": rows})
    assert instances.status_code == 200, instances.text
    literal = f'{{"inputs": [{{"name": "input", "datatype": "FP32", "shape": [1, 10], "data": [{"NaN, " * 9}1]}}]}}'
    refused = httpx.post(f"{server.url}/v2/models/exact/infer", content=literal)
    assert refused.status_code == 400


def test_models_without_missing_values_refuse_them(estimator: xgboost.XGBClassifier) -> None:
    x, _ = with_holes()
    graph, _ = quantize(read_model(estimator), np.nan_to_num(x))
    assert not graph.contract().inputs[0].spec.missing
    with pytest.raises(TensorMismatch, match="not finite"):
        graph.contract().encode({"input": x})
