"""The client's own rules, with a transport that answers as it is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatesmith.client import Client
from gatesmith.client import client as module
from gatesmith.client.transport import Arrays, Request
from gatesmith.errors import DeadlineExceeded, ModelNotReady, Overloaded, ServerUnreachable, TensorMismatch


class Told:
    """Raises or returns what it is told, in order; the last again and again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers) or [{"y": np.zeros((1, 3))}]
        self.requests: list[Request] = []
        self.datatype = "FP32"
        self.asked = 0
        self.closed = False

    def infer(self, request: Request, timeout_s: float) -> Arrays:
        self.requests.append(request)
        answer: Any = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    def server(self, timeout_s: float) -> dict[str, Any]:
        return {"name": "told"}

    def model(self, name: str, version: str | None, timeout_s: float) -> dict[str, Any]:
        self.asked += 1
        return {"inputs": [{"name": "x", "datatype": self.datatype, "shape": [-1, 4]}]}

    def ready(self, name: str | None, version: str | None, timeout_s: float) -> bool:
        raise ServerUnreachable("nobody")

    def load(self, name: str, parameters: Mapping[str, Any], timeout_s: float) -> None: ...
    def unload(self, name: str, timeout_s: float) -> None: ...
    def index(self, ready_only: bool, timeout_s: float) -> list[dict[str, Any]]:
        return []

    def statistics(self, name: str | None, version: str | None, timeout_s: float) -> list[dict[str, Any]]:
        return []

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses that would be made; the clock follows them."""
    made: list[float] = []

    class Clock:
        monotonic = staticmethod(lambda: sum(made))
        monotonic_ns = staticmethod(lambda: 0)
        sleep = staticmethod(made.append)

    monkeypatch.setattr(module, "time", Clock)
    return made


def client_of(told: Told, **more: Any) -> Client:
    made = Client("http://localhost:1", **more)
    made._transport = told
    return made


def test_a_lone_array_and_whole_numbers() -> None:
    told = Told()
    client = client_of(told)
    client.infer("m", [[1, 2, 3, 4]])
    client.infer("m", {"x": np.ones((1, 4))}, version="v1", outputs=["y"], priority=1, timeout_us=5)
    first, second = told.requests
    assert (first.inputs[0].name, first.inputs[0].array.dtype) == ("x", np.float32)
    assert (second.version, second.outputs, second.priority, second.timeout_us) == ("v1", ["y"], 1, 5)
    assert told.asked == 2  # once for each version


def test_unknown_inputs_are_not_sent() -> None:
    told = Told()
    with pytest.raises(TensorMismatch, match=r"the model has no input 'z'; its inputs are \['x'\]"):
        client_of(told).infer("m", {"z": [1]})
    assert not told.requests


def test_what_may_pass_is_tried_again(pauses: list[float]) -> None:
    told = Told(ServerUnreachable("gone"), ModelNotReady("loading", retry_after_s=2), {"y": 1})
    assert client_of(told).infer("m", [1.0]) == {"y": 1}
    assert pauses == [pytest.approx(0.05), 2]


def test_tries_are_bounded(pauses: list[float]) -> None:
    told = Told(Overloaded("full"))
    with pytest.raises(Overloaded):
        client_of(told, tries=4).infer("m", [1.0])
    assert len(told.requests) == 4


def test_time_is_bounded(pauses: list[float]) -> None:
    told = Told(Overloaded("full", retry_after_s=4))
    with pytest.raises(Overloaded):
        client_of(told, tries=1000, timeout_s=10).infer("m", [1.0])
    assert sum(pauses) <= 10


@pytest.mark.parametrize("error", [TensorMismatch("wrong"), DeadlineExceeded("late")])
def test_what_stays_is_not_tried_again(error: Exception, pauses: list[float]) -> None:
    told = Told(error)
    with pytest.raises(type(error)):
        client_of(told).infer("m", [1.0])
    assert not pauses


def test_a_new_version_with_other_tensors_is_noticed() -> None:
    told = Told({"y": 1}, TensorMismatch("has datatype FP32, INT32 is needed"), {"y": 2})
    client = client_of(told)
    client.infer("m", [1])
    told.datatype = "INT32"
    assert client.infer("m", [1]) == {"y": 2}
    assert told.requests[-1].inputs[0].datatype == "INT32"


def test_waiting_is_bounded(pauses: list[float]) -> None:
    with pytest.raises(ModelNotReady, match="m did not become ready in 3 s"):
        client_of(Told()).wait_ready(3, "m")
    assert sum(pauses) <= 3


def test_it_closes() -> None:
    told = Told()
    with client_of(told):
        assert not told.closed
    assert told.closed


def test_waiting_is_bounded_where_nobody_answers() -> None:
    """A machine that takes connections and says nothing: the witness is the time that the line is given."""

    class Silent(Told):
        def ready(self, name: str | None, version: str | None, timeout_s: float) -> bool:
            given.append(timeout_s)
            raise ServerUnreachable("no answer in time")

    given: list[float] = []
    with pytest.raises(ModelNotReady):
        client_of(Silent(), timeout_s=60).wait_ready(0.1)
    assert max(given) <= 0.1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8080",
        "ftp://x",
        "http://",
        "grpc:///x",
        "http://[::1",
        "http://x:port",
        "http://x:99999",
        "http://b\u00fccher",
    ],
)
def test_urls_that_name_no_server(url: str) -> None:
    with pytest.raises(ServerUnreachable, match="names no server"):
        Client(url)


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_an_authority_that_cannot_be_read(scheme: str, tmp_path: Path) -> None:
    noise = tmp_path / "ca.pem"
    noise.write_text("no certificate")
    for path in (tmp_path / "none.pem", *([noise] if scheme == "https" else [])):
        with pytest.raises(ServerUnreachable, match=f"the certificates in '{path}' cannot be used"):
            Client(f"{scheme}://localhost:1", ca_file=str(path))
