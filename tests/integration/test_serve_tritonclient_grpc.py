"""Every call of the protocol's reference client over gRPC: those that apply work, the rest say UNIMPLEMENTED."""

from __future__ import annotations

import inspect
import os
import queue
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from firmwares import ArithmeticDevice, expected_payload, tiny_firmware, two_port_firmware
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import served

from gatesmith.contract import Contract
from gatesmith.serve.server import Server

grpcclient: Any = pytest.importorskip("tritonclient.grpc")
httpclient: Any = pytest.importorskip("tritonclient.http")
shared: Any = pytest.importorskip("tritonclient.utils.shared_memory")
utils: Any = pytest.importorskip("tritonclient.utils")
IRIS, TWO = tiny_firmware(), two_port_firmware()
_CONTRACT = IRIS.contract
NAMED = replace(
    IRIS,
    name="named",
    contract=Contract(
        inputs=_CONTRACT.inputs, outputs=(replace(_CONTRACT.outputs[0], labels=("setosa", "versicolor", "virginica")),)
    ),
)
X = np.array([[1, 2.5, -3, 4], [0.125, 0.25, 0.5, -1]], np.float32)
CUDA = "there is no GPU"
PROCESS = "the server's log and traces are the operator's: settings, not calls"
NOT_HERE: dict[str, tuple[str, Callable[[Any], object]]] = {
    "get_cuda_shared_memory_status": (CUDA, lambda client: client.get_cuda_shared_memory_status()),
    "register_cuda_shared_memory": (CUDA, lambda client: client.register_cuda_shared_memory("r", b"", 0, 8)),
    "unregister_cuda_shared_memory": (CUDA, lambda client: client.unregister_cuda_shared_memory()),
    "get_log_settings": (PROCESS, lambda client: client.get_log_settings()),
    "update_log_settings": (PROCESS, lambda client: client.update_log_settings({"log_info": True})),
    "get_trace_settings": (PROCESS, lambda client: client.get_trace_settings()),
    "update_trace_settings": (PROCESS, lambda client: client.update_trace_settings()),
}
OF_THE_CLIENT_ALONE = {"close", "plugin", "register_plugin", "unregister_plugin"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    models = {
        "iris:v1": (IRIS, ArithmeticDevice()),
        "two": (TWO, ArithmeticDevice("arithmetic:1")),
        "named": (NAMED, ArithmeticDevice("arithmetic:2")),
    }
    with served(models) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    with grpcclient.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as session:
        yield session


def tensor(values: np.ndarray[Any, Any], name: str = "x", datatype: str = "FP32", module: Any = grpcclient) -> Any:
    made = module.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values)
    return made


def want(x: np.ndarray[Any, Any] = X) -> np.ndarray[Any, Any]:
    return IRIS.contract.decode(expected_payload(IRIS.contract, IRIS.contract.encode({"x": x})))["y"]


def test_every_call_of_the_client_is_looked_at() -> None:
    source = Path(__file__).read_text()
    for name, _ in inspect.getmembers(grpcclient.InferenceServerClient, inspect.isfunction):
        known = name.startswith("_") or name in NOT_HERE or name in OF_THE_CLIENT_ALONE
        assert known or f"client.{name}(" in source, name


@pytest.mark.parametrize("name", NOT_HERE)
def test_what_does_not_apply_is_unimplemented(name: str, client: Any) -> None:
    _, call = NOT_HERE[name]
    with pytest.raises(utils.InferenceServerException) as caught:
        call(client)
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


def test_health(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "v1")


def test_metadata_and_configuration(client: Any) -> None:
    assert {"statistics", "model_repository", "system_shared_memory"} <= set(client.get_server_metadata().extensions)
    metadata = client.get_model_metadata("iris", as_json=True)
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "4"]}]
    assert "v1" in metadata["versions"]
    config = client.get_model_config("iris").config
    assert [(one.name, one.data_type, list(one.dims)) for one in config.input] == [("x", 11, [4])]
    assert config.max_batch_size > 1
    assert config.dynamic_batching.max_queue_delay_microseconds == 0


@pytest.mark.parametrize("version", ["", "v1"])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("chosen", [False, True])
def test_inference(version: str, compression: str | None, chosen: bool, client: Any) -> None:
    outputs = [grpcclient.InferRequestedOutput("y")] if chosen else None
    answer = client.infer(
        "iris",
        [tensor(X)],
        version,
        outputs=outputs,
        request_id="mine",
        priority=1,
        timeout=5_000_000,
        client_timeout=30,
        headers={"x-trace": "1"},
        compression_algorithm=compression,
        parameters={"anything": "goes"},
    )
    np.testing.assert_array_equal(answer.as_numpy("y"), want())
    assert answer.get_response().id == "mine"


def test_sequences_are_refused(client: Any) -> None:
    with pytest.raises(utils.InferenceServerException, match="sequences are not kept"):
        client.infer("iris", [tensor(X)], sequence_id=7, sequence_start=True)


def test_several_tensors(client: Any) -> None:
    a, b = np.arange(8, dtype=np.float32).reshape(2, 2, 2), np.array([3, -3], np.int8)
    answer = client.infer("two", [tensor(a, "a"), tensor(b, "b", "INT8")])
    expected = TWO.contract.decode(expected_payload(TWO.contract, TWO.contract.encode({"a": a, "b": b})))
    for name, values in expected.items():
        np.testing.assert_array_equal(answer.as_numpy(name), values)
        assert answer.as_numpy(name).dtype == values.dtype


def test_async_inference(client: Any) -> None:
    done: queue.Queue[tuple[Any, Any]] = queue.Queue()
    for _ in range(5):
        client.async_infer("iris", [tensor(X)], lambda result, error: done.put((result, error)))
    for _ in range(5):
        result, error = done.get(timeout=30)
        assert error is None
        np.testing.assert_array_equal(result.as_numpy("y"), want())


def test_streams(client: Any) -> None:
    done: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: done.put((result, error)))
    for model in ("iris", "jets", "iris"):
        client.async_stream_infer(model, [tensor(X)], request_id=model)
    answers = [done.get(timeout=30) for _ in range(3)]
    client.stop_stream()
    np.testing.assert_array_equal(answers[0][0].as_numpy("y"), want())
    assert "no model 'jets'" in str(answers[1][1])
    np.testing.assert_array_equal(answers[2][0].as_numpy("y"), want())


@pytest.mark.parametrize(("classes", "count"), [(1, 1), (2, 2), (99, 3)])
def test_classification(classes: int, count: int, client: Any) -> None:
    outputs = [grpcclient.InferRequestedOutput("y", class_count=classes)]
    for model, labels in (("named", ("setosa", "versicolor", "virginica")), ("iris", None)):
        answer = client.infer(model, [tensor(X)], outputs=outputs).as_numpy("y")
        assert answer.shape == (2, count)
        for row, scores in zip(answer, want(), strict=True):
            best = int(np.argmax(scores))
            value, place, *label = row[0].decode().split(":")
            assert (float(value), int(place), label) == (scores[best], best, [labels[best]] if labels else [])


def test_statistics(client: Any) -> None:
    before = client.get_inference_statistics("iris").model_stats[0]
    client.infer("iris", [tensor(X)])
    after = client.get_inference_statistics("iris", "v1").model_stats[0]
    assert after.inference_count == before.inference_count + 2
    assert after.inference_stats.success.count == before.inference_stats.success.count + 1
    assert len(client.get_inference_statistics().model_stats) == 3


def test_the_repository(client: Any) -> None:
    index = client.get_model_repository_index(as_json=True)["models"]
    assert {(model["name"], model["state"]) for model in index} == {(n, "READY") for n in ("iris", "two", "named")}
    client.unload_model("two", unload_dependents=True)
    assert not client.is_model_ready("two")
    with pytest.raises(utils.InferenceServerException) as caught:
        client.infer("two", [tensor(X, "a"), tensor(X, "b")])
    assert caught.value.status() == "StatusCode.UNAVAILABLE"
    client.load_model("two")
    assert client.is_model_ready("two")
    with pytest.raises(utils.InferenceServerException) as caught:
        client.load_model("jets")
    assert caught.value.status() == "StatusCode.NOT_FOUND"


def test_shared_memory(client: Any) -> None:
    key = f"/gatesmith-grpc-{os.getpid()}"
    expected = want()
    region = shared.create_shared_memory_region("both", key, 1024)
    try:
        shared.set_shared_memory_region(region, [X])
        client.register_system_shared_memory("both", key, 1024)
        status = client.get_system_shared_memory_status("both", as_json=True)["regions"]["both"]
        assert (status["key"], status["byte_size"]) == (key, "1024")
        given, wanted = grpcclient.InferInput("x", [2, 4], "FP32"), grpcclient.InferRequestedOutput("y")
        given.set_shared_memory("both", X.nbytes)
        wanted.set_shared_memory("both", expected.nbytes, offset=512)
        answer = client.infer("iris", [given], outputs=[wanted])
        assert answer.get_output("y").parameters["shared_memory_byte_size"].int64_param == expected.nbytes
        seen = shared.get_contents_as_numpy(region, np.float32, [1024 // 4])[128 : 128 + expected.size]
        np.testing.assert_array_equal(seen.reshape(expected.shape), expected)
        wanted.set_shared_memory("both", expected.nbytes - 1, offset=512)
        with pytest.raises(utils.InferenceServerException, match="its part of shared memory has"):
            client.infer("iris", [given], outputs=[wanted])
        client.unregister_system_shared_memory("both")
        assert "both" not in client.get_system_shared_memory_status().regions
        with pytest.raises(utils.InferenceServerException, match="no shared memory region 'both'"):
            client.infer("iris", [given])
    finally:
        shared.destroy_shared_memory_region(region)


REQUEST = grpcclient.service_pb2.ModelInferRequest


def contents(**fields: Any) -> Any:
    """A request with typed contents, which this client itself does not send."""
    made = REQUEST(model_name="two", id="typed")
    a = made.inputs.add(name="a", datatype="FP32", shape=[1, 2, 2])
    a.contents.fp32_contents.extend([1, 2, 3, 4])
    b = made.inputs.add(name="b", datatype="INT8", shape=[1])
    b.contents.int_contents.extend([-5])
    return made


def test_typed_contents_are_answered_with_typed_contents(client: Any) -> None:
    answer = client._client_stub.ModelInfer(contents())
    expected = TWO.contract.decode(
        expected_payload(
            TWO.contract,
            TWO.contract.encode({"a": np.array([[[1, 2], [3, 4]]], np.float32), "b": np.array([-5], np.int8)}),
        )
    )
    assert list(answer.outputs[0].contents.fp32_contents) == expected["sum"].ravel().tolist()
    assert list(answer.outputs[1].contents.int_contents) == expected["count"].ravel().tolist()
    assert not answer.raw_output_contents


def _mixed(made: Any) -> None:
    made.raw_input_contents.append(np.ones(4, np.float32).tobytes())


def _raw_only(made: Any, count: int) -> None:
    for one in made.inputs:
        one.ClearField("contents")
    made.raw_input_contents.extend([np.ones(4, np.float32).tobytes(), b"\x01", b"\x01"][:count])


def _field(made: Any, name: str, value: Any) -> None:
    getattr(made.inputs[0].contents, name).append(value)


BAD: dict[str, tuple[Callable[[Any], Any], str]] = {
    "mixed": (_mixed, "has contents beside raw_input_contents"),
    "raw for one of two": (lambda made: _raw_only(made, 1), "input 'b' has no item in raw_input_contents"),
    "raw for three of two": (lambda made: _raw_only(made, 3), "has 3 raw_input_contents for fewer inputs"),
    "another field": (lambda made: _field(made, "int_contents", 1), "has int_contents, fp32_contents is needed"),
    "two fields": (lambda made: _field(made, "bool_contents", True), "of FP32 has bool_contents"),
    "one number too many": (lambda made: _field(made, "fp32_contents", 1), "holds 5 elements"),
    "a number out of range": (lambda made: made.inputs[1].contents.int_contents.__setitem__(0, 128), "out of"),
    "no numbers": (lambda made: made.inputs[1].ClearField("contents"), "holds 0 elements"),
    "an unknown datatype": (lambda made: setattr(made.inputs[0], "datatype", "FP8"), "FP8"),
    "another datatype": (lambda made: setattr(made.inputs[1], "datatype", "INT16"), "INT8 is needed"),
    "another shape": (lambda made: made.inputs[0].shape.append(1), "is needed"),
    "a negative shape": (lambda made: made.inputs[0].shape.__setitem__(0, -1), "is needed"),
    "no such output": (lambda made: made.outputs.add(name="z"), "no output 'z'"),
    "no such input": (lambda made: made.inputs.add(name="z", datatype="FP32", shape=[1]), "no input 'z'"),
    "an input twice": (lambda made: made.inputs.append(made.inputs[0]), "given twice"),
    "an input missing": (lambda made: made.inputs.pop(), "input 'b' is missing"),
    "a priority of text": (
        lambda made: setattr(made.parameters["priority"], "string_param", "high"), "parameter 'priority' is 'high'"),
    "a timeout of -1": (
        lambda made: setattr(made.parameters["timeout"], "int64_param", -1), "parameter 'timeout' is '-1'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_tensors_that_do_not_fit(case: str, client: Any) -> None:
    change, words = BAD[case]
    made = contents()
    change(made)
    with pytest.raises(Exception, match=words) as caught:
        client._client_stub.ModelInfer(made, timeout=30)
    assert caught.value.code().name == "INVALID_ARGUMENT"  # type: ignore[attr-defined]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.lists(st.lists(st.floats(-500, 500, width=32), min_size=4, max_size=4), min_size=1, max_size=5))
def test_rest_and_grpc_give_the_same_numbers(data: list[list[float]], client: Any, server: Server) -> None:
    x = np.array(data, np.float32)
    over_grpc = client.infer("iris", [tensor(x)]).as_numpy("y")
    with httpclient.InferenceServerClient(server.url.removeprefix("http://")) as session:
        over_rest = session.infer("iris", [tensor(x, module=httpclient)]).as_numpy("y")
    np.testing.assert_array_equal(over_grpc, over_rest)
    np.testing.assert_array_equal(over_grpc, want(x))
    assert over_grpc.dtype == over_rest.dtype
