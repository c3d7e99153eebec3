"""The protocol's reference client: every call of its HTTP side, and a clean refusal of what this server has not."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from firmwares import ArithmeticDevice, expected_payload, port, tiny_firmware, two_port_firmware
from serving import served

from gatesmith.contract import Contract

httpclient: Any = pytest.importorskip("tritonclient.http")
shm: Any = pytest.importorskip("tritonclient.utils.shared_memory")
utils: Any = pytest.importorskip("tritonclient.utils")

LABELLED = replace(port("y", 3), labels=("setosa", "versicolor", "virginica"))
IRIS = tiny_firmware(contract=Contract(inputs=(port("x", 4),), outputs=(LABELLED,)))
TWO = two_port_firmware()
X = np.array([[1, 2.5, -3, 4], [0.125, 0.25, 0.5, 0.75]], np.float32)

# Calls that no server without these features can answer, and why this one has none of them.
NOT_HERE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "get_trace_settings": (lambda c: c.get_trace_settings(), "traces are set up with the server, over OpenTelemetry"),
    "update_trace_settings": (lambda c: c.update_trace_settings(settings={}), "the same"),
    "get_log_settings": (lambda c: c.get_log_settings(), "logs are set up with the server"),
    "update_log_settings": (lambda c: c.update_log_settings({"log_info": True}), "the same"),
    "get_cuda_shared_memory_status": (lambda c: c.get_cuda_shared_memory_status(), "no GPU takes part"),
    "register_cuda_shared_memory": (lambda c: c.register_cuda_shared_memory("r", b"handle", 0, 16), "the same"),
    "unregister_cuda_shared_memory": (lambda c: c.unregister_cuda_shared_memory("r"), "the same"),
}
HERE = {
    "async_infer", "close", "generate_request_body", "get_inference_statistics", "get_model_config",
    "get_model_metadata", "get_model_repository_index", "get_server_metadata", "get_system_shared_memory_status",
    "infer", "is_model_ready", "is_server_live", "is_server_ready", "load_model", "parse_response_body", "plugin",
    "register_plugin", "register_system_shared_memory", "unload_model", "unregister_plugin",
    "unregister_system_shared_memory",
}  # fmt: skip


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    models = {"iris:v1": (IRIS, ArithmeticDevice()), "two": (TWO, ArithmeticDevice("arithmetic:1"))}
    with served(models) as server:
        session = httpclient.InferenceServerClient(server.url.removeprefix("http://"), concurrency=4)
        yield session
        session.close()


def tensor(name: str, values: np.ndarray[Any, Any], datatype: str = "FP32", *, binary: bool = True) -> Any:
    made = httpclient.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def wanted(name: str = "y", **more: Any) -> Any:
    return httpclient.InferRequestedOutput(name, **more)


def expected(x: np.ndarray[Any, Any] = X) -> np.ndarray[Any, Any]:
    contract = IRIS.contract
    return contract.decode(expected_payload(contract, contract.encode({"x": x})))["y"]


def test_every_call_of_the_client_is_accounted_for() -> None:
    calls = {name for name, _ in inspect.getmembers(httpclient.InferenceServerClient, inspect.isfunction)}
    assert {name for name in calls if not name.startswith("_")} == HERE | set(NOT_HERE)


@pytest.mark.parametrize("name", sorted(NOT_HERE))
def test_what_is_not_here_is_refused_cleanly(client: Any, name: str) -> None:
    call, _why = NOT_HERE[name]
    with pytest.raises(utils.InferenceServerException, match="no such path") as caught:
        call(client)
    assert caught.value.status() == "404"


def test_sequences_are_refused_cleanly(client: Any) -> None:
    with pytest.raises(utils.InferenceServerException, match="sequences are not kept") as caught:
        client.infer("iris", [tensor("x", X)], sequence_id=7, sequence_start=True)
    assert caught.value.status() == "400"


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "v1")
    assert not client.is_model_ready("jets")
    assert not client.is_model_ready("iris", "v9")
    metadata = client.get_server_metadata()
    assert metadata["name"] == "gatesmith"
    assert {"binary_tensor_data", "model_repository", "statistics"} <= set(metadata["extensions"])
    model = client.get_model_metadata("iris", "v1")
    assert model == client.get_model_metadata("iris")
    assert model["inputs"][0]["shape"] == [-1, 4]


@pytest.mark.parametrize("version", ["", "v1", "digest"])
@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [None, False, True])
def test_inference_in_every_form(client: Any, version: str, binary_in: bool, binary_out: bool | None) -> None:
    version = client.get_model_metadata("iris")["versions"][0] if version == "digest" else version
    outputs = None if binary_out is None else [wanted(binary_data=binary_out)]
    answer = client.infer("iris", [tensor("x", X, binary=binary_in)], version, outputs=outputs, request_id="mine")
    np.testing.assert_array_equal(answer.as_numpy("y"), expected())
    response = answer.get_response()
    assert response["id"] == "mine"
    assert ("data" in response["outputs"][0]) == (binary_out is False)


@pytest.mark.parametrize("request_algorithm", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_algorithm", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [False, True])
def test_compression_both_ways(
    client: Any, request_algorithm: str | None, response_algorithm: str | None, binary: bool
) -> None:
    x = np.arange(4000, dtype=np.float32).reshape(1000, 4) / 64
    answer = client.infer(
        "iris",
        [tensor("x", x, binary=binary)],
        outputs=[wanted(binary_data=binary)],
        request_compression_algorithm=request_algorithm,
        response_compression_algorithm=response_algorithm,
    )
    np.testing.assert_array_equal(answer.as_numpy("y"), expected(x))


def test_several_tensors_and_mixed_forms(client: Any) -> None:
    a, b = np.arange(8, dtype=np.float32).reshape(2, 2, 2), np.array([3, -3], np.int8)
    want = TWO.contract.decode(expected_payload(TWO.contract, TWO.contract.encode({"a": a, "b": b})))
    for binary_a, binary_b in ((True, True), (True, False), (False, True)):
        inputs = [tensor("a", a, binary=binary_a), tensor("b", b, "INT8", binary=binary_b)]
        outputs = [wanted("count", binary_data=binary_a), wanted("sum", binary_data=binary_b)]
        answer = client.infer("two", inputs, outputs=outputs)
        for name, values in want.items():
            np.testing.assert_array_equal(answer.as_numpy(name), values)
            assert answer.as_numpy(name).dtype == values.dtype


def test_priority_timeout_and_other_parameters(client: Any) -> None:
    answer = client.infer("iris", [tensor("x", X)], priority=1, timeout=5_000_000, parameters={"mine": "yes"})
    np.testing.assert_array_equal(answer.as_numpy("y"), expected())


def test_many_at_once(client: Any) -> None:
    batches = [X * k for k in range(1, 20)]
    waiting = [client.async_infer("iris", [tensor("x", x)], request_id=str(i)) for i, x in enumerate(batches)]
    for i, (x, request) in enumerate(zip(batches, waiting, strict=True)):
        answer = request.get_result(timeout=30)
        np.testing.assert_array_equal(answer.as_numpy("y"), expected(x))
        assert answer.get_response()["id"] == str(i)


def test_an_empty_batch(client: Any) -> None:
    answer = client.infer("iris", [tensor("x", X[:0])])
    assert answer.as_numpy("y").shape == (0, 3)


@pytest.mark.parametrize("binary", [False, True])
def test_classification(client: Any, binary: bool) -> None:
    answer = client.infer("iris", [tensor("x", X)], outputs=[wanted(class_count=2, binary_data=binary)])
    found = answer.as_numpy("y")
    assert found.shape == (2, 2)
    for row, scores in zip(found, expected(), strict=True):
        texts = [text.decode() if isinstance(text, bytes) else text for text in row]
        order = np.argsort(-scores, kind="stable")[:2]
        assert [text.split(":")[1:] for text in texts] == [[str(i), LABELLED.labels[i]] for i in order]
        assert [float(text.split(":")[0]) for text in texts] == [float(scores[i]) for i in order]


def test_shared_memory(client: Any) -> None:
    size = X.nbytes
    region = shm.create_shared_memory_region("tensors", "/gatesmith_triton_http", size + 24)
    try:
        shm.set_shared_memory_region(region, [X])
        client.register_system_shared_memory("tensors", "/gatesmith_triton_http", size + 24)
        (status,) = client.get_system_shared_memory_status("tensors")
        assert (status["key"], status["byte_size"]) == ("/gatesmith_triton_http", size + 24)
        assert client.get_system_shared_memory_status() == [status]
        given = httpclient.InferInput("x", [2, 4], "FP32")
        given.set_shared_memory("tensors", size)
        output = wanted()
        output.set_shared_memory("tensors", 24, size)
        answer = client.infer("iris", [given], outputs=[output])
        assert answer.get_output("y")["parameters"]["shared_memory_region"] == "tensors"
        np.testing.assert_array_equal(shm.get_contents_as_numpy(region, np.float32, [2, 3], offset=size), expected())
        output.set_shared_memory("tensors", 8, size)
        with pytest.raises(utils.InferenceServerException, match="has 24 bytes, 8 of region"):
            client.infer("iris", [given], outputs=[output])
        client.unregister_system_shared_memory("tensors")
        with pytest.raises(utils.InferenceServerException):
            client.infer("iris", [given])
        client.unregister_system_shared_memory()
        assert client.get_system_shared_memory_status() == []
    finally:
        shm.destroy_shared_memory_region(region)


def test_repository(client: Any) -> None:
    index = {entry["name"]: entry for entry in client.get_model_repository_index()}
    assert index["iris"]["state"] == index["two"]["state"] == "READY"
    client.unload_model("two", unload_dependents=True)
    assert not client.is_model_ready("two")
    client.load_model("two")
    assert client.is_model_ready("two")
    with pytest.raises(utils.InferenceServerException) as caught:
        client.load_model("jets")
    assert caught.value.status() == "404"


def test_statistics_and_configuration(client: Any) -> None:
    def count(**which: str) -> int:
        (one,) = client.get_inference_statistics("iris", **which)["model_stats"]
        return int(one["inference_count"])

    before = count()
    client.infer("iris", [tensor("x", X)])
    assert count() == count(model_version="v1") == before + len(X)
    assert {one["name"] for one in client.get_inference_statistics()["model_stats"]} == {"iris", "two"}
    config = client.get_model_config("iris")
    assert config == client.get_model_config("iris", "v1")
    assert config["input"][0]["data_type"] == "TYPE_FP32"


def test_bodies_made_apart_and_plugins(client: Any) -> None:
    class Marks(httpclient.InferenceServerClientPlugin):
        def __call__(self, request: Any) -> None:
            request.headers["x-mark"] = "1"

    client.register_plugin(Marks())
    assert client.plugin() is not None
    assert client.is_server_live()
    client.unregister_plugin()
    body, size = httpclient.InferenceServerClient.generate_request_body([tensor("x", X)])
    assert json.loads(body[:size])["inputs"][0]["name"] == "x"
    parsed = httpclient.InferenceServerClient.parse_response_body(
        b'{"outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[1.5]}]}'
    )
    assert parsed.as_numpy("y").tolist() == [1.5]


def test_errors_are_understood(client: Any) -> None:
    with pytest.raises(utils.InferenceServerException, match="has no input 'z'") as caught:
        client.infer("iris", [tensor("z", X)])
    assert caught.value.status() == "400"
    with pytest.raises(utils.InferenceServerException, match="no model 'jets'") as caught:
        client.infer("jets", [tensor("x", X)])
    assert caught.value.status() == "404"
