"""Every form of tensors over REST, the extensions, and what is refused about them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from firmwares import ArithmeticDevice, expected_payload, port, tiny_firmware, two_port_firmware
from serving import served

from gatesmith.contract import Contract
from gatesmith.fixed import FixedPoint
from gatesmith.serve.server import Server
from gatesmith.tensor import Datatype

WHOLE = FixedPoint(True, 7, 0)
KINDS = [
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "BF16",
    "FP32",
    "FP64",
]
IRIS, TWO = tiny_firmware(), two_port_firmware()
EVERY = tiny_firmware(
    name="every",
    vectors=(b"", b""),
    contract=Contract(
        inputs=tuple(port(kind.lower(), 2, datatype=Datatype(kind), format=WHOLE) for kind in KINDS),
        outputs=tuple(port(kind.lower(), 2, datatype=Datatype(kind), format=WHOLE) for kind in KINDS),
    ),
)
X = np.array([[1, 2.5, -3, 4]], np.float32)
HEAD = {"name": "x", "datatype": "FP32", "shape": [1, 4]}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    firmwares = {"iris:v1": IRIS, "two": TWO, "every": EVERY}
    models = {name: (firmware, ArithmeticDevice(f"a:{name}")) for name, firmware in firmwares.items()}
    with served(models) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as session:
        yield session


def expected(firmware: Any, **tensors: Any) -> dict[str, Any]:
    contract = firmware.contract
    return contract.decode(expected_payload(contract, contract.encode(tensors)))


def post(
    client: httpx.Client, content: Any, raw: bytes = b"", *, model: str = "iris", **headers: str
) -> httpx.Response:
    head = json.dumps(content).encode()
    named = {"inference-header-content-length": str(len(head))} if raw or "inputs" not in content else {}
    return client.post(f"/v2/models/{model}/infer", content=head + raw, headers={**named, **headers})


def parts(response: httpx.Response) -> tuple[dict[str, Any], bytes]:
    """JSON and binary data of an answer."""
    assert response.status_code == 200, response.text
    size = int(response.headers.get("inference-header-content-length", len(response.content)))
    return json.loads(response.content[:size]), response.content[size:]


def refused(response: httpx.Response, part: str, status: int = 400) -> None:
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    assert part in response.json()["error"]


def test_all_datatypes_in_binary(client: httpx.Client) -> None:
    arrays = {p.spec.name: np.array([[1, 0]], p.spec.datatype.dtype) for p in EVERY.contract.inputs}
    want = expected(EVERY, **arrays)
    raws = {n: a.tobytes() if n != "bf16" else struct.pack("<2H", 0x3F80, 0) for n, a in arrays.items()}
    inputs = [
        {"name": p.spec.name, "datatype": p.spec.datatype.value, "shape": [1, 2],
         "parameters": {"binary_data_size": len(raws[p.spec.name])}}
        for p in EVERY.contract.inputs
    ]  # fmt: skip
    content = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    answer, rest = parts(post(client, content, b"".join(raws.values()), model="every"))
    for output in answer["outputs"]:
        raw, rest = np.split(np.frombuffer(rest, np.uint8), [output["parameters"]["binary_data_size"]])
        values = want[output["name"]]
        if output["datatype"] == "BF16":
            found = (np.frombuffer(raw.tobytes(), "<u2").astype("<u4") << 16).view("<f4")
        else:
            found = np.frombuffer(raw.tobytes(), values.dtype)
        np.testing.assert_array_equal(found, values.reshape(-1), output["name"])
    assert not len(rest)


def test_short_floats_need_binary(client: httpx.Client) -> None:
    inputs = [{"name": n, "datatype": n.upper(), "shape": [1, 2], "data": [True, False] if n == "bool" else [1, 0]}
              for n in map(str.lower, KINDS)]  # fmt: skip
    refused(post(client, {"inputs": inputs}, model="every"), "is FP16, which has no form in JSON")


def test_a_raw_request(client: httpx.Client) -> None:
    x = np.concatenate([X, 2 * X])
    headers = {"inference-header-content-length": "0", "content-type": "application/octet-stream"}
    answer, raw = parts(client.post("/v2/models/iris/infer", content=x.tobytes(), headers=headers))
    assert raw == expected(IRIS, x=x)["y"].tobytes()
    assert answer["outputs"][0]["shape"] == [2, 3]
    refused(client.post("/v2/models/iris/infer", content=x.tobytes()[:-1], headers=headers), "has 16 for each sample")
    refused(client.post("/v2/models/iris/infer", content=b"", headers=headers), "has 0 bytes")
    refused(client.post("/v2/models/two/infer", content=b"\0" * 17, headers=headers), "raw requests need just one")
    kind = {**headers, "content-type": "application/json"}
    refused(client.post("/v2/models/iris/infer", content=x.tobytes(), headers=kind), "JSON by its type")


@pytest.mark.parametrize(
    ("change", "raw", "part"),
    [
        (
            {"parameters": {"binary_data_size": 16}},
            X.tobytes() + b"\0",
            "has 17 bytes of binary data, its inputs name 16",
        ),
        ({"parameters": {"binary_data_size": 16}}, X.tobytes()[:15], "has 15 bytes of binary data, 16 are needed"),
        ({"parameters": {"binary_data_size": 12}}, X.tobytes()[:12], "holds 12 bytes, its shape [1, 4] needs 16"),
        ({"parameters": {"binary_data_size": -1}}, b"\0", "a whole number from 0 on is needed"),
        ({"parameters": {"binary_data_size": 16.0}}, X.tobytes(), "a whole number from 0 on is needed"),
        ({"parameters": {"binary_data_size": True}}, X.tobytes(), "a whole number from 0 on is needed"),
        ({"parameters": {"binary_data_size": 16}}, b"", "needs the header Inference-Header-Content-Length"),
        ({"parameters": {"binary_data_size": 16}, "data": [1, 2, 3, 4]}, X.tobytes(), "its data in two places"),
        ({"data": [1, 2, 3, 4]}, b"\0", "has 1 bytes of binary data, its inputs name 0"),
        ({"parameters": {"shared_memory_region": "r"}}, b"", "named without shared_memory_byte_size"),
        ({"parameters": {"shared_memory_region": 3}}, b"", "a string is needed"),
        ({"parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 16}}, b"", "r"),
    ],
)
def test_data_that_is_not_where_it_should_be(client: httpx.Client, change: Any, raw: bytes, part: str) -> None:
    refused(post(client, {"inputs": [{**HEAD, **change}]}, raw), part)


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({"parameters": []}, "the request has parameters of kind list"),
        ({"parameters": {"priority": -1}}, "parameter priority is -1"),
        ({"parameters": {"priority": "high"}}, "parameter priority is high"),
        ({"parameters": {"timeout": 1.5}}, "parameter timeout is 1.5"),
        ({"parameters": {"timeout": 1 << 63}}, "parameter timeout is 9223372036854775808"),
        ({"parameters": {"binary_data_output": 1}}, "true or false is needed"),
        ({"parameters": {"sequence_id": 5}}, "sequences are not kept"),
        ({"outputs": [{"name": "y", "parameters": {"classification": 0}}]}, "wants 0 classes"),
        ({"outputs": [{"name": "y", "parameters": {"classification": "2"}}]}, "parameter classification is 2"),
        ({"outputs": [{"name": "y", "parameters": {"binary_data": "yes"}}]}, "true or false is needed"),
        ({"outputs": [{"name": "y", "parameters": 1}]}, "has parameters of kind int"),
        ({"inputs": [{**HEAD, "data": [1, 2, 3, 4]}] * 2000}, "has 2000 inputs, at most 1024"),
    ],
)
def test_parameters_that_do_not_fit(client: httpx.Client, more: Any, part: str) -> None:
    refused(post(client, {"inputs": [{**HEAD, "data": [1, 2, 3, 4]}], **more}), part)


def test_classes_without_labels(client: httpx.Client) -> None:
    wanted = [{"name": "y", "parameters": {"classification": 9}}]
    answer, _ = parts(post(client, {"inputs": [{**HEAD, "data": X[0].tolist()}], "outputs": wanted}))
    (scores,) = expected(IRIS, x=X)["y"]
    order = np.argsort(-scores, kind="stable")
    (output,) = answer["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 3])
    assert output["data"] == [f"{scores[i]}:{i}" for i in order]


def test_a_large_request_and_a_large_answer(client: httpx.Client) -> None:
    x = np.arange(80_000, dtype=np.float32).reshape(20_000, 4) % 50 / 16
    want = expected(IRIS, x=x)["y"]
    for data in (x.reshape(-1).tolist(), x.tolist()):
        answer, _ = parts(post(client, {"inputs": [{**HEAD, "shape": [20_000, 4], "data": data}]}))
        assert answer["outputs"][0]["data"] == want.reshape(-1).tolist()
    v1 = client.post("/v1/models/iris:predict", json={"instances": x.tolist()})
    assert v1.json() == {"predictions": want.tolist()}
    wrong = client.post("/v1/models/iris:predict", json={"instances": x.reshape(-1, 2).tolist()})
    refused(wrong, "has samples of shape [2], [4] is needed")


def test_v1_by_column(client: httpx.Client) -> None:
    want = expected(IRIS, x=X)["y"].tolist()
    for inputs in (X.tolist(), {"x": X.tolist()}):
        assert client.post("/v1/models/iris:predict", json={"inputs": inputs}).json() == {"outputs": want}
    a, b = np.ones((2, 2, 2), np.float32), np.array([1, 2], np.int8)
    both = client.post("/v1/models/two:predict", json={"inputs": {"a": a.tolist(), "b": b.tolist()}})
    assert both.json() == {"outputs": {n: v.tolist() for n, v in expected(TWO, a=a, b=b).items()}}


def test_the_rest_of_the_service(client: httpx.Client) -> None:
    text = client.get("/metrics")
    assert text.headers["content-type"].startswith("text/plain")
    assert "# TYPE" in text.text
    index = client.post("/v2/repository/index", json={"ready": True}).json()
    assert [entry["name"] for entry in index] == ["every", "iris", "two"]
    refused(client.post("/v2/repository/index", json={"ready": 1}), "true or false is needed")
    refused(client.post("/v2/repository/models/jets/load"), "jets", 404)
    refused(client.get("/v2/systemsharedmemory/region/r/status"), "no shared memory region 'r'", 404)
    refused(client.post("/v2/systemsharedmemory/region/r/register", json={"key": 1}), "'key', a string")
    extensions = client.get("/v2").json()["extensions"]
    assert {"classification", "system_shared_memory", "schedule_policy"} <= set(extensions)


def test_versions_by_every_name(client: httpx.Client) -> None:
    model = client.get("/v2/models/iris").json()
    for version in (*model["versions"], model["parameters"]["digest"]):
        path = f"/v2/models/iris/versions/{version}"
        for tail in ("", "/ready", "/config", "/stats"):
            assert client.get(path + tail).status_code == 200
        answer = client.post(f"{path}/infer", json={"inputs": [{**HEAD, "data": X[0].tolist()}]}).json()
        assert answer["model_version"] == model["versions"][0]


def test_labels_are_part_of_classes_only_where_there_are_some() -> None:
    labelled = replace(port("y", 3), labels=("a", "b", "c"))
    firmware = tiny_firmware(vectors=(b"", b""), contract=Contract(inputs=(port("x", 4),), outputs=(labelled,)))
    with served({"iris": (firmware, ArithmeticDevice())}) as server:
        body = {"inputs": [{**HEAD, "data": X[0].tolist()}],
                "outputs": [{"name": "y", "parameters": {"classification": 1}}]}  # fmt: skip
        (text,) = httpx.post(f"{server.url}/v2/models/iris/infer", json=body).json()["outputs"][0]["data"]
    assert text.endswith(":2:c")


def test_requests_that_differ_in_their_data_alone(client: httpx.Client) -> None:
    content = {"inputs": [{**HEAD, "parameters": {"binary_data_size": 16}}], "parameters": {"binary_data_output": True}}
    for x in (X, X + 1, X):
        _, raw = parts(post(client, content, x.tobytes()))
        assert raw == expected(IRIS, x=x)["y"].tobytes()
    refused(post(client, content, X.tobytes()[:8]), "16 are needed")
    refused(post(client, content, X.tobytes() + b"1234"), "20 bytes of binary data, its inputs name 16")
    refused(post(client, content, X.tobytes(), model="two"), "has no input 'x'")
    _, raw = parts(post(client, content, X.tobytes()))
    assert raw == expected(IRIS, x=X)["y"].tobytes()
