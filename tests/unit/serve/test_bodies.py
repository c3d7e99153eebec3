from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from typing import Any

import pytest

from gatesmith.serve.bodies import Body, compressed, read_body
from gatesmith.serve.rest_http import HttpError, Reply, Request

LIMIT = 100_000


def read(body: bytes, **headers: str) -> Body:
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return asyncio.run(read_body(Request("POST", {}, named, body), LIMIT))


def refused(status: int, part: str, body: bytes, **headers: str) -> None:
    with pytest.raises(HttpError, match=part) as caught:
        read(body, **headers)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("gzip", gzip.compress(b'{"a":1}', mtime=0)),
        ("x-gzip", gzip.compress(b'{"a":1}', mtime=0)),
        ("gzip", gzip.compress(b'{"a"', mtime=0) + gzip.compress(b":1}", mtime=0)),
        ("deflate", zlib.compress(b'{"a":1}')),
        ("deflate", zlib.compress(b'{"a":1}')[2:-4]),
        ("identity", b'{"a":1}'),
        ("GZIP", gzip.compress(b'{"a":1}', mtime=0)),
    ],
)
def test_encodings(name: str, body: bytes) -> None:
    assert read(body, content_encoding=name).json == {"a": 1}


@pytest.mark.parametrize(
    ("name", "body", "status", "part"),
    [
        ("gzip", b"", 400, "not JSON"),
        ("gzip", gzip.compress(b'{"a":1}', mtime=0)[:-9], 400, "ends within"),
        ("gzip", gzip.compress(b'{"a":1}', mtime=0) + b"more", 400, "not gzip data"),
        ("gzip", b"{}", 400, "not gzip data"),
        ("deflate", b"\xff\xff", 400, "not deflate data"),
        ("br", b"{}", 415, "not read"),
        ("gzip, gzip", b"{}", 415, "not read"),
    ],
)
def test_encodings_that_are_none(name: str, body: bytes, status: int, part: str) -> None:
    refused(status, part, body, content_encoding=name)


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_a_bomb_is_cut_off_and_takes_no_memory(name: str) -> None:
    bomb = (gzip.compress if name == "gzip" else zlib.compress)(b" " * 200_000_000)
    tracemalloc.start()
    try:
        refused(413, "larger than 100000 bytes when decompressed", bomb, content_encoding=name)
        assert tracemalloc.get_traced_memory()[1] < 20 * LIMIT
    finally:
        tracemalloc.stop()


def test_many_small_members_cost_no_more_than_their_number() -> None:
    """What is behind a member is not copied for each of them; and more of them than anybody sends are refused."""
    empty = gzip.compress(b"", mtime=0)
    good = b'{"a":1}' + b" " * (LIMIT // 4)
    members = b"".join(gzip.compress(good[place : place + 100], mtime=0) for place in range(0, len(good), 100))
    assert read(members + empty * 100, content_encoding="gzip").json == {"a": 1}

    endless = empty * 500_000
    tracemalloc.start()
    try:
        refused(400, "more than 10000 gzip members", endless, content_encoding="gzip")
        assert tracemalloc.get_traced_memory()[1] < 20 * LIMIT
    finally:
        tracemalloc.stop()


def test_binary_data_follow_the_json() -> None:
    body = read(b'{"a":1}\x00\x01', inference_header_content_length="7")
    assert (body.json, bytes(body.binary or b"")) == ({"a": 1}, b"\x00\x01")
    packed = read(
        gzip.compress(b'{"a":1}\x00\x01', mtime=0), inference_header_content_length="7", content_encoding="gzip"
    )
    assert packed == body


@pytest.mark.parametrize("length", ["8", "-1", "x", "", "9" * 30, "5, 7", "7.0"])
def test_lengths_that_are_none(length: str) -> None:
    refused(400, "Inference-Header-Content-Length is", b'{"a":1}', inference_header_content_length=length)


def test_the_event_loop_goes_on_while_a_large_body_is_read() -> None:
    numbers = ",".join(["0.123456789"] * 1_200_000)
    body = b'{"inputs":[{"data":[%b]}]}' % numbers.encode()

    async def main() -> tuple[float, float]:
        loop, longest, done = asyncio.get_running_loop(), 0.0, False

        async def watch() -> None:
            nonlocal longest
            last = loop.time()
            while not done:
                await asyncio.sleep(0)
                longest, last = max(longest, loop.time() - last), loop.time()

        watching = asyncio.create_task(watch())
        begin = loop.time()
        read = await read_body(Request("POST", {}, {}, body), 1 << 30)
        seconds, done = loop.time() - begin, True
        await watching
        assert len(read.json["inputs"][0]["data"]) == 1_200_000
        return seconds, longest

    # A machine that is busy with other things stalls the loop as well: not every time.
    tries = [asyncio.run(main()) for _ in range(3)]
    while min(longest / seconds for seconds, longest in tries) > 1 / 3 and len(tries) < 20:
        tries.append(asyncio.run(main()))
    assert min(longest / seconds for seconds, longest in tries) <= 1 / 3, tries


@pytest.mark.parametrize(
    ("accepted", "name"),
    [
        ("gzip", "gzip"), ("gzip, deflate, br", "gzip"), ("deflate", "deflate"), ("br", ""), ("identity", ""), ("", ""),
        ("gzip;q=0, deflate;q=0.5", "deflate"), ("GZIP;q=0.001", "gzip"), ("gzip;q=0.0", ""), (";;,,q=", ""),
    ],
)  # fmt: skip
def test_answers_are_compressed_as_asked(accepted: str, name: str) -> None:
    request = Request("POST", {}, {b"accept-encoding": accepted.encode()})
    reply = asyncio.run(compressed(request, Reply(b"a" * 10_000)))
    marks: dict[bytes, Any] = dict(reply.headers)
    assert marks.get(b"content-encoding", b"").decode() == name
    if name:
        assert zlib.decompress(reply.body, 47) == b"a" * 10_000
    assert asyncio.run(compressed(request, Reply(b"short"))).body == b"short"
