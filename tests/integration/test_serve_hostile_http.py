"""HTTP itself, said badly or cleverly: limits, order, and requests that try to be two."""

from __future__ import annotations

import gzip
import json
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from firmwares import ArithmeticDevice, tiny_firmware
from ports import free_port
from serving import served, until

from gatesmith.serve.server import Server

BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}).encode()
PATH = b"/v2/models/iris/infer"
INFER = b"POST " + PATH + b" HTTP/1.1\r\nhost: here\r\ncontent-length: %d\r\n" % len(BODY)
LIVE = b"GET /v2/health/live HTTP/1.1\r\nhost: here\r\n\r\n"
CLOSE = b"GET /v2/health/live HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n"


@pytest.fixture
def device() -> ArithmeticDevice:
    return ArithmeticDevice()


@pytest.fixture
def server(device: ArithmeticDevice) -> Iterator[Server]:
    limits = {"body_limit_bytes": 10_000, "header_limit_bytes": 4096, "header_limit_count": 20}
    with served({"iris": (tiny_firmware(), device)}, **limits) as running:
        yield running
        assert httpx.post(f"{running.url}{PATH.decode()}", content=BODY, timeout=30).status_code == 200


@pytest.fixture
def hasty(device: ArithmeticDevice) -> Iterator[Server]:
    """One that soon loses patience; other tests get one that does not, however busy the machine is."""
    with served({"iris": (tiny_firmware(), device)}, body_timeout_s=0.5) as running:
        yield running


def connect(server: Server) -> socket.socket:
    url = httpx.URL(server.url)
    return socket.create_connection((url.host, url.port or 80), timeout=20)


def answers(server: Server, *parts: bytes) -> list[tuple[int, bytes]]:
    """Status and body of every answer until the server hangs up."""
    with connect(server) as line:
        for part in parts:
            line.sendall(part)
        received = b""
        while chunk := line.recv(65_536):
            received += chunk
    found = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        fields = dict(field.split(b": ", 1) for field in head.split(b"\r\n")[1:])
        size = int(fields.get(b"content-length", b"0"))
        found.append((int(head.split()[1]), received[:size]))
        received = received[size:]
    return found


def statuses(server: Server, *parts: bytes) -> list[int]:
    return [status for status, _ in answers(server, *parts)]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"".join(b"x-%d: 1\r\n" % i for i in range(30)), 431),
        (b"x: " + b"a" * 5000 + b"\r\n", 431),
        (b"x" * 5000 + b": 1\r\n", 431),
    ],
)
def test_too_many_or_too_large_headers(server: Server, head: bytes, status: int) -> None:
    ((found, body),) = answers(server, b"GET /v2 HTTP/1.1\r\n" + head + b"\r\n")
    assert found == status
    assert list(json.loads(body)) == ["error"]


def test_headers_without_end_are_cut_off(server: Server) -> None:
    with connect(server) as line:
        line.sendall(b"GET /v2 HTTP/1.1\r\n")
        for i in range(25):
            line.sendall(b"x-%d: 1\r\n" % i)
        assert line.recv(1000).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("start", [b"", b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"])
def test_a_header_without_end_is_cut_off(server: Server, start: bytes) -> None:
    with connect(server) as line:
        line.sendall(b"POST " + PATH + b" HTTP/1.1\r\nhost: here\r\n" + start + b"x: ")
        sent = 0
        while not select.select([line], [], [], 0)[0] and sent < 64 << 20:
            sent += line.send(b"a" * 4096)
        assert line.recv(1000).startswith(b"HTTP/1.1 431 ")
    assert sent < 16 << 20  # of which the line itself holds some


def test_a_url_without_end(server: Server) -> None:
    assert statuses(server, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n") == [414]


@pytest.mark.parametrize("part", [b"G", b"GET /v2 HTTP/1.1\r\nhost: he", INFER + b"\r\n{"])
def test_requests_that_stop_halfway(hasty: Server, part: bytes) -> None:
    ((status, body),) = answers(hasty, part)
    assert (status, json.loads(body)) == (408, {"error": "the request did not arrive in 0.5 s"})


@pytest.mark.parametrize("noise", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"hello\n\n"])
def test_what_is_no_http_is_told_in_json(server: Server, noise: bytes) -> None:
    ((status, body),) = answers(server, noise)
    assert (status, json.loads(body)) == (400, {"error": "this is no HTTP request"})


def test_answers_keep_the_order_of_requests(server: Server) -> None:
    bad = b"GET /nothing HTTP/1.1\r\nhost: here\r\n\r\n"
    found = statuses(server, (LIVE + bad + INFER + b"\r\n" + BODY) * 50 + CLOSE + LIVE)
    assert found == [200, 404, 200] * 50 + [200]


def test_thousands_of_requests_in_one_write(server: Server) -> None:
    bad = b"GET /nothing HTTP/1.1\r\n\r\n"
    assert statuses(server, bad * 5000 + CLOSE) == [404] * 5000 + [200]


def test_noise_after_good_requests_waits_for_its_turn(server: Server, device: ArithmeticDevice) -> None:
    device.hold.clear()
    threading.Timer(0.2, device.hold.set).start()
    assert statuses(server, INFER + b"\r\n" + BODY + b"\x00\x01\x02\r\n\r\n") == [200, 400]


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 5\r\ncontent-length: 6\r\n",
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked, identity\r\n",
        b"content-length : 5\r\n",
        b"x\r\n y: z\r\n",
    ],
)
def test_requests_that_try_to_be_two(server: Server, head: bytes) -> None:
    hidden = b"0\r\n\r\n" + b"DELETE /v2 HTTP/1.1\r\n\r\n"
    assert 405 not in statuses(server, b"POST " + PATH + b" HTTP/1.1\r\nhost: here\r\n" + head + b"\r\n" + hidden)


def test_trailers_mean_nothing(server: Server) -> None:
    head = b"POST " + PATH + b" HTTP/1.1\r\nhost: here\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY)
    trailer = b"0\r\ncontent-encoding: br\r\ninference-header-content-length: 5\r\n\r\n"
    assert statuses(server, head + chunks + trailer) == [200]
    flood = b"".join(b"x-%d: 1\r\n" % i for i in range(30))
    assert statuses(server, head + chunks + b"0\r\n" + flood + b"\r\n") == [431]


def test_head_and_options(server: Server) -> None:
    head = httpx.head(f"{server.url}/v2")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(httpx.get(f"{server.url}/v2").content)
    options = httpx.options(f"{server.url}{PATH.decode()}")
    assert (options.status_code, options.headers["allow"]) == (204, "OPTIONS, POST")
    assert httpx.head(f"{server.url}{PATH.decode()}").status_code == 405


def test_old_clients_and_proxies(server: Server) -> None:
    assert statuses(server, b"GET /v2/health/live HTTP/1.0\r\n\r\n") == [200]
    assert statuses(server, LIVE.replace(b"/v2", b"http://proxy:1/v2", 1) + CLOSE) == [200, 200]
    assert statuses(server, b"CONNECT here:80 HTTP/1.1\r\nhost: here\r\n\r\n") == [405]


def test_an_offered_upgrade_is_ignored(server: Server) -> None:
    offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    assert statuses(server, INFER + offer + b"\r\n" + BODY[:9], BODY[9:] + CLOSE) == [200, 200]
    assert statuses(server, LIVE[:-2] + offer + b"\r\n" + CLOSE) == [200, 200]


def test_expectations(server: Server) -> None:
    with connect(server) as line:
        line.sendall(INFER + b"expect: 100-continue\r\n\r\n")
        assert line.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        line.sendall(BODY)
        assert line.recv(1000).startswith(b"HTTP/1.1 200 ")
    refused = INFER.replace(b"iris/infer", b"iris/nothing") + b"expect: 100-continue\r\n\r\n"
    assert statuses(server, refused) == [404]
    assert statuses(server, INFER + b"expect: wonders\r\nconnection: close\r\n\r\n" + BODY) == [417]


def test_an_idle_line_stays_open_and_is_closed_at_the_end(device: ArithmeticDevice) -> None:
    with served({"iris": (tiny_firmware(), device)}) as running, connect(running) as line:
        for _ in range(2):
            line.sendall(LIVE)
            assert line.recv(1000).startswith(b"HTTP/1.1 200 ")
        running.stop()
        assert line.recv(1000) == b""


def test_a_client_that_leaves_takes_its_request_along(server: Server, device: ArithmeticDevice) -> None:
    device.hold.clear()
    with connect(server) as first, connect(server) as second:
        first.sendall(INFER + b"\r\n" + BODY)
        assert device.entered.wait(10)
        second.sendall(INFER + b"\r\n" + BODY)
        until(lambda: httpx.get(f"{server.url}/v2/health/live").status_code == 200)
    until(lambda: httpx.get(f"{server.url}/v2/health/live").status_code == 200)
    device.hold.set()
    assert httpx.post(f"{server.url}{PATH.decode()}", content=BODY).status_code == 200
    assert len(device.calls) <= 3


def test_a_client_that_does_not_read(server: Server) -> None:
    with connect(server) as line:
        line.settimeout(0.2)
        try:
            for _ in range(2000):
                line.sendall(b"GET /openapi.json HTTP/1.1\r\nx: %b\r\n\r\n" % (b"a" * 2000) * 20)
        except OSError:
            pass  # the server stopped to read, or hung up
        else:
            pytest.fail("the server took requests without end")


def test_a_bomb_is_refused(server: Server) -> None:
    bomb = gzip.compress(b"[" * 50_000_000)[:9_999]
    answer = httpx.post(f"{server.url}{PATH.decode()}", content=bomb, headers={"content-encoding": "gzip"})
    assert answer.status_code in {400, 413}


def test_administration_needs_its_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret")
    unload = "/v2/repository/models/iris/unload"
    models = {"iris": (tiny_firmware(), ArithmeticDevice())}
    with served(models, admin_token_file=str(file)) as server, httpx.Client(base_url=server.url) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic secret"}):
            refused = client.post(unload, headers=headers)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            register = client.post("/v2/systemsharedmemory/region/r/register", json={}, headers=headers)
            assert register.status_code == 401
        assert client.get("/v2/models/iris/ready").status_code == 200
        assert client.post(unload, headers={"authorization": "Bearer secret"}).status_code == 200
        answer = client.post("/v2/models/iris/infer", content=BODY)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1


def test_web_pages_do_not_administer(server: Server) -> None:
    page = {"origin": "http://evil.example", "content-type": "text/plain"}
    assert httpx.post(f"{server.url}/v2/repository/models/iris/unload", headers=page).status_code == 403


def test_an_admin_port_divides_the_work() -> None:
    port = free_port()
    unload, infer = "/v2/repository/models/iris/unload", PATH.decode()
    with served({"iris": (tiny_firmware(), ArithmeticDevice())}, admin_port=port) as server:
        admin = f"http://127.0.0.1:{port}"
        refused = httpx.post(f"{server.url}{unload}")
        assert (refused.status_code, list(refused.json())) == (403, ["error"])
        assert httpx.post(f"{admin}{infer}", content=BODY).status_code == 404
        assert httpx.post(f"{server.url}{infer}", content=BODY).status_code == 200
        assert httpx.post(f"{admin}{unload}").status_code == 200
        assert httpx.get(f"{server.url}/v2/models/iris/ready").status_code == 503
