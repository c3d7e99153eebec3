"""The client over both of its ways, against the whole server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from command import gatesmith, result
from firmwares import ArithmeticDevice, expected_payload, tiny_firmware, two_port_firmware
from ports import free_port
from registries import make_certificates
from serving import served

from gatesmith import Client
from gatesmith.errors import (
    AccessRefused,
    DeadlineExceeded,
    GatesmithError,
    ModelNotFound,
    ModelNotReady,
    ServerUnreachable,
    TensorMismatch,
    TokenInvalid,
)
from gatesmith.serve.server import Server

pytest.importorskip("grpc")
IRIS, TWO = tiny_firmware(), two_port_firmware()
X = np.array([[1, 2.5, -3, 4], [0, 0, 1, 1]], np.float32)
WAYS = ["http", "grpc"]


def want(x: Any = X) -> Any:
    return IRIS.contract.decode(expected_payload(IRIS.contract, IRIS.contract.encode({"x": x})))["y"]


def url_of(server: Server, way: str) -> str:
    return server.url if way == "http" else f"grpc://127.0.0.1:{server.grpc_port}"


@pytest.fixture(scope="module")
def device() -> ArithmeticDevice:
    return ArithmeticDevice()


@pytest.fixture(scope="module")
def server(device: ArithmeticDevice) -> Iterator[Server]:
    with served({"iris:v1": (IRIS, device), "two": (TWO, ArithmeticDevice("arithmetic:1"))}) as running:
        yield running


@pytest.fixture(params=WAYS)
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Client]:
    with Client(url_of(server, request.param), timeout_s=30) as opened:
        yield opened


def test_inference(client: Client) -> None:
    np.testing.assert_array_equal(client.infer("iris", X)["y"], want())
    np.testing.assert_array_equal(client.infer("iris", {"x": X.tolist()}, version="v1", outputs=["y"])["y"], want())
    client.infer("iris", X)["y"][0, 0] = 7  # the caller's own


def test_several_tensors_in_the_order_asked_for(client: Client) -> None:
    inputs = {"a": np.arange(8, dtype=np.float64).reshape(2, 2, 2), "b": np.array([3, -3])}
    answer = client.infer("two", inputs, outputs=["count", "sum"])
    encoded = TWO.contract.encode({"a": inputs["a"].astype("f4"), "b": inputs["b"].astype("i1")})
    expected = TWO.contract.decode(expected_payload(TWO.contract, encoded))
    assert list(answer) == ["count", "sum"]
    for name, values in answer.items():
        np.testing.assert_array_equal(values, expected[name])
        assert values.dtype == expected[name].dtype


def test_what_the_server_says_of_itself(client: Client) -> None:
    assert client.metadata()["name"] == "gatesmith"
    assert client.metadata("iris", "v1")["inputs"][0]["shape"] == [-1, 4]
    assert client.ready()
    assert client.ready("iris", "v1")
    client.wait_ready(5)
    index = client.index(ready_only=True)
    assert [(model["name"], model["state"]) for model in index] == [("iris", "READY"), ("two", "READY")]
    before = client.statistics("iris")[0]["inference_count"]
    client.infer("iris", X)
    assert client.statistics("iris")[0]["inference_count"] == before + 2
    assert len(client.statistics()) == 2


def test_unloading_and_loading(client: Client) -> None:
    client.unload("two")
    assert not client.ready("two")
    client.load("two")
    client.wait_ready(10, "two")


@pytest.mark.parametrize(
    ("work", "kind", "words"),
    [
        (lambda client: client.infer("jets", X), ModelNotFound, "no model 'jets'"),
        (lambda client: client.infer("iris", X, version="v9"), ModelNotFound, "no version 'v9'"),
        (lambda client: client.metadata("jets"), ModelNotFound, "no model 'jets'"),
        (lambda client: client.load("jets"), ModelNotFound, "jets"),
        (lambda client: client.ready("jets"), ModelNotFound, "no model 'jets'"),
        (lambda client: client.infer("iris", X[:, :3]), TensorMismatch, "is needed"),
        (lambda client: client.infer("iris", X, outputs=["z"]), TensorMismatch, "no output 'z'"),
        (lambda client: client.infer("iris", X * np.nan), TensorMismatch, "not finite"),
        (lambda client: client.infer("two", X), TensorMismatch, "give a mapping with these names"),
    ],
)
def test_errors_come_back_by_name(
    work: Callable[[Client], Any], kind: type[GatesmithError], words: str, client: Client
) -> None:
    with pytest.raises(kind, match=words):
        work(client)


def test_many_threads_share_one_client(client: Client) -> None:
    inputs = [np.full((1 + i % 4, 4), i % 5, np.float32) for i in range(120)]
    with ThreadPoolExecutor(8) as pool:
        for x, answer in zip(inputs, pool.map(lambda x: client.infer("iris", x), inputs), strict=True):
            np.testing.assert_array_equal(answer["y"], want(x))


def test_a_request_may_wait_only_so_long(client: Client, device: ArithmeticDevice) -> None:
    device.hold.clear()
    device.entered.clear()
    held = threading.Thread(target=lambda: client.infer("iris", X))
    held.start()
    try:
        assert device.entered.wait(10)
        with pytest.raises(DeadlineExceeded):
            client.infer("iris", X, timeout_us=50_000)
    finally:
        device.hold.set()
        held.join(30)


@pytest.mark.parametrize("way", WAYS)
def test_tokens(way: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    with served({"iris": (IRIS, ArithmeticDevice())}, admin_token_file=str(token)) as server:
        with Client(url_of(server, way)) as nobody, pytest.raises(TokenInvalid):
            nobody.unload("iris")
        with Client(url_of(server, way), "wrong") as stranger, pytest.raises(TokenInvalid):
            stranger.unload("iris")
        with Client(url_of(server, way), "secret") as operator:
            operator.unload("iris")
            assert not operator.ready("iris")


@pytest.mark.parametrize("way", WAYS)
def test_what_belongs_to_the_admin_port_is_refused_elsewhere(way: str) -> None:
    apart = served({"iris": (IRIS, ArithmeticDevice())}, admin_port=free_port())
    with apart as server, Client(url_of(server, way)) as client:
        with pytest.raises((AccessRefused, ModelNotFound)):
            client.unload("iris")
        assert client.ready("iris")


@pytest.mark.parametrize("way", WAYS)
def test_tls(way: str, tmp_path: Path) -> None:
    authority, (certificate, key) = make_certificates(tmp_path)
    settings = {"tls_certificate": str(certificate), "tls_key": str(key)}
    with served({"iris": (IRIS, ArithmeticDevice())}, wait_ready=False, **settings) as server:
        url = server.url if way == "http" else f"grpcs://127.0.0.1:{server.grpc_port}"
        with Client(url, ca_file=str(authority)) as client:
            client.wait_ready(10)
            np.testing.assert_array_equal(client.infer("iris", X)["y"], want())
        with Client(url, tries=1, timeout_s=5) as distrustful, pytest.raises(ServerUnreachable):
            distrustful.metadata()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "grpc://127.0.0.1:9"])
def test_nobody_there(url: str) -> None:
    with Client(url, timeout_s=3) as client:
        with pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:9"):
            client.metadata()
        assert not client.ready()
        with pytest.raises(ModelNotReady):
            client.wait_ready(0.2)


class _Told(BaseHTTPRequestHandler):
    """Answers what the class is told."""

    answers: ClassVar[list[tuple[int, dict[str, str], bytes]]]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status, headers, body = type(self).answers.pop(0)
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def told() -> Iterator[tuple[str, type[_Told]]]:
    class Handler(_Told):
        answers: ClassVar[list[tuple[int, dict[str, str], bytes]]] = []

    peer = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=peer.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{peer.server_port}", Handler
    peer.shutdown()
    peer.server_close()
    thread.join(10)


def test_retry_after_is_kept_and_the_second_answer_counts(told: tuple[str, type[_Told]]) -> None:
    url, handler = told
    busy = (503, {"retry-after": "0"}, b'{"error": "busy"}')
    handler.answers = [busy, busy, (200, {}, b'{"name": "other"}')]
    with Client(url, tries=3) as client:
        assert client.metadata() == {"name": "other"}
        handler.answers = [busy, busy, busy, busy]
        with pytest.raises(ModelNotReady, match="busy") as caught:
            client.metadata()
    assert len(handler.answers) == 1
    assert caught.value.facts["status"] == 503


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"inputs": [{"name": "x"}]}', b'{"inputs": 7}'])
def test_a_server_of_another_kind(body: bytes, told: tuple[str, type[_Told]]) -> None:
    url, handler = told
    handler.answers = [(200, {}, body)]
    with Client(url, tries=1) as client, pytest.raises(ServerUnreachable, match="does not answer as the protocol says"):
        client.infer("m", X)


def test_the_command_line_shows_text_of_another_server(told: tuple[str, type[_Told]], tmp_path: Path) -> None:
    url, handler = told
    np.save(tmp_path / "x.npy", X)
    metadata = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "label", "datatype": "BYTES", "shape": [-1]}],
    }
    answer = {"outputs": [{"name": "label", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 12}}]}
    head = json.dumps(answer).encode()
    binary = b"\1\0\0\0a\3\0\0\0b\xff\xc3"
    said = json.dumps(metadata).encode()
    handler.answers = [
        (200, {}, said),
        (200, {}, said),
        (200, {"inference-header-content-length": str(len(head))}, head + binary),
    ]
    data = result(gatesmith("infer", f"{url}/v2/models/m", "--input", str(tmp_path / "x.npy"), "--json"))
    assert data["outputs"]["label"] == {"datatype": "BYTES", "shape": [2], "data": ["a", "b\\xff\\xc3"]}


@pytest.mark.parametrize("way", WAYS)
def test_the_command_line(way: str, server: Server, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    url = f"{url_of(server, way)}/v2/models/iris"
    for target in (url, f"{url}/versions/v1"):
        data = result(gatesmith("infer", target, "--input", str(tmp_path / "x.npy"), "--json"))
        assert data["device"] == target
        assert data["outputs"]["y"] == {"datatype": "FP32", "shape": [2, 3], "data": want().tolist()}
