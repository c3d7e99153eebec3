"""The server's side of one HTTP/2 connection, as far as gRPC uses it: frames in, streams of calls out.

Written for many small calls: what is read in one turn of the event loop is worked on in one go, and what is written in
one turn leaves in one write. A peer is never trusted: sizes, counts, windows and time are bounded, and what costs the
server without being a call (resets, pings, settings, empty frames) is rationed. ``calls`` says what a call means.
"""

# Ref: RFC 9113: 3.4 preface, 5.1 stream states, 5.2 and 6.9 flow control, 6.8 GOAWAY, 8.1 messages, 10.5 abuse
# Ref: CVE-2023-44487 (rapid reset), CVE-2024-27316 (endless CONTINUATION): why resets and header blocks are rationed

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from gatesmith.serve.grpc import frames
from gatesmith.serve.grpc.frames import HEAD_BYTES, ErrorCode, Kind, ProtocolError, Setting
from gatesmith.serve.grpc.hpack import Decoder, Fields, HpackError
from gatesmith.serve.grpc.ration import Ration
from gatesmith.serve.grpc.streams import Outbox, Receiver, Stream

__all__ = ["Connection", "Limits"]

_CONNECTION_WINDOW = 1 << 24
_MOST_PARTS = 16
_STOPPING = b"stopping"
_NOT_HTTP2 = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 26\r\n\r\ngRPC needs HTTP/2 from you"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one connection may ask for."""

    streams: int = 1024
    window_bytes: int = 65_536  # of a stream, before it has said how long its message is
    headers_bytes: int = 16_384
    stall_s: float = 30.0  # how long a client may leave an answer, or its own first words, waiting


class Connection(asyncio.Protocol):
    """One client's connection.

    Parameters
    ----------
    begin : callable
        Makes the receiver of a new stream from its header fields; it may answer at once and give None.
    connections : set
        Holds this connection while it lasts.
    """

    def __init__(
        self, begin: Callable[[Stream, Fields], Receiver | None], limits: Limits, connections: set[Connection]
    ) -> None:
        self._begin, self._limits, self._connections = begin, limits, connections
        self._loop = asyncio.get_running_loop()
        self._decoder = Decoder(max_list_bytes=limits.headers_bytes)
        self._outbox = Outbox(self._ended)
        self.streams: dict[int, Stream] = {}
        self._last_id = 0
        self._left = b""
        self._greeted = self._settled = self._leaving = self._left_alone = False
        self._open = False
        self._block: tuple[int, int, list[bytes]] | None = None  # a header block that goes on: stream, flags, parts
        self._received_bytes = 0
        self._ration = Ration(self._loop.time())
        self._transport: asyncio.Transport | None = None
        self._frames: dict[int, Callable[[int, int, bytes], None]] = {
            Kind.DATA: self._on_data,
            Kind.HEADERS: self._on_headers,
            Kind.PRIORITY: self._on_priority,
            Kind.RST_STREAM: self._on_reset,
            Kind.SETTINGS: self._on_settings,
            Kind.PING: self._on_ping,
            Kind.GOAWAY: self._on_go_away,
            Kind.WINDOW_UPDATE: self._on_window_update,
        }

    # From here on: called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self._transport = self._outbox.transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._open = True
        self._connections.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """It has gone."""
        self._transport = self._outbox.transport = None
        self._open = False
        self._drop_all()
        self._connections.discard(self)

    def pause_writing(self) -> None:
        """Who does not read its answers may not ask for more of them."""
        self._outbox.pause()
        if self._transport:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self._outbox.resume()
        if self._transport:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Work on all frames that are complete."""
        if not self._open:
            return
        try:
            self._read(self._left + data if self._left else data)
        except ProtocolError as error:
            self._fail(error.code, str(error))
        except HpackError as error:
            self._fail(ErrorCode.COMPRESSION_ERROR, str(error))
        self._outbox.flush()

    # From here on: called by the door.

    def leave(self) -> None:
        """Let the client begin nothing new; the connection closes after its last call."""
        if self._open and not self._leaving:
            self._leaving = True
            # It names no last stream, so calls on their way are still taken; the ping's echo says that there are none.
            self._outbox.write(frames.go_away(frames.MOST_WINDOW, ErrorCode.NO_ERROR, "the server is stopping"))
            self._outbox.write(frames.frame(Kind.PING, 0, 0, _STOPPING))
            for stream in list(self.streams.values()):
                if stream.receiver:
                    stream.receiver.leave()

    def abort(self) -> None:
        """Close at once."""
        if self._transport:
            self._transport.abort()

    def sweep(self, now: float) -> None:
        """End what takes too long."""
        stalled = not self._settled or not self._open or self._outbox.paused or self._outbox.blocked
        if stalled and now - self._outbox.moved_at > self._limits.stall_s:
            self.abort()
            return
        for stream in list(self.streams.values()):
            if stream.receiver and stream.receiver.overdue(now):
                stream.reset(ErrorCode.CANCEL)

    # From here on: frames.

    def _read(self, data: bytes) -> None:
        place = 0 if self._greeted else self._greet(data)
        size = len(data)
        while place >= 0 and size - place >= HEAD_BYTES and self._open:
            length = data[place] << 16 | data[place + 1] << 8 | data[place + 2]
            stop = place + HEAD_BYTES + length
            if length > frames.FRAME_BYTES:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"a frame has {length} bytes")
            if stop > size:
                break
            kind, flags = data[place + 3], data[place + 4]
            stream_id = int.from_bytes(data[place + 5 : place + 9]) & frames.MOST_WINDOW
            self._take(kind, flags, stream_id, data[place + HEAD_BYTES : stop])
            place = stop
        self._left = data[max(place, 0) :]

    def _greet(self, data: bytes) -> int:
        """Where the frames begin; -1 when the client's first words are not complete."""
        if not frames.PREFACE.startswith(data[: len(frames.PREFACE)]):
            self._close(_NOT_HTTP2)
            return -1
        if len(data) < len(frames.PREFACE):
            return -1
        self._greeted = True
        values = {
            Setting.MAX_CONCURRENT_STREAMS: self._limits.streams,
            Setting.INITIAL_WINDOW_SIZE: self._limits.window_bytes,
            Setting.MAX_HEADER_LIST_SIZE: self._limits.headers_bytes,
        }
        self._outbox.write(frames.settings(values))
        self._outbox.write(frames.window_update(0, _CONNECTION_WINDOW - 65_535))
        return len(frames.PREFACE)

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None:
            if kind != Kind.CONTINUATION or stream_id != self._block[0]:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")
            self._continue_block(self._block, flags, payload)
        elif not self._settled and kind != Kind.SETTINGS:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "the first frame is no SETTINGS")
        elif kind in self._frames:
            self._frames[kind](flags, stream_id, payload)
        elif kind in {Kind.PUSH_PROMISE, Kind.CONTINUATION}:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"a frame of type {kind} is not expected")
        else:
            self._spend()  # types that are not known are ignored

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._check_begun(stream_id)
        self._received_bytes += size
        if self._received_bytes > _CONNECTION_WINDOW // 2:
            self._outbox.write(frames.window_update(0, self._received_bytes))
            self._received_bytes = 0
        if not size and not flags & frames.END_STREAM:
            self._spend()
        stream = self.streams.get(stream_id)
        if stream is None or stream.receiver is None:
            return  # it was ended from here; the client may not know yet
        if stream.client_done:
            raise ProtocolError(ErrorCode.STREAM_CLOSED, "data after the end of a stream")
        stream.credit_bytes -= size
        if stream.credit_bytes < 0:
            stream.reset(ErrorCode.FLOW_CONTROL_ERROR)
            return
        if flags & frames.PADDED:
            payload = _unpadded(payload)
            stream.allow(size - len(payload))
        if payload:
            stream.receiver.data(payload)
        if flags & frames.END_STREAM and stream_id in self.streams:
            stream.client_done = True
            stream.receiver.end()

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id % 2 == 0:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"a client began stream {stream_id}")
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        if flags & frames.PRIORITY:
            if len(payload) < 5:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a priority is cut off")
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._on_block(flags, stream_id, payload)
        else:
            self._block = (stream_id, flags, [payload])

    def _continue_block(self, begun: tuple[int, int, list[bytes]], flags: int, payload: bytes) -> None:
        stream_id, first_flags, parts = begun
        parts.append(payload)
        size = sum(map(len, parts))
        if size > self._limits.headers_bytes or len(parts) > _MOST_PARTS:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, f"a header block has {size} bytes in {len(parts)} frames")
        if flags & frames.END_HEADERS:
            self._block = None
            self._on_block(first_flags, stream_id, b"".join(parts))

    def _on_block(self, flags: int, stream_id: int, block: bytes) -> None:
        fields = self._decoder.decode(block)  # always: later blocks refer to it
        stream = self.streams.get(stream_id)
        if stream is not None:
            if not flags & frames.END_STREAM or stream.client_done:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "trailers that do not end their stream")
            stream.client_done = True
            if stream.receiver:
                stream.receiver.end()
            return
        if stream_id <= self._last_id or self._left_alone:
            self._spend()
            return  # it was ended from here, or comes after the last word
        self._last_id = stream_id
        stream = Stream(
            stream_id, self._outbox, window=self._outbox.first_window, credit_bytes=self._limits.window_bytes
        )
        if len(self.streams) >= self._limits.streams:
            self._spend()
            self._outbox.write(frames.reset(stream_id, ErrorCode.REFUSED_STREAM))
            return
        self.streams[stream_id] = stream
        stream.client_done = bool(flags & frames.END_STREAM)
        stream.receiver = self._begin(stream, fields)
        if stream.receiver and stream.client_done:
            stream.receiver.end()

    def _on_priority(self, _flags: int, _stream_id: int, payload: bytes) -> None:
        self._spend()
        _need(payload, 5, "PRIORITY")

    def _on_reset(self, _flags: int, stream_id: int, payload: bytes) -> None:
        self._spend()
        _need(payload, 4, "RST_STREAM")
        self._check_begun(stream_id)
        stream = self.streams.get(stream_id)
        if stream:
            self._drop(stream)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id or len(payload) % 6 or (flags & frames.ACK and payload):
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS are malformed")
        if flags & frames.ACK:
            return
        self._spend()
        self._settled = True
        before = window = self._outbox.first_window
        for key, value in struct.iter_unpack(">HI", payload):
            if key == Setting.INITIAL_WINDOW_SIZE:
                window = value
        if window > frames.MOST_WINDOW:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, f"a window of {window} bytes")
        self._outbox.first_window = window
        for stream in list(self.streams.values()) if window != before else ():
            self._outbox.grant(stream, window - before)
        self._outbox.write(frames.frame(Kind.SETTINGS, frames.ACK, 0))

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        _need(payload, 8, "PING")
        if stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a PING on a stream")
        if not flags & frames.ACK:
            self._spend()
            self._outbox.write(frames.frame(Kind.PING, frames.ACK, 0, payload))
        elif payload == _STOPPING:
            self._left_alone = True
            self._close_when_done()

    def _on_go_away(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        self._leaving = self._left_alone = True
        self._close_when_done()

    def _on_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        _need(payload, 4, "WINDOW_UPDATE")
        size = int.from_bytes(payload) & frames.MOST_WINDOW
        if not size:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a WINDOW_UPDATE of 0")
        self._check_begun(stream_id)
        if not stream_id:
            self._outbox.grant(None, size)
        elif stream := self.streams.get(stream_id):
            self._outbox.grant(stream, size)

    # From here on: ends.

    def _check_begun(self, stream_id: int) -> None:
        if stream_id > self._last_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"stream {stream_id} was not begun")

    def _spend(self) -> None:
        self._ration.spend(self._loop.time())

    def _ended(self, stream: Stream) -> None:
        """A stream has said its last word."""
        self._ration.earn()
        if self.streams.get(stream.id) is stream:
            del self.streams[stream.id]
        receiver, stream.receiver = stream.receiver, None
        if receiver:
            receiver.cancel()
        self._close_when_done()

    def _drop(self, stream: Stream) -> None:
        """The other side has ended a stream, or is gone."""
        self._outbox.forget(stream)
        self.streams.pop(stream.id, None)
        receiver, stream.receiver = stream.receiver, None
        if receiver:
            receiver.cancel()
        self._close_when_done()

    def _drop_all(self) -> None:
        for stream in list(self.streams.values()):
            self._drop(stream)

    def _close_when_done(self) -> None:
        if self._left_alone and not self.streams:
            self._fail(ErrorCode.NO_ERROR, "")

    def _fail(self, code: ErrorCode, reason: str) -> None:
        """Say why, and close."""
        if self._open:
            self._outbox.write(frames.go_away(self._last_id, code, reason))
            self._outbox.flush()
            self._close()

    def _close(self, last_words: bytes = b"") -> None:
        self._open, self._outbox.transport = False, None
        self._outbox.moved_at = self._loop.time()
        if self._transport:
            if last_words:
                self._transport.write(last_words)
            self._transport.close()
        self._drop_all()


def _unpadded(payload: bytes) -> bytes:
    size = payload[0] if payload else 0
    if size >= len(payload):
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "padding is longer than its frame")
    return payload[1 : len(payload) - size]


def _need(payload: bytes, size: int, kind: str) -> None:
    if len(payload) != size:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"{kind} has {len(payload)} bytes, {size} are needed")
