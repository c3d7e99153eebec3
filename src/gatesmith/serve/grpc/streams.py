"""The sending half of a connection: streams, flow control, and one write for all that one turn of the loop says."""

# Ref: RFC 9113: 5.2 and 6.9 flow control (a window may become negative), 8.1 a server may end first

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from gatesmith.serve.grpc import frames
from gatesmith.serve.grpc.frames import FRAME_BYTES, MOST_WINDOW, ErrorCode, ProtocolError

__all__ = ["Outbox", "Receiver", "Stream"]


class Receiver(Protocol):
    """What takes in the request of one stream."""

    def data(self, part: bytes) -> None:
        """More of the body."""

    def end(self) -> None:
        """The request is complete."""

    def cancel(self) -> None:
        """Client, connection or time is gone; nothing can be sent any more."""

    def room(self) -> None:
        """All that was sent has left; there is room for more."""

    def leave(self) -> None:
        """The server is stopping: what would go on for ever ends."""

    def overdue(self, now: float) -> bool:
        """Whether the request takes too long to arrive."""


class Stream:
    """One call's way back to its client."""

    __slots__ = ("_outbox", "client_done", "credit_bytes", "id", "last_block", "pending", "receiver", "window")

    def __init__(self, stream_id: int, outbox: Outbox, *, window: int, credit_bytes: int) -> None:
        self.id, self._outbox = stream_id, outbox
        self.window = window  # what may be sent
        self.credit_bytes = credit_bytes  # what the client may still send
        self.receiver: Receiver | None = None
        self.client_done = False
        self.pending = bytearray()
        self.last_block: bytes | None = None

    def send(self, *, head: bytes = b"", body: bytes = b"", last: bytes | None = None) -> None:
        """Send a header block, part of a body, and a block of trailers that ends the stream; any may be left out."""
        self._outbox.send(self, head, body, last)

    def allow(self, size: int) -> None:
        """Let the client send more."""
        if size > 0:
            self.credit_bytes += size
            self._outbox.write(frames.window_update(self.id, size))

    def reset(self, code: ErrorCode) -> None:
        """End it without an answer."""
        self._outbox.reset(self, code)


class Outbox:
    """All that leaves on one connection.

    Parameters
    ----------
    ended : callable
        Told of each stream that has said its last word.
    """

    def __init__(self, ended: Callable[[Stream], None]) -> None:
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.first_window = 65_535  # of new streams, until the client says otherwise
        self._window = 65_535
        self.blocked: dict[int, Stream] = {}
        self.moved_at = self._loop.time()
        self.paused = False
        self._out: list[bytes] = []
        self._flushing = False

    def write(self, frame: bytes) -> None:
        """Queue a frame; it leaves before the loop waits again."""
        self._out.append(frame)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Let all leave that is queued."""
        self._flushing = False
        if self._out and self.transport:
            self.transport.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
        self._out.clear()

    def send(self, stream: Stream, head: bytes, body: bytes, last: bytes | None) -> None:
        """See :meth:`Stream.send`."""
        parts = [frames.headers(stream.id, head, end=False)] if head else []
        size = len(body)
        if size > FRAME_BYTES or size > self._window or size > stream.window or stream.pending or self.paused:
            if parts:
                self.write(parts[0])
            stream.pending += body
            stream.last_block = last
            self._pump(stream)
            return
        if size:
            self._window -= size
            stream.window -= size
            parts.append(frames.data(stream.id, body))
        if last is not None:
            parts.append(frames.headers(stream.id, last, end=True))
        if parts:
            self.write(b"".join(parts))
        if last is not None:
            self._end(stream)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """See :meth:`Stream.reset`."""
        self.write(frames.reset(stream.id, code))
        self.forget(stream)
        self._ended(stream)

    def forget(self, stream: Stream) -> None:
        """Nothing more is sent on a stream."""
        self.blocked.pop(stream.id, None)

    def grant(self, stream: Stream | None, size: int) -> None:
        """The client takes more, on one stream or on all.

        Raises
        ------
        ProtocolError
            When the connection's window becomes larger than any may be.
        """
        if stream is None:
            self._window += size
            if self._window > MOST_WINDOW:
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, f"the window became {self._window} bytes")
            self._pump_all()
            return
        stream.window += size
        if stream.window > MOST_WINDOW:
            stream.reset(ErrorCode.FLOW_CONTROL_ERROR)
        elif stream.id in self.blocked:
            self._pump(stream)

    def pause(self) -> None:
        """The line takes no more; what is sent now waits with its stream."""
        self.paused, self.moved_at = True, self._loop.time()

    def resume(self) -> None:
        """The line takes more."""
        self.paused, self.moved_at = False, self._loop.time()
        self._pump_all()

    def _pump_all(self) -> None:
        for stream in list(self.blocked.values()):
            if self._window <= 0 or self.paused:
                break
            self._pump(stream)

    def _pump(self, stream: Stream) -> None:
        """Send as much of what a stream holds back as its client and the line take."""
        pending = stream.pending
        while pending and not self.paused and (size := min(len(pending), FRAME_BYTES, self._window, stream.window)) > 0:
            self.write(frames.data(stream.id, bytes(pending[:size])))
            del pending[:size]
            self._window -= size
            stream.window -= size
            self.moved_at = self._loop.time()
        if pending or (self.paused and stream.last_block is not None):
            if not self.blocked:
                self.moved_at = self._loop.time()
            self.blocked[stream.id] = stream
            return
        self.forget(stream)
        if stream.last_block is not None:
            self.write(frames.headers(stream.id, stream.last_block, end=True))
            self._end(stream)
        elif stream.receiver:
            stream.receiver.room()

    def _end(self, stream: Stream) -> None:
        if not stream.client_done:  # what it still sends is not wanted
            self.write(frames.reset(stream.id, ErrorCode.NO_ERROR))
        self._ended(stream)
