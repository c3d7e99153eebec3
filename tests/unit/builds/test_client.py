"""The client of build services, before servers that are none, that come and go, and that lie."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from firmwares import tiny_firmware

from gatesmith.artifact.policy import UNCHECKED
from gatesmith.artifact.store import Store
from gatesmith.builds import client as module
from gatesmith.builds.client import BuildClient
from gatesmith.builds.job import pack_layout
from gatesmith.builds.order import Order
from gatesmith.builds.serving import ServiceBuilds, Wish
from gatesmith.errors import BuildError, GatesmithError, ServerUnreachable

ORDER = Order(model="sha256:" + "1" * 64, model_file="tiny.onnx", name="tiny", board="icebreaker")
Answer = Callable[[str, str], tuple[int, bytes]]


@contextmanager
def service(answer: Answer) -> Iterator[BuildClient]:
    """A client of a server that answers as a function of method and path says."""

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            status, content = answer(self.command, self.path)
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self._do()

        def do_POST(self) -> None:
            self._do()

        def do_PUT(self) -> None:
            self._do()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with BuildClient(f"http://127.0.0.1:{server.server_port}") as client:
                yield client
        finally:
            server.shutdown()
            thread.join()


STRANGERS = [
    (404, b'{"error":"there is no such endpoint"}'),  # an inference server, say
    (404, b'{"error":[1]}'),
    (500, b"<html>"),
    (200, b"{}"),
    (200, b"[]"),
    (200, b"null"),
    (200, b'{"builds":7,"state":1}'),
]
ASKED: dict[str, Callable[[BuildClient], object]] = {
    "submit": lambda client: client.submit(ORDER, {}),
    "get": lambda client: client.get("1" * 64),
    "list": lambda client: client.list(),
    "cancel": lambda client: client.cancel("1" * 64),
    "result": lambda client: client.result("1" * 64),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda one: f"{one[0]} {one[1].decode()}")
def test_a_server_of_another_kind_is_told(stranger: tuple[int, bytes], asked: str) -> None:
    with service(lambda _method, _path: stranger) as client, pytest.raises(GatesmithError, match=r"http://127\.0"):
        ASKED[asked](client)


@pytest.mark.parametrize("content", [b"data: {}\n\n", b"id: x\nevent: line\ndata: {}\n\n", b"id: 1\ndata: [\n\n"])
def test_events_that_are_none(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", -1.0)

    def answer(_method: str, path: str) -> tuple[int, bytes]:
        return 200, content if "events" in path else b'{"id":"1","state":"running"}'

    with service(answer) as client, pytest.raises(ServerUnreachable, match="does not answer as a build service does"):
        list(client.watch("1"))


def test_patience_begins_when_the_service_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that says nothing for longer than the client is patient, and then a service that restarts."""
    now, after = [0.0], list[str]()

    def answer(_method: str, path: str) -> tuple[int, bytes]:
        if "events" not in path and not now[0]:
            return 200, _record("running")
        if not now[0]:
            now[0] = 1000.0  # a long silence, which ends with the line
            return 200, b""
        after.append(path)
        if len(after) <= 2:
            return 503, b"restarting"
        return 200, b"" if "events" in path else _record("done")

    class Clock:
        monotonic = staticmethod(lambda: now[0])
        sleep = staticmethod(lambda seconds: now.__setitem__(0, now[0] + seconds))

    monkeypatch.setattr(module, "time", Clock)
    with service(answer) as client:
        assert list(client.watch("1")) == []
    assert len(after) > 2
    now[0] = 0.0
    with service(lambda _method, _path: (503, b"away")) as client, pytest.raises(ServerUnreachable, match="503"):
        list(client.watch("1"))
    assert 120 < now[0] < 130


def _record(state: str) -> bytes:
    return json.dumps({"id": "1", "state": state}).encode()


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"board": "ulx3s-85f", "model_digest": ORDER.model}, "it holds firmware for ulx3s-85f"),
        ({"board": "icebreaker", "model_digest": "sha256:" + "2" * 64}, "firmware of model sha256:222222222222"),
        (None, "0 artifacts"),
    ],
)
def test_firmware_that_was_not_asked_for(facts: dict[str, Any] | None, words: str, tmp_path: Path) -> None:
    with (
        service(lambda _method, _path: (200, _layout(tmp_path, facts))) as client,
        pytest.raises(GatesmithError) as caught,
    ):
        client.firmware("1", ORDER, b"a model")
    assert words in str(caught.value)


def test_firmware_that_was_asked_for(tmp_path: Path) -> None:
    facts = {"board": "icebreaker", "model_digest": ORDER.model}
    with service(lambda _method, _path: (200, _layout(tmp_path, facts))) as client:
        firmware = client.firmware("1", ORDER, b"a model")
    assert (firmware.board, firmware.model_file) == ("icebreaker", ("tiny.onnx", b"a model"))


def _layout(folder: Path, facts: dict[str, Any] | None) -> bytes:
    store = Store(folder / "layout", policy=UNCHECKED)
    if facts:
        store.save("tiny:1", [tiny_firmware(**facts)], merge=False)
    else:
        store.save("tiny:1", [tiny_firmware()], merge=False)
        store.remove("tiny:1")
    return pack_layout(folder / "layout")


def test_an_authority_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "noise").write_text("no certificate")
    for path in (tmp_path / "noise", tmp_path / "none"):
        with pytest.raises(ServerUnreachable, match=f"the certificates in '{path}' cannot be used"):
            BuildClient("https://localhost:1", ca=path)


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://x:port", "x", "http://b\u00fccher"])
def test_urls_that_name_no_service(url: str) -> None:
    with pytest.raises(ServerUnreachable, match="is no URL of a build service"):
        BuildClient(url)


def test_a_server_that_stops_does_not_wait_for_a_build_that_waits() -> None:
    """Nothing happens to the build; that it says so is when whoever waits for it may leave."""
    stop = threading.Event()

    def answer(_method: str, path: str) -> tuple[int, bytes]:
        if "events" in path:
            stop.set()
            return 200, b": waiting\n\n"
        return 200, _record("queued")

    wish = Wish(order=ORDER, model=b"a model")
    with service(answer) as client, pytest.raises(BuildError, match="the server is stopping; the build goes on"):
        ServiceBuilds(client.url).build(wish, lambda _stage, _done: None, stop)
