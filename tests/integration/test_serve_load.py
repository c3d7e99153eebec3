"""Many clients at once, and requests that nobody thought of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from firmwares import ArithmeticDevice, expected_payload, tiny_firmware, two_port_firmware
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import served

from gatesmith.serve.server import Server

IRIS = tiny_firmware()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    models = {"iris:v1": (IRIS, ArithmeticDevice()), "two": (two_port_firmware(), ArithmeticDevice("arithmetic:1"))}
    with served(models) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as session:
        yield session


def test_everyone_gets_his_own_answer(server: Server) -> None:
    random = np.random.default_rng(1)
    inputs = [random.integers(-20, 20, (int(n), 4)).astype(np.float32) for n in random.integers(1, 6, 400)]

    async def ask(session: httpx.AsyncClient, x: np.ndarray[Any, Any]) -> list[float]:
        tensor = {"name": "x", "datatype": "FP32", "shape": list(x.shape), "data": x.reshape(-1).tolist()}
        answer = await session.post("/v2/models/iris/infer", json={"inputs": [tensor]})
        data: list[float] = answer.json()["outputs"][0]["data"]
        return data

    async def main() -> list[list[float]]:
        limits = httpx.Limits(max_connections=32)
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=60) as session:
            return await asyncio.gather(*(ask(session, x) for x in inputs))

    contract = IRIS.contract
    for x, answer in zip(inputs, asyncio.run(main()), strict=True):
        assert (
            answer == contract.decode(expected_payload(contract, contract.encode({"x": x})))["y"].reshape(-1).tolist()
        )


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
NAMES = st.sampled_from(["x", "a", "b", "y", "sum", "count"])
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": NAMES | JSON,
        "datatype": st.sampled_from(["FP32", "INT8"]) | JSON,
        "shape": st.sampled_from([[1, 4], [1, 2, 2], [1], [0, 4]]) | st.lists(st.integers()) | JSON,
        "data": st.lists(st.floats(-9, 9) | st.integers(-9, 9), min_size=4, max_size=4) | JSON,
        "parameters": JSON,
    },
)
REQUESTS = JSON | st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.lists(TENSORS, max_size=3) | JSON,
        "outputs": st.lists(st.fixed_dictionaries({"name": NAMES}), max_size=3) | JSON,
        "instances": st.lists(JSON, max_size=3) | JSON,
        "id": JSON,
        "parameters": JSON,
    },
)
PATHS = st.sampled_from(
    ["/v2/models/iris/infer", "/v2/models/two/infer", "/v1/models/iris:predict", "/v1/models/two:predict"]
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=PATHS, body=REQUESTS)
def test_any_json_is_answered_or_refused(client: httpx.Client, path: str, body: Any) -> None:
    answer = client.post(path, content=json.dumps(body))
    assert answer.status_code in {200, 400}, answer.text
    assert ("error" in answer.json()) == (answer.status_code == 400)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=PATHS, body=st.binary(max_size=200))
def test_any_bytes_are_refused(client: httpx.Client, path: str, body: bytes) -> None:
    assert client.post(path, content=body).status_code == 400
