"""The door's HTTP/2 against an independent library, and against clients that break the rules."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import h2.errors
import h2.events
import numpy as np
import pytest
from firmwares import ArithmeticDevice, tiny_firmware
from grpc_serving import Door, grpc_served
from http2_peer import HEAD, PREFACE, Peer, RawPeer, framed, grpc_head, raw_frame, zipped

from gatesmith.oip.schema import message
from gatesmith.serve.grpc.hpack import encode

LIVE = b"\x08\x01"  # ServerLiveResponse(live=True)
BLOCK = encode(tuple((name.encode(), value.encode()) for name, value in HEAD))
CALM, PROTOCOL, FLOW, SIZE, COMPRESSION, CLOSED = 11, 1, 3, 6, 9, 5


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with grpc_served({"iris": (tiny_firmware(), ArithmeticDevice())}, body_limit_bytes=1 << 20) as running:
        yield running


@pytest.fixture(scope="module")
def hasty() -> Iterator[Door]:
    """One that soon loses patience; other tests get one that does not, however busy the machine is."""
    with grpc_served({"iris": (tiny_firmware(), ArithmeticDevice())}, body_timeout_s=1.0) as running:
        yield running


@pytest.fixture(autouse=True)
def _still_answers(door: Door) -> Iterator[None]:
    """Whatever a test does to its own connection, the server answers the next one."""
    yield
    with Peer(door.port) as peer:
        assert peer.body(peer.call(HEAD, framed())) == framed(LIVE)


def infer_request(rows: int = 1) -> bytes:
    made = message("ModelInferRequest")(model_name="iris")
    made.inputs.add(name="x", datatype="FP32", shape=[rows, 4])
    made.raw_input_contents.append(np.ones((rows, 4), "<f4").tobytes())
    content: bytes = made.SerializeToString()
    return content


# Calls that keep the rules, in every form that they allow.


def test_padding_priority_and_pieces(door: Door) -> None:
    with Peer(door.port) as peer:
        stream = peer.call(HEAD, end=False, priority_weight=16, priority_depends_on=0)
        body = framed(b"")
        for place in range(len(body)):
            peer.h2.send_data(stream, body[place : place + 1], pad_length=100, end_stream=place == len(body) - 1)
            peer.flush()
        assert peer.body(stream) == framed(LIVE)


def test_byte_by_byte(door: Door) -> None:
    text = PREFACE + raw_frame(4, 0, 0) + raw_frame(1, 4, 1, BLOCK) + raw_frame(0, 1, 1, framed())
    with RawPeer(door.port, b"") as peer:
        peer.line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(text)):
            peer.send(text[place : place + 1])
        assert any(kind == 0 and payload == framed(LIVE) for kind, _, _, payload in peer.frames())


def test_header_blocks_in_pieces_and_trailers_of_requests(door: Door) -> None:
    with RawPeer(door.port) as peer:
        peer.send(raw_frame(1, 0, 1, BLOCK[:10]) + raw_frame(9, 0, 1, BLOCK[10:20]) + raw_frame(9, 4, 1, BLOCK[20:]))
        peer.send(raw_frame(0, 0, 1, framed()) + raw_frame(1, 5, 1, encode(((b"x-check", b"1"),))))
        assert any(kind == 0 and payload == framed(LIVE) for kind, _, _, payload in peer.frames())


def test_large_answers_wait_for_the_clients_windows(door: Door) -> None:
    rows = 50_000  # 600 kB come back
    with Peer(door.port, INITIAL_WINDOW_SIZE=1000) as peer:
        stream = peer.call(grpc_head("ModelInfer"), end=False)
        body, sent = framed(infer_request(rows)), 0
        while sent < len(body):
            size = min(peer.h2.local_flow_control_window(stream), peer.h2.max_outbound_frame_size, len(body) - sent)
            if size:
                peer.h2.send_data(stream, body[sent : sent + size], end_stream=sent + size == len(body))
                sent += size
                peer.flush()
            else:
                peer.events += peer.h2.receive_data(peer.line.recv(65_536))
                peer.flush()
        got = 0
        while not any(isinstance(event, h2.events.StreamEnded) for event in peer.events):
            peer.events.clear()
            for event in peer.h2.receive_data(peer.line.recv(65_536)):
                peer.events.append(event)
                if isinstance(event, h2.events.DataReceived):
                    got += len(event.data)
                    peer.h2.acknowledge_received_data(event.flow_controlled_length, stream)
            peer.flush()
        assert got > rows * 12


def test_unknown_frames_and_settings_are_ignored(door: Door) -> None:
    with RawPeer(door.port) as peer:
        peer.send(raw_frame(0xEE, 0xFF, 0, b"?") + raw_frame(4, 0, 0, b"\xff\xff\0\0\0\1"))
        peer.send(raw_frame(1, 4, 1, BLOCK) + raw_frame(0, 1, 1, framed()))
        assert any(kind == 0 and payload == framed(LIVE) for kind, _, _, payload in peer.frames())


@pytest.mark.parametrize(("changes", "status"), [({"__method": "GET"}, "405"), ({"content_type": "text/plain"}, "415")])
def test_http_that_is_no_grpc_has_an_http_status(changes: dict[str, str], status: str, door: Door) -> None:
    with Peer(door.port) as peer:
        stream = peer.call(grpc_head(**changes))
        assert dict(peer.until(h2.events.ResponseReceived, stream).headers)[":status"] == status


@pytest.mark.parametrize(
    ("changes", "body", "code", "words"),
    [
        ({"__path": "/x.Y/Z"}, framed(), 12, "no method /x.Y/Z here"),
        ({"grpc_encoding": "zstd"}, framed(), 12, "messages in 'zstd' are not read"),
        ({"grpc_timeout": "soon"}, framed(), 3, "grpc-timeout is 'soon'"),
        ({"grpc_timeout": "999999999S"}, framed(), 3, "a number and one of"),
        ({}, framed() + framed(), 13, "takes one message, more were sent"),
        ({}, b"", 13, "ended before its message was complete"),
        ({}, framed(b"ab", length=3), 13, "ended before its message was complete"),
        ({}, framed(b"ab", flag=1), 13, "no grpc-encoding says how"),
        ({"grpc_encoding": "gzip"}, framed(b"ab", flag=1), 13, "cannot be decompressed"),
        ({"grpc_encoding": "gzip"}, framed(zipped(b"ab")[:-4], flag=1), 13, "is cut off"),
        ({"grpc_encoding": "gzip"}, framed(zipped(bytes(1 << 24)), flag=1), 8, "1048576 are taken"),
        ({}, framed(length=1 << 31), 8, "2147483648 bytes or more"),
        ({}, framed(b"\xff"), 3, "the message is no ServerLiveRequest"),
    ],
)
def test_calls_that_break_grpc(changes: dict[str, str], body: bytes, code: int, words: str, door: Door) -> None:
    with Peer(door.port) as peer:
        status, text = peer.status(peer.call(grpc_head(**changes), body))
        assert (status, words in text) == (code, True), text
        assert peer.body(peer.call(HEAD, framed())) == framed(LIVE)  # the connection goes on


# Connections that break the rules.


def test_http_1_is_told_what_is_wrong(door: Door) -> None:
    with RawPeer(door.port, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") as peer:
        assert peer.line.recv(1000).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert peer.line.recv(1000) == b""


HEADERS = raw_frame(1, 4, 1, BLOCK)
BROKEN = {
    "settings do not come first": (PREFACE + raw_frame(6, 0, 0, bytes(8)), PROTOCOL),
    "a frame that is too large": (PREFACE + raw_frame(4, 0, 0) + raw_frame(0, 0, 1, length=16_385), SIZE),
    "a stream of the server's": (PREFACE + raw_frame(4, 0, 0) + raw_frame(1, 4, 2, BLOCK), PROTOCOL),
    "data of no stream": (PREFACE + raw_frame(4, 0, 0) + raw_frame(0, 0, 1, b"x"), PROTOCOL),
    "a reset of no stream": (PREFACE + raw_frame(4, 0, 0) + raw_frame(3, 0, 1, bytes(4)), PROTOCOL),
    "padding beyond its frame": (PREFACE + raw_frame(4, 0, 0) + HEADERS + raw_frame(0, 8, 1, b"\x09abc"), PROTOCOL),
    "an empty frame with padding": (PREFACE + raw_frame(4, 0, 0) + HEADERS + raw_frame(0, 8, 1), PROTOCOL),
    "a header block that is interrupted": (
        PREFACE + raw_frame(4, 0, 0) + raw_frame(1, 0, 1, BLOCK[:5]) + raw_frame(6, 0, 0, bytes(8)), PROTOCOL),
    "a continuation of nothing": (PREFACE + raw_frame(4, 0, 0) + raw_frame(9, 4, 1, BLOCK), PROTOCOL),
    "trailers that go on": (PREFACE + raw_frame(4, 0, 0) + HEADERS + HEADERS, PROTOCOL),
    "a promise": (PREFACE + raw_frame(4, 0, 0) + raw_frame(5, 4, 1, bytes(4)), PROTOCOL),
    "a header block of noise": (PREFACE + raw_frame(4, 0, 0) + raw_frame(1, 4, 1, b"\xff" * 20), COMPRESSION),
    "a priority of the wrong size": (PREFACE + raw_frame(4, 0, 0) + raw_frame(2, 0, 1, b"x"), SIZE),
    "a reset of the wrong size": (PREFACE + raw_frame(4, 0, 0) + HEADERS + raw_frame(3, 0, 1, b"x"), SIZE),
    "a ping of the wrong size": (PREFACE + raw_frame(4, 0, 0) + raw_frame(6, 0, 0, b"x"), SIZE),
    "a ping on a stream": (PREFACE + raw_frame(4, 0, 0) + raw_frame(6, 0, 1, bytes(8)), PROTOCOL),
    "settings of the wrong size": (PREFACE + raw_frame(4, 0, 0, b"x"), SIZE),
    "a window that is too large": (PREFACE + raw_frame(4, 0, 0, b"\0\4\xff\xff\xff\xff"), FLOW),
    "a window update of nothing": (PREFACE + raw_frame(4, 0, 0) + raw_frame(8, 0, 0, bytes(4)), PROTOCOL),
    "a window update of the wrong size": (PREFACE + raw_frame(4, 0, 0) + raw_frame(8, 0, 0, b"x"), SIZE),
    "a window that grows too large": (PREFACE + raw_frame(4, 0, 0) + raw_frame(8, 0, 0, b"\x7f\xff\xff\xff") * 2, FLOW),
    "priority fields that are cut off": (PREFACE + raw_frame(4, 0, 0) + raw_frame(1, 0x24, 1, b"abc"), SIZE),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_ends_a_connection(case: str, door: Door) -> None:
    data, code = BROKEN[case]
    with RawPeer(door.port, data) as peer:
        assert peer.goodbye()[0] == code


FLOODS = {
    "rapid resets": lambda i: raw_frame(1, 4, 2 * i + 1, BLOCK) + raw_frame(3, 0, 2 * i + 1, bytes(4)),
    "pings": lambda i: raw_frame(6, 0, 0, bytes(8)),
    "settings": lambda i: raw_frame(4, 0, 0),
    "priorities": lambda i: raw_frame(2, 0, 1, bytes(5)),
    "unknown frames": lambda i: raw_frame(0xEE, 0, 0),
    "empty data": lambda i: (raw_frame(1, 4, 1, BLOCK) if i == 0 else b"") + raw_frame(0, 0, 1),
}


@pytest.mark.parametrize("case", FLOODS)
def test_floods_are_ended(case: str, door: Door) -> None:
    with RawPeer(door.port) as peer:
        for start in range(0, 12_000, 100):
            peer.send(b"".join(FLOODS[case](i) for i in range(start, start + 100)))
        assert peer.goodbye()[0] in {CALM, -1}  # -1: the line broke before the word was read


def test_endless_header_blocks_are_ended(door: Door) -> None:
    for piece in (b"", b"x", bytes(16_000)):
        with RawPeer(door.port) as peer:
            peer.send(raw_frame(1, 0, 1, BLOCK[:3]) + raw_frame(9, 0, 1, piece) * 20)
            assert peer.goodbye()[0] == CALM


def test_a_header_list_that_unpacks_to_much_is_ended(door: Door) -> None:
    filled = b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000
    with RawPeer(door.port) as peer:
        peer.send(raw_frame(1, 4, 1, filled) + raw_frame(1, 4, 3, b"\xbe" * 10_000))
        assert peer.goodbye()[0] == COMPRESSION


def test_more_than_the_window_ends_the_stream(door: Door) -> None:
    with RawPeer(door.port) as peer:
        peer.send(HEADERS + raw_frame(0, 0, 1, framed(length=1 << 19)) + raw_frame(0, 0, 1, bytes(16_384)) * 34)
        code = next(payload for kind, _, stream, payload in peer.frames() if kind == 3 and stream == 1)
        assert int.from_bytes(code) == FLOW


def test_too_many_streams_are_refused(door: Door) -> None:
    with RawPeer(door.port) as peer:
        peer.send(b"".join(raw_frame(1, 4, 2 * i + 1, BLOCK) for i in range(1100)))
        codes = [int.from_bytes(p) for k, _, _, p in _some(peer, 76) if k == 3]
        assert codes == [7] * 76


def _some(peer: RawPeer, resets: int) -> Iterator[tuple[int, int, int, bytes]]:
    for frame in peer.frames():
        yield frame
        resets -= frame[0] == 3
        if not resets:
            return


def test_a_message_that_does_not_arrive_is_given_up(hasty: Door) -> None:
    begin = time.monotonic()
    with Peer(hasty.port) as peer:
        stream = peer.call(HEAD, framed(b"a", length=10), end=False)
        assert peer.until(h2.events.StreamReset, stream).error_code == h2.errors.ErrorCodes.CANCEL
        assert peer.body(peer.call(HEAD, framed())) == framed(LIVE)
    assert time.monotonic() - begin > 0.8


def test_who_says_nothing_is_let_go(hasty: Door) -> None:
    for first in (b"", PREFACE[:10], PREFACE):
        with RawPeer(hasty.port, first) as peer:
            assert all(kind in {4, 8} for kind, *_ in peer.frames())


def test_who_takes_no_answer_is_let_go(hasty: Door) -> None:
    with RawPeer(hasty.port, PREFACE + raw_frame(4, 0, 0, b"\0\4\0\0\0\0")) as peer:
        peer.send(HEADERS + raw_frame(0, 1, 1, framed()))
        kinds = [kind for kind, *_ in peer.frames()]
        assert 0 not in kinds


def test_noise_does_no_harm(door: Door) -> None:
    noise = np.random.default_rng(1)
    flags, payloads = [0, 1, 4, 5, 8, 0x20, 0xFF], [b"", BLOCK, framed(), bytes(8)]
    for _ in range(200):
        frames = b""
        for _ in range(noise.integers(1, 8)):
            pick = noise.integers(5)
            payload = payloads[pick] if pick < 4 else noise.bytes(int(noise.integers(60)))
            frames += raw_frame(int(noise.integers(12)), flags[noise.integers(7)], int(noise.integers(6)), payload)
        with RawPeer(door.port, PREFACE + raw_frame(4, 0, 0) + frames) as peer:
            peer.line.shutdown(socket.SHUT_WR)
            list(peer.frames())
