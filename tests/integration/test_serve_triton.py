"""The protocol's reference client against the server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from firmwares import ArithmeticDevice, expected_payload, tiny_firmware, two_port_firmware
from serving import served

httpclient: Any = pytest.importorskip("tritonclient.http")
utils: Any = pytest.importorskip("tritonclient.utils")
IRIS, TWO = tiny_firmware(), two_port_firmware()


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    models = {"iris:v1": (IRIS, ArithmeticDevice()), "two": (TWO, ArithmeticDevice("arithmetic:1"))}
    with served(models) as server:
        session = httpclient.InferenceServerClient(server.url.removeprefix("http://"))
        yield session
        session.close()


def tensor(name: str, values: np.ndarray[Any, Any], datatype: str) -> Any:
    made = httpclient.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=False)
    return made


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "v1")
    assert not client.is_model_ready("jets")
    assert client.get_server_metadata()["name"] == "gatesmith"
    metadata = client.get_model_metadata("iris", "v1")
    assert metadata["inputs"][0]["shape"] == [-1, 4]


@pytest.mark.parametrize("version", ["", "v1"])
@pytest.mark.parametrize("chosen", [False, True])
def test_inference(client: Any, version: str, chosen: bool) -> None:
    x = np.array([[1, 2.5, -3, 4], [0.1, 0.2, 0.3, 0.4]], np.float32)
    outputs = [httpclient.InferRequestedOutput("y", binary_data=False)] if chosen else None
    answer = client.infer("iris", [tensor("x", x, "FP32")], version, outputs=outputs, request_id="mine")
    want = IRIS.contract.decode(expected_payload(IRIS.contract, IRIS.contract.encode({"x": x})))["y"]
    np.testing.assert_array_equal(answer.as_numpy("y"), want)
    assert answer.get_response()["id"] == "mine"


def test_several_tensors(client: Any) -> None:
    a, b = np.arange(8, dtype=np.float32).reshape(2, 2, 2), np.array([3, -3], np.int8)
    answer = client.infer("two", [tensor("a", a, "FP32"), tensor("b", b, "INT8")])
    want = TWO.contract.decode(expected_payload(TWO.contract, TWO.contract.encode({"a": a, "b": b})))
    for name, values in want.items():
        np.testing.assert_array_equal(answer.as_numpy(name), values)
        assert answer.as_numpy(name).dtype == values.dtype


def test_errors_are_understood(client: Any) -> None:
    bad = tensor("z", np.zeros((1, 4), np.float32), "FP32")
    with pytest.raises(utils.InferenceServerException, match="has no input 'z'") as caught:
        client.infer("iris", [bad])
    assert caught.value.status() == "400"


def test_binary_tensors_are_refused_in_words(client: Any) -> None:
    binary = httpclient.InferInput("x", [1, 4], "FP32")
    binary.set_data_from_numpy(np.zeros((1, 4), np.float32), binary_data=True)
    with pytest.raises(utils.InferenceServerException, match="binary tensors are not read; send tensor data as JSON"):
        client.infer("iris", [binary])
