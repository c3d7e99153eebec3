"""The REST door over a real socket: what is answered, and that nothing a client sends brings the server down."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from firmwares import ArithmeticDevice, expected_payload, tiny_firmware, two_port_firmware
from serving import served, until

from gatesmith.errors import DeviceTimeout
from gatesmith.firmware import Firmware
from gatesmith.serve.server import Server

IRIS, TWO = tiny_firmware(), two_port_firmware()
ONE = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2.5, -3, 4]}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    models = {"iris:v1": (IRIS, ArithmeticDevice()), "two": (TWO, ArithmeticDevice("arithmetic:1"))}
    with served(models, body_limit_bytes=100_000) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as session:
        yield session


@pytest.fixture(autouse=True)
def _survives(client: httpx.Client) -> Iterator[None]:
    yield
    assert infer(client, ONE).status_code == 200


def infer(client: httpx.Client, *inputs: Any, path: str = "/v2/models/iris/infer", **more: Any) -> httpx.Response:
    return client.post(path, content=json.dumps({"inputs": list(inputs), **more}))


def expected(firmware: Firmware, tensors: dict[str, Any]) -> dict[str, Any]:
    contract = firmware.contract
    return contract.decode(expected_payload(contract, contract.encode(tensors)))


def refused(response: httpx.Response, status: int, part: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    assert part in body["error"]


def test_health_and_metadata(client: httpx.Client) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2").json()["name"] == "gatesmith"
    assert client.get("/v2/").json() == client.get("/v2").json()
    model = client.get("/v2/models/iris").json()
    assert model["versions"][1] == "v1"
    assert [(t["name"], t["datatype"], t["shape"]) for t in model["inputs"]] == [("x", "FP32", [-1, 4])]
    for version in model["versions"]:
        assert client.get(f"/v2/models/iris/versions/{version}").json() == model
        ready = client.get(f"/v2/models/iris/versions/{version}/ready")
        assert (ready.status_code, ready.json()) == (200, {"name": "iris", "ready": True})
        answer = infer(client, ONE, path=f"/v2/models/iris/versions/{version}/infer").json()
        assert answer["model_version"] == model["versions"][0]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("batch", [0, 1, 3, 300])
def test_numbers_are_the_contracts(client: httpx.Client, batch: int, nested: bool) -> None:
    x = (np.arange(batch * 4, dtype=np.float32).reshape(batch, 4) - 7) / 8
    data = x.tolist() if nested else x.reshape(-1).tolist()
    answer = infer(client, {**ONE, "shape": [batch, 4], "data": data}).json()
    (output,) = answer["outputs"]
    want = expected(IRIS, {"x": x})["y"].reshape(-1).tolist() if batch else []
    assert output == {"name": "y", "datatype": "FP32", "shape": [batch, 3], "data": want}


def test_identity_is_echoed_or_made(client: httpx.Client) -> None:
    assert infer(client, ONE, id="my id").json()["id"] == "my id"
    assert infer(client, ONE, id="").json()["id"] == ""
    first, second = infer(client, ONE).json()["id"], infer(client, ONE, id=None).json()["id"]
    assert isinstance(first, str)
    assert first != second
    refused(infer(client, ONE, id=7), 400, "the request's id is of kind int, a string is needed")


def test_parameters_are_accepted(client: httpx.Client) -> None:
    tensor = {**ONE, "parameters": {"a": 1}}
    wanted = [{"name": "y", "parameters": {"binary_data": False}}]
    assert infer(client, tensor, parameters={"b": "c"}, outputs=wanted).status_code == 200


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "text/plain", ""])
def test_the_content_type_does_not_matter(client: httpx.Client, kind: str) -> None:
    headers = {"content-type": kind} if kind else {}
    body = json.dumps({"inputs": [ONE]})
    assert client.post("/v2/models/iris/infer", content=body, headers=headers).status_code == 200


def test_several_tensors_and_chosen_outputs(client: httpx.Client) -> None:
    a = {"name": "a", "datatype": "FP32", "shape": [2, 2, 2], "data": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]}
    b = {"name": "b", "datatype": "INT8", "shape": [2], "data": [1, -1]}
    want = expected(TWO, {"a": np.array(a["data"], np.float32), "b": np.array(b["data"], np.int8)})
    answer = infer(client, b, a, path="/v2/models/two/infer").json()["outputs"]
    assert {o["name"]: o["data"] for o in answer} == {name: want[name].reshape(-1).tolist() for name in want}
    chosen = infer(client, a, b, path="/v2/models/two/infer", outputs=[{"name": "count"}]).json()["outputs"]
    assert [(o["name"], o["datatype"], o["shape"]) for o in chosen] == [("count", "INT32", [2, 1])]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"data": [1, 2, 3]}, "holds 3 elements"),
        ({"data": [1, 2, 3, None]}, "holds None at element 3"),
        ({"data": [1, 2, 3, "4"]}, "holds '4' at element 3"),
        ({"data": [1, 2, 3, True]}, "holds True at element 3"),
        ({"data": [1, 2, 3, 1e39]}, "not finite in FP32"),
        ({"data": [[1, 2], [3, 4]]}, "nests 2 samples"),
        ({"data": [[1, 2, 3], 4]}, "nests 2 samples"),
        ({"data": {}}, "a list is needed"),
        ({"shape": [4]}, "[-1, 4] is needed"),
        ({"shape": [1 << 62, 4]}, "holds 4 elements"),
        ({"datatype": "FP64"}, "FP32 is needed"),
        ({"name": "z"}, "has no input 'z'"),
        ({"name": None}, "has no input"),
    ],
)
def test_tensors_that_do_not_fit(client: httpx.Client, change: dict[str, Any], part: str) -> None:
    refused(infer(client, {**ONE, **change}), 400, part)


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("null", "a JSON NoneType, an object is needed"),
        ("[]", "a JSON list"),
        ("{}", "the request needs 'inputs', a list"),
        ('{"inputs":{}}', "the request needs 'inputs', a list"),
        ('{"inputs":[]}', "input 'x' is missing"),
        ('{"inputs":[1]}', "an input is an object"),
        ('{"inputs":[{}]}', "an input lacks 'name'"),
        ('{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"parameters":{"binary_data_size":16}}]}', "binary"),
        ('{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"parameters":3}]}',
         "an input has parameters of kind int"),
        (json.dumps({"inputs": [ONE], "outputs": ["y"]}), "a requested output is an object with a name"),
        (json.dumps({"inputs": [ONE], "outputs": {"y": 1}}), "the request needs 'outputs', a list"),
        (json.dumps({"inputs": [ONE], "outputs": [{"name": "z"}]}), "has no output 'z'"),
        (json.dumps({"inputs": [ONE, ONE]}), "given twice"),
        (json.dumps({"inputs": [{**ONE, "data": [1, 2, 3, float("nan")]}]}), "not JSON"),
        (json.dumps({"inputs": [{**ONE, "data": [1, 2, 3, float("inf")]}]}), "not JSON"),
        ('{"inputs":' + "[" * 10_000 + "]" * 10_000 + "}", "depth limit"),
        ('{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":' + "[" * 900 + "]" * 900 + "}]}", "has lists"),
    ],
)  # fmt: skip
def test_bodies_that_are_no_request(client: httpx.Client, body: str, part: str) -> None:
    refused(client.post("/v2/models/iris/infer", content=body), 400, part)


def test_bytes_that_are_no_text(client: httpx.Client) -> None:
    refused(client.post("/v2/models/iris/infer", content=b"\xff\xfe\x00"), 400, "not JSON")
    gzip = {"content-encoding": "gzip"}
    refused(client.post("/v2/models/iris/infer", content=b"\x1f\x8b", headers=gzip), 400, "ends within its gzip data")
    refused(client.post("/v2/models/iris/infer", content=b"{}", headers=gzip), 400, "is not gzip data")
    other = client.post("/v2/models/iris/infer", content=b"{}", headers={"content-encoding": "br"})
    refused(other, 415, "content encoding 'br' is not read; gzip, deflate and identity are")
    assert other.headers["accept-encoding"] == "gzip, deflate, identity"


@pytest.mark.parametrize(
    ("method", "path", "status", "part"),
    [
        ("GET", "/", 404, "no such path"),
        ("GET", "/v2/nothing", 404, "no such path"),
        ("GET", "/v2/models/jets", 404, "no model 'jets'"),
        ("GET", "/v2/models/jets/ready", 404, "no model 'jets'"),
        ("GET", "/v2/models/iris/versions/9", 404, "no version '9'"),
        ("GET", "/v2/models/iris/versions/9/ready", 404, "no version '9'"),
        ("GET", "/v1/models/jets", 404, "no model 'jets'"),
        ("GET", "/v2/models/iris/infer", 405, "is not possible here"),
        ("PUT", "/v2/models/iris", 405, "is not possible here"),
        ("GET", "/v1/models/iris:predict", 405, "is not possible here"),
        ("DELETE", "/v2", 405, "is not possible here"),
        ("GET", "/v2/models/%2e%2e%2fetc", 404, "no such path"),
        ("GET", "/v2/models/" + "a" * 5000, 404, "no model"),
    ],
)
def test_paths_and_methods(client: httpx.Client, method: str, path: str, status: int, part: str) -> None:
    refused(client.request(method, path), status, part)


def test_unknown_models_and_versions_in_inference(client: httpx.Client) -> None:
    refused(infer(client, ONE, path="/v2/models/jets/infer"), 404, "no model 'jets'")
    refused(infer(client, ONE, path="/v2/models/iris/versions/2/infer"), 404, "no version '2'")


def test_v1(client: httpx.Client) -> None:
    assert client.get("/v1/models").json() == {"models": ["iris", "two"]}
    assert client.get("/v1/models/iris").json() == {"name": "iris", "ready": True}
    x = [[1, 2.5, -3, 4], [0, 0, 0, 0]]
    want = expected(IRIS, {"x": np.array(x, np.float32)})["y"].tolist()
    for instances in (x, [{"x": row} for row in x]):
        answer = client.post("/v1/models/iris:predict", json={"instances": instances})
        assert answer.json() == {"predictions": want}
    assert client.post("/v1/models/iris:predict", json={"instances": []}).json() == {"predictions": []}


def test_v1_with_several_tensors(client: httpx.Client) -> None:
    instances = [{"a": [[1, 2], [3, 4]], "b": 1}, {"b": -1, "a": [[5, 6], [7, 8]]}]
    a, b = (np.array([i[name] for i in instances], kind) for name, kind in (("a", np.float32), ("b", np.int8)))
    want = expected(TWO, {"a": a, "b": b})
    answer = client.post("/v1/models/two:predict", json={"instances": instances}).json()["predictions"]
    assert answer == [{name: want[name][i].tolist() for name in want} for i in range(2)]


@pytest.mark.parametrize(
    ("model", "body", "part"),
    [
        ("iris", {}, "the request needs 'instances', a list"),
        ("iris", {"instances": [], "inputs": []}, "one of the two"),
        ("iris", {"instances": 3}, "the request needs 'instances', a list"),
        ("iris", {"instances": [1, 2, 3, 4]}, "is not nested"),
        ("iris", {"instances": [[1, 2, 3]]}, "has lists of [3]"),
        ("iris", {"instances": [[1, 2, 3, None]]}, "holds None"),
        ("iris", {"instances": [[1, 2, 3, "4"]]}, "holds '4'"),
        ("iris", {"instances": [[1, 2, 3, 4], {"x": [1, 2, 3, 4]}]}, "is not nested"),
        ("iris", {"instances": [{"z": [1, 2, 3, 4]}]}, "has no input 'z'"),
        ("iris", {"instances": [{}]}, "input 'x' is missing"),
        ("two", {"instances": [[1]]}, "give every instance as an object"),
        ("two", {"instances": [{"a": [[1, 2], [3, 4]]}]}, "input 'b' is missing"),
        ("two", {"instances": [{"a": [[1, 2], [3, 4]], "b": 1}, {"a": 1}]}, "instances name different inputs"),
        ("two", {"instances": [{"a": [[1, 2], [3, 4]], "b": 1.5}]}, "holds 1.5 at element 0, which is no INT8"),
    ],
)
def test_v1_requests_that_do_not_fit(client: httpx.Client, model: str, body: dict[str, Any], part: str) -> None:
    refused(client.post(f"/v1/models/{model}:predict", json=body), 400, part)


def test_a_batch_beyond_the_limit_is_refused(client: httpx.Client) -> None:
    big = {**ONE, "shape": [10_000, 4], "data": [1.25] * 40_000}
    refused(infer(client, big), 413, "the body is larger than 100000 bytes; send smaller batches")


def test_device_failures_have_a_status_and_do_not_last() -> None:
    device = ArithmeticDevice()
    with served({"iris": (IRIS, device)}) as running, httpx.Client(base_url=running.url) as own:
        device.failure = DeviceTimeout("device arithmetic:0 did not answer in 2 s")
        refused(infer(own, ONE), 503, "has no healthy device: device arithmetic:0 did not answer in 2 s")
        device.failure = None  # it is programmed again by itself
        until(lambda: infer(own, ONE).status_code == 200)


def test_overload_is_told() -> None:
    device = ArithmeticDevice()
    with served({"iris": (IRIS, device)}, max_waiting=1) as running:
        device.hold.clear()
        with httpx.Client(base_url=running.url) as own, httpx.Client(base_url=running.url) as other:
            first = threading.Thread(target=infer, args=(own, ONE))
            first.start()
            assert device.entered.wait(10)
            refused(infer(other, ONE), 503, "1 samples wait for model iris, 1 may; try again later")
            device.hold.set()
            first.join(10)


def test_until_a_device_is_programmed_the_model_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    device, programmed = ArithmeticDevice(), threading.Event()
    original = device.program

    def slow(firmware: Firmware) -> None:
        assert programmed.wait(30)
        original(firmware)

    monkeypatch.setattr(device, "program", slow)
    with served({"iris": (IRIS, device)}, wait_ready=False) as running, httpx.Client(base_url=running.url) as own:
        assert own.get("/v2/health/live").status_code == 200
        ready = own.get("/v2/health/ready")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert own.get("/v2/models/iris/ready").status_code == 503
        assert own.get("/v1/models/iris").status_code == 503
        refused(infer(own, ONE), 503, "model iris is being loaded; try again later")
        refused(own.post("/v1/models/iris:predict", json={"instances": []}), 503, "is being loaded")
        assert own.get("/v2/models/iris").status_code == 200
        programmed.set()
        until(lambda: own.get("/v2/models/iris/ready").status_code == 200)
        assert infer(own, ONE).status_code == 200
