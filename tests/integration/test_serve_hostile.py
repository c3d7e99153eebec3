"""Clients that break the rules below HTTP's surface: the server answers or hangs up, and goes on serving others."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
from firmwares import ArithmeticDevice, tiny_firmware
from serving import served, until

from gatesmith.serve.server import Server

BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}).encode()
HEAD = b"POST /v2/models/iris/infer HTTP/1.1\r\nhost: here\r\n"


@pytest.fixture
def device() -> ArithmeticDevice:
    return ArithmeticDevice()


@pytest.fixture
def server(device: ArithmeticDevice) -> Iterator[Server]:
    with served({"iris": (tiny_firmware(), device)}, body_limit_bytes=10_000) as running:
        yield running
        assert httpx.post(f"{running.url}/v2/models/iris/infer", content=BODY, timeout=30).status_code == 200


@pytest.fixture
def hasty(device: ArithmeticDevice) -> Iterator[Server]:
    """One that soon loses patience; other tests get one that does not, however busy the machine is."""
    with served({"iris": (tiny_firmware(), device)}, body_timeout_s=0.2) as running:
        yield running


def connect(server: Server) -> socket.socket:
    url = httpx.URL(server.url)
    return socket.create_connection((url.host, url.port or 80), timeout=20)


def answer_to(server: Server, *parts: bytes) -> bytes:
    """Everything that comes back until the server hangs up."""
    with connect(server) as line:
        for part in parts:
            line.sendall(part)
        received = b""
        while chunk := line.recv(65_536):
            received += chunk
        return received


def test_half_a_body_and_gone(server: Server) -> None:
    for _ in range(20):
        with connect(server) as line:
            line.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY[:20])


def test_half_a_body_and_silence(hasty: Server) -> None:
    answer = answer_to(hasty, HEAD + b"content-length: %d\r\n\r\n" % len(BODY), BODY[:20])
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"error": "the request did not arrive in 0.2 s"}


def test_only_a_head_and_silence(hasty: Server) -> None:
    assert answer_to(hasty, HEAD + b"content-length: 100\r\n\r\n").startswith(b"HTTP/1.1 408 ")


def test_an_announced_giant_is_refused_before_it_is_sent(server: Server) -> None:
    answer = answer_to(server, HEAD + b"content-length: 1000000000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"larger than 10000 bytes" in answer


def test_a_giant_in_chunks_is_cut_off(server: Server) -> None:
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
    answer = answer_to(server, HEAD + b"transfer-encoding: chunked\r\n\r\n", chunk, chunk, chunk)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_good_body_in_chunks_is_read(server: Server) -> None:
    head = HEAD + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:])]
    assert answer_to(server, head, *chunks, b"0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("length", [b"abc", b"-1", b"1e3", b"99999999999999999999999", b"5, 6"])
def test_content_lengths_that_are_none(server: Server, length: bytes) -> None:
    answer = answer_to(server, HEAD + b"connection: close\r\ncontent-length: " + length + b"\r\n\r\n" + BODY)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 "))


@pytest.mark.parametrize("noise", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"\x00" * 100, b"hello\n\n"])
def test_what_is_no_http(server: Server, noise: bytes) -> None:
    answer = answer_to(server, noise)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


def test_requests_in_a_row_on_one_line(server: Server) -> None:
    good = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
    last = HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
    assert answer_to(server, good * 5 + last).count(b"HTTP/1.1 200 ") == 6


def test_a_client_that_leaves_while_the_device_works(server: Server, device: ArithmeticDevice) -> None:
    device.hold.clear()
    with connect(server) as line:
        line.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY)
        assert device.entered.wait(10)
    device.hold.set()


def test_stopping_lets_a_request_in_flight_end(device: ArithmeticDevice) -> None:
    answers: list[int] = []
    with served({"iris": (tiny_firmware(), device)}) as running:
        device.hold.clear()
        url = f"{running.url}/v2/models/iris/infer"
        client = threading.Thread(target=lambda: answers.append(httpx.post(url, content=BODY, timeout=60).status_code))
        client.start()
        assert device.entered.wait(10)
        running.stop()
        until(lambda: not accepts(running))
        device.hold.set()
        client.join(60)
    assert answers == [200]
    assert device.closed


def accepts(server: Server) -> bool:
    try:
        connect(server).close()
    except OSError:
        return False
    return True
