"""A connection on a line that the test holds in its hands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from http2_peer import HEAD, PREFACE, framed, raw_frame

from gatesmith.serve.grpc.calls import Call, Calls, Conversation, Streaming, Unary
from gatesmith.serve.grpc.hpack import encode
from gatesmith.serve.grpc.http2 import Connection, Limits
from gatesmith.serve.grpc.room import Room

LARGE_BYTES = 1 << 20  # of the largest message, and of the room for all
BLOCK = encode(tuple((name.encode(), value.encode()) for name, value in HEAD))
PATH = b"/inference.GRPCInferenceService/ServerLive"
WIDE = PREFACE + raw_frame(4, 0, 0, b"\0\4\x3f\xff\xff\xff") + raw_frame(8, 0, 0, b"\x3f\xff\xff\xff")


class Line(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reads = True
        self.closed = self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.closed


def run(method: Unary | Streaming, work: Callable[[Connection, Line], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        calls = Calls(
            methods={PATH: method},
            message_limit_bytes=LARGE_BYTES,
            message_timeout_s=5,
            window_bytes=65_536,
            room=Room(LARGE_BYTES),
        )
        connections: set[Connection] = set()
        connection, line = Connection(calls.begin, Limits(), connections), Line()
        connection.connection_made(line)
        assert connections == {connection}
        await work(connection, line)
        connection.connection_lost(None)
        assert not connections

    asyncio.run(main())


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def answered(data: bytes, _call: Call) -> bytes:
    return b"a" * 5000


async def endless(conversation: Conversation, _call: Call) -> None:
    while True:
        await conversation.send(b"e" * 10_000)


def test_a_line_that_is_full_holds_answers_back_and_nothing_is_read() -> None:
    async def work(connection: Connection, line: Line) -> None:
        connection.data_received(WIDE)
        connection.pause_writing()
        before = len(line.written)
        connection.data_received(b"".join(raw_frame(1, 4, n, BLOCK) + raw_frame(0, 1, n, framed()) for n in (1, 3)))
        await turns()
        assert not line.reads
        assert len(line.written) < before + 200  # heads of answers at most
        connection.resume_writing()
        await turns()
        assert line.reads
        assert line.written.count(b"a" * 5000) == 2
        assert not connection.streams

    run(Unary(answered), work)


def test_a_stream_of_answers_waits_for_the_line() -> None:
    async def work(connection: Connection, line: Line) -> None:
        connection.data_received(WIDE + raw_frame(1, 4, 1, BLOCK))
        connection.pause_writing()
        before = len(line.written)
        await turns(50)
        assert len(line.written) < before + 200
        connection.connection_lost(None)
        await turns()

    run(Streaming(endless), work)


def test_a_stream_of_answers_waits_for_the_window() -> None:
    async def work(connection: Connection, line: Line) -> None:
        connection.data_received(PREFACE + raw_frame(4, 0, 0) + raw_frame(1, 4, 1, BLOCK))
        await turns(50)
        assert 60_000 < len(line.written) < 67_000
        connection.data_received(raw_frame(8, 0, 0, (20_000).to_bytes(4)) + raw_frame(8, 0, 1, (20_000).to_bytes(4)))
        await turns(50)
        assert 80_000 < len(line.written) < 87_000
        connection.data_received(raw_frame(3, 0, 1, bytes(4)))
        assert not connection.streams

    run(Streaming(endless), work)


def test_who_takes_nothing_is_let_go() -> None:
    async def work(connection: Connection, line: Line) -> None:
        now = asyncio.get_running_loop().time()
        connection.data_received(WIDE)
        connection.sweep(now + 1000)
        assert not line.aborted  # an idle connection may live
        connection.pause_writing()
        connection.sweep(now + 20)
        assert not line.aborted
        connection.sweep(now + 100)
        assert line.aborted

    run(Unary(answered), work)


def test_leaving_waits_for_what_is_under_way() -> None:
    release = asyncio.Event()

    async def slow(_data: bytes, _call: Call) -> bytes:
        await release.wait()
        return b"done"

    async def work(connection: Connection, line: Line) -> None:
        connection.data_received(WIDE + raw_frame(1, 4, 1, BLOCK) + raw_frame(0, 1, 1, framed()))
        connection.leave()
        await turns()
        assert raw_frame(6, 0, 0, b"stopping") in line.written
        late = raw_frame(1, 4, 3, BLOCK) + raw_frame(0, 1, 3, framed())  # was on its way
        connection.data_received(late + raw_frame(6, 1, 0, b"stopping"))
        await turns()
        assert not line.closed
        release.set()
        await turns()
        assert line.closed
        assert line.written.count(framed(b"done")) == 2

    run(Unary(slow), work)


def test_endless_calls_end_when_the_server_does() -> None:
    async def echo(conversation: Conversation, _call: Call) -> None:
        async for data in conversation.messages:
            await conversation.send(data)

    async def work(connection: Connection, line: Line) -> None:
        connection.data_received(WIDE + raw_frame(1, 4, 1, BLOCK) + raw_frame(0, 0, 1, framed(b"last words")))
        connection.leave()
        await turns()
        assert framed(b"last words") in line.written
        assert b"grpc-status\x0214" in line.written  # UNAVAILABLE: the client may go elsewhere
        connection.data_received(raw_frame(6, 1, 0, b"stopping"))
        assert line.closed

    run(Streaming(echo), work)


def test_a_client_that_leaves_ends_its_calls() -> None:
    ended: list[str] = []

    async def slow(_data: bytes, _call: Call) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("call")
        return b""

    async def work(connection: Connection, _line: Line) -> None:
        connection.data_received(WIDE + raw_frame(1, 4, 1, BLOCK) + raw_frame(0, 1, 1, framed()))
        await turns()
        connection.connection_lost(None)
        await turns()
        assert ended == ["call"]

    run(Unary(slow), work)


def windows(written: bytes) -> dict[int, int]:
    """Bytes that were allowed, by stream."""
    found: dict[int, int] = {}
    while written:
        stop = 9 + int.from_bytes(written[:3])
        if written[3] == 8:
            stream = int.from_bytes(written[5:9])
            found[stream] = found.get(stream, 0) + int.from_bytes(written[9:stop])
        written = written[stop:]
    return found


async def echo(conversation: Conversation, _call: Call) -> None:
    async for data in conversation.messages:
        await conversation.send(data[:10])


def test_large_messages_of_streaming_calls_wait_for_room_even_behind_small_ones() -> None:
    async def work(connection: Connection, line: Line) -> None:
        streams = (1, 3, 5, 7)
        begun = framed(b"small") + framed(length=LARGE_BYTES)  # the large one has but begun
        connection.data_received(
            WIDE + b"".join(raw_frame(1, 4, n, BLOCK) + raw_frame(0, 0, n, begun) for n in streams)
        )
        await turns()
        allowed = windows(line.written)
        assert sum(allowed.get(n, 0) for n in streams) <= LARGE_BYTES

        # Each gets its turn: who has the room sends all of it, and the next one has the room.
        left = dict.fromkeys(streams, LARGE_BYTES)
        credit = {n: 65_536 - len(begun) for n in streams}
        seen: dict[int, int] = {}
        while any(left.values()):
            allowed = windows(line.written)
            ready = next(n for n in streams if left[n] and credit[n] + allowed.get(n, 0) - seen.get(n, 0) > 0)
            credit[ready] += allowed.get(ready, 0) - seen.get(ready, 0)
            seen[ready] = allowed.get(ready, 0)
            size = min(left[ready], credit[ready], 16_384)
            connection.data_received(raw_frame(0, 0, ready, bytes(size)))
            left[ready] -= size
            credit[ready] -= size
            await turns(2)
        await turns()
        assert line.written.count(framed(b"small")) == line.written.count(framed(bytes(10))) == len(streams)

    run(Streaming(echo), work)


def test_a_method_of_one_message_takes_no_second_one() -> None:
    async def listen(conversation: Conversation, _call: Call) -> None:
        await anext(conversation.messages)
        await conversation.send(b"heard")
        await asyncio.Event().wait()

    async def work(connection: Connection, line: Line) -> None:
        connection.data_received(WIDE + raw_frame(1, 4, 1, BLOCK) + raw_frame(0, 0, 1, framed(b"a")))
        await turns()
        assert framed(b"heard") in line.written
        assert connection.streams
        connection.data_received(raw_frame(0, 0, 1, framed(b"b")))
        await turns()
        assert b"grpc-status\x0213" in line.written
        assert not connection.streams

    run(Streaming(listen, takes_one=True), work)
