"""KServe's SDK and its storage code, as they are, in an environment of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
from firmwares import expected_payload, tiny_firmware, two_port_firmware
from kserve_environment import kserve_python
from ports import free_port
from registries import real_registry
from serving import until

from gatesmith import Client
from gatesmith.artifact.connection import Access
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.remote import push_artifact
from gatesmith.artifact.store import Store
from gatesmith.serve.folder import read_folder

IRIS, TWO = tiny_firmware(), two_port_firmware()
X = np.array([[1, 2.5, -3, 4], [0, 0, 1, 1]], np.float32)
SCRIPT = Path(__file__).parents[1] / "kserve_served.py"
DOWNLOAD = "import sys; from kserve_storage import Storage; print(Storage.download(sys.argv[1], sys.argv[2]))"


class Ports(NamedTuple):
    url: str
    grpc: str


@pytest.fixture(scope="module")
def python() -> Path:
    return kserve_python()


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/v2/health/ready").status_code == 200
    return False


@pytest.fixture(scope="module")
def server(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    http, grpc = free_port(), free_port()
    log = tmp_path_factory.mktemp("kserve") / "log"
    with log.open("wb") as output:
        child = subprocess.Popen([python, SCRIPT, str(http), str(grpc)], stdout=output, stderr=output)
    try:
        url = f"http://127.0.0.1:{http}"
        until(lambda: child.poll() is not None or answers(url), 60)
        assert child.poll() is None, log.read_text()[-3000:]
        yield Ports(url, f"grpc://127.0.0.1:{grpc}")
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def want(x: Any = X) -> Any:
    return IRIS.contract.decode(expected_payload(IRIS.contract, IRIS.contract.encode({"x": x})))["y"]


def post(url: str, content: Any) -> httpx.Response:
    return httpx.post(url, json=content, timeout=30)


def test_v1(server: Ports) -> None:
    answer = post(f"{server.url}/v1/models/iris:predict", {"instances": X.tolist()}).json()
    np.testing.assert_array_equal(np.array(answer["predictions"], np.float32), want())
    rows = [{"a": [[1, 2], [3, 4]], "b": 1}, {"a": [[0, 0], [0, 1]], "b": -1}]
    answer = post(f"{server.url}/v1/models/two:predict", {"instances": rows}).json()
    a, b = np.array([row["a"] for row in rows], np.float32), np.array([row["b"] for row in rows], np.int8)
    expected = TWO.contract.decode(expected_payload(TWO.contract, TWO.contract.encode({"a": a, "b": b})))
    for name, values in expected.items():
        assert [row[name] for row in answer["predictions"]] == values.tolist()


def test_v2_in_json(server: Ports) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 4], "data": X.ravel().tolist()}
    answer = post(f"{server.url}/v2/models/iris/infer", {"id": "mine", "inputs": [tensor]}).json()
    assert (answer["id"], answer["model_name"]) == ("mine", "iris")
    np.testing.assert_array_equal(np.reshape(answer["outputs"][0]["data"], answer["outputs"][0]["shape"]), want())
    assert post(f"{server.url}/v2/models/iris/infer", {"inputs": [tensor]}).json()["id"]


@pytest.mark.parametrize("way", ["url", "grpc"])
def test_our_client_with_binary_tensors(way: str, server: Ports) -> None:
    with Client(getattr(server, way)) as client:
        assert client.ready("iris")
        metadata = client.metadata("iris")
        assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
        np.testing.assert_array_equal(client.infer("iris", X)["y"], want())


@pytest.mark.parametrize(
    ("tensor", "status", "words"),
    [
        ({"name": "z", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}, 400, "no input 'z'"),
        ({"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}, 400, "is needed"),
        ({"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3]}, 400, "cannot be read"),
        ({"name": "x", "datatype": "INT32", "shape": [1, 4], "data": [1, 2, 3, 4]}, 400, "FP32 is needed"),
    ],
)
def test_what_the_sdk_lets_through_is_refused_here(
    tensor: dict[str, Any], status: int, words: str, server: Ports
) -> None:
    answer = post(f"{server.url}/v2/models/iris/infer", {"inputs": [tensor]})
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]


def test_v1_without_instances(server: Ports) -> None:
    assert post(f"{server.url}/v1/models/two:predict", {"instances": [1]}).status_code == 400
    assert post(f"{server.url}/v1/models/iris:predict", {"instances": []}).json() == {"predictions": []}


def test_kserves_storage_code_pulls_our_artifact_as_it_is(python: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    boards = [IRIS, tiny_firmware(board="ulx3s", family="ecp5")]
    store.save("iris:v1", boards)
    with real_registry(tmp_path / "registry") as registry:
        there = Reference.parse(f"{registry.address}/lab/iris:v1")
        push_artifact(store.layout, Reference.parse("iris:v1"), there, Access(plain_http=True))
        target = tmp_path / "models"
        target.mkdir()
        done = subprocess.run(
            [python, "-c", DOWNLOAD, f"oci://{there}", str(target)],
            env={**os.environ, "KSERVE_OCI_INSECURE_REGISTRY": "true"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    found = sorted(path for path in target.rglob("config.json"))
    assert {path.parent.name for path in found} == {"icebreaker", "ulx3s"}, json.dumps([str(p) for p in found])
    for firmware in boards:
        folder = next(path.parent for path in found if path.parent.name == firmware.board)
        assert read_folder(folder, firmware.board) == firmware
