"""Calls: from the stream of a connection to a handler and back, with deadlines, cancelling and errors.

A handler knows messages as bytes and what its call says; it answers with bytes, or raises. Which status an error has
is the one table's in ``serve/errors.py``.
"""

# Ref: grpc/grpc doc/PROTOCOL-HTTP2.md; statuscodes.md: which failures of the transport have which status

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from gatesmith.errors import GatesmithError
from gatesmith.serve.errors import grpc_code, retry_after_s
from gatesmith.serve.grpc.hpack import Fields, encode
from gatesmith.serve.grpc.messages import (
    OK_HEAD,
    OK_LAST,
    ZIPPED_HEAD,
    Code,
    Deframer,
    Head,
    NotGrpc,
    RpcError,
    failure,
    framed,
    read_head,
)
from gatesmith.serve.grpc.room import Place, Room
from gatesmith.serve.grpc.streams import Receiver, Stream

__all__ = ["Call", "Calls", "Conversation", "Method", "Streaming", "Unary"]

_log = logging.getLogger(__name__)
_MOST_S = 86_400.0 * 365
_ONE = "this method takes one message, more were sent"


class Call(NamedTuple):
    """What a handler may want to know beside its message."""

    head: Head
    deadline: float | None  # by the loop's clock

    def remaining_us(self) -> int:
        """Time until the deadline; 0 means that there is none."""
        if self.deadline is None:
            return 0
        return max(int((self.deadline - asyncio.get_running_loop().time()) * 1e6), 1)


class Conversation(NamedTuple):
    """Both directions of a streaming call."""

    messages: AsyncIterator[bytes]
    send: Callable[[bytes], Awaitable[None]]


class Unary(NamedTuple):
    """A method of one message in, one out."""

    handler: Callable[[bytes, Call], Awaitable[bytes]]


class Streaming(NamedTuple):
    """A method of messages in and out, in any order; or of one in and any number out."""

    handler: Callable[[Conversation, Call], Awaitable[None]]
    takes_one: bool = False


Method = Unary | Streaming


@dataclass(frozen=True, kw_only=True, slots=True)
class Calls:
    """Where streams become calls.

    Parameters
    ----------
    methods : mapping of bytes to Method
        By path.
    message_limit_bytes, message_timeout_s
        Largest message, and the time that one may take to arrive.
    """

    methods: Mapping[bytes, Method]
    message_limit_bytes: int
    message_timeout_s: float
    window_bytes: int
    room: Room

    def begin(self, stream: Stream, fields: Fields) -> Receiver | None:
        """The receiver of a new stream; None when it was answered already."""
        try:
            head = read_head(fields)
            method = self.methods.get(head.path)
            if method is None:
                raise RpcError(Code.UNIMPLEMENTED, f"no method {head.path[:200].decode(errors='replace')} here")
        except NotGrpc as error:
            stream.send(last=encode(((b":status", b"%d" % error.status), (b"content-length", b"0"))))
            return None
        except RpcError as error:
            stream.send(last=failure(error.code, str(error), {}, begun=False))
            return None
        if isinstance(method, Unary):
            return _UnaryCall(self, stream, head, method)
        return _StreamingCall(self, stream, head, method)


class _Exchange:
    """What both kinds of calls share."""

    def __init__(self, calls: Calls, stream: Stream, head: Head) -> None:
        self._calls, self._stream, self._head = calls, stream, head
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()  # when the message that is awaited began
        self._deframer = Deframer(limit_bytes=calls.message_limit_bytes, encoding=head.encoding)
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._place: Place | None = None
        self._begun = self._over = False
        deadline = None
        if head.timeout_s is not None:
            deadline = self._since + min(head.timeout_s, _MOST_S)
            self._timer = self._loop.call_at(deadline, self._expire)
        self._call = Call(head, deadline)

    def data(self, part: bytes) -> None:
        """More of the body."""
        if self._over:
            return
        try:
            for message in self._deframer.feed(part):
                self.message(message)
        except RpcError as error:
            self.fail(error)
            return
        missing = self._deframer.missing_bytes - self._stream.credit_bytes
        if missing > 0 and self._place is None:
            self._place = self._calls.room.take(missing, lambda: self._stream.allow(missing))

    def message(self, message: bytes) -> None:
        """A whole message."""
        raise NotImplementedError

    def cancel(self) -> None:
        """The stream has ended, whoever ended it."""
        self._over = True
        if self._timer:
            self._timer.cancel()
        place, self._place = self._place, None
        self._give_back(place)
        if self._task and not self._task.done() and self._task is not asyncio.current_task(self._loop):
            self._task.cancel()

    def room(self) -> None:
        """Nothing waits for this by default."""

    def leave(self) -> None:
        """A call that ends by itself may end."""

    def fail(self, error: Exception) -> None:
        """End the call with the status of an error."""
        if self._over:
            return
        if isinstance(error, RpcError):
            code, words, more = error.code, str(error), {}
        elif isinstance(error, GatesmithError):
            code, words, more = Code[grpc_code(error)], str(error), _retry(error)
        else:
            _log.error("a call of %s failed", self._head.path.decode(errors="replace"), exc_info=error)
            code, words, more = Code.INTERNAL, f"the server failed: {type(error).__name__}; see its log", {}
        self._over = True
        self._stream.send(last=failure(code, words, more, begun=self._begun))

    def _expire(self) -> None:
        self.fail(RpcError(Code.DEADLINE_EXCEEDED, f"the call's {self._head.timeout_s:g} s are over"))

    def _give_back(self, place: Place | None) -> None:
        if place is not None:
            self._calls.room.give_back(place)


class _UnaryCall(_Exchange):
    """One message in, one out."""

    def __init__(self, calls: Calls, stream: Stream, head: Head, method: Unary) -> None:
        super().__init__(calls, stream, head)
        self._handler = method.handler
        self._message: bytes | None = None

    def message(self, message: bytes) -> None:
        """Keep it until the request is complete."""
        if self._message is not None:
            raise RpcError(Code.INTERNAL, _ONE)
        self._message = message

    def end(self) -> None:
        """Begin to work."""
        if self._over:
            return
        if self._message is None or self._deframer.missing_bytes:
            self.fail(RpcError(Code.INTERNAL, "the request ended before its message was complete"))
            return
        self._task = self._loop.create_task(self._run(self._message))

    def overdue(self, now: float) -> bool:
        """Until the work begins, the client is to blame."""
        return self._task is None and now - self._since > self._calls.message_timeout_s

    async def _run(self, message: bytes) -> None:
        try:
            answer = await self._handler(message, self._call)
        except Exception as error:
            self.fail(error)
            return
        if not self._over:
            self._over = True
            zipped = self._head.takes_gzip
            head = ZIPPED_HEAD if zipped else OK_HEAD
            self._stream.send(head=head, body=framed(answer, zipped=zipped), last=OK_LAST)


class _End(Enum):
    """Who says that no more messages come."""

    CLIENT = 1
    SERVER = 2


class _StreamingCall(_Exchange):
    """Messages in and out, in any order."""

    def __init__(self, calls: Calls, stream: Stream, head: Head, method: Streaming) -> None:
        super().__init__(calls, stream, head)
        # What waits is bounded by the stream's window, and beyond that by the room that a large message has.
        self._queue: asyncio.Queue[tuple[bytes, Place | None] | _End] = asyncio.Queue()
        self._queued_bytes = 0
        self._takes_one, self._taken = method.takes_one, False
        self._drained = asyncio.Event()
        self._handler = method.handler
        self._task = self._loop.create_task(self._run())

    def data(self, part: bytes) -> None:
        """More of the body; from here on the message has its time."""
        if not self._deframer.missing_bytes:
            self._since = self._loop.time()
        super().data(part)

    def message(self, message: bytes) -> None:
        """To the handler, with the room that it took; the next one takes its own."""
        if self._takes_one and self._taken:
            raise RpcError(Code.INTERNAL, _ONE)
        self._taken = True
        place, self._place = self._place, None
        self._queued_bytes += len(message)
        self._queue.put_nowait((message, place))

    def cancel(self) -> None:
        """The stream has ended; what nobody took in gives its room back."""
        while not self._queue.empty():
            if not isinstance(waiting := self._queue.get_nowait(), _End):
                self._give_back(waiting[1])
        super().cancel()

    def end(self) -> None:
        """The client says no more."""
        if self._deframer.missing_bytes:
            self.fail(RpcError(Code.INTERNAL, "the request ended inside a message"))
        self._queue.put_nowait(_End.CLIENT)

    def leave(self) -> None:
        """What has arrived is answered, and then the client is sent elsewhere."""
        self._queue.put_nowait(_End.SERVER)

    def overdue(self, now: float) -> bool:
        """A message that has begun has to arrive."""
        return bool(self._deframer.missing_bytes) and now - self._since > self._calls.message_timeout_s

    def room(self) -> None:
        """All that was sent has left."""
        self._drained.set()

    async def _run(self) -> None:
        try:
            await self._handler(Conversation(self._messages(), self._send), self._call)
        except Exception as error:
            self.fail(error)
            return
        if not self._over:
            self._over = True
            self._stream.send(head=b"" if self._begun else OK_HEAD, last=OK_LAST)

    async def _messages(self) -> AsyncIterator[bytes]:
        while not isinstance(taken := await self._queue.get(), _End):
            message, place = taken
            self._give_back(place)
            yield message
            self._queued_bytes -= len(message)
            # A large message that has begun gets its window from the room, and from nowhere else.
            if not self._over and self._place is None:
                self._stream.allow(self._calls.window_bytes - self._queued_bytes - self._stream.credit_bytes)
        if taken is _End.SERVER:
            raise RpcError(Code.UNAVAILABLE, "the server is stopping")

    async def _send(self, message: bytes) -> None:
        head, self._begun = b"" if self._begun else OK_HEAD, True
        self._drained.clear()
        self._stream.send(head=head, body=framed(message))
        if self._stream.pending:
            await self._drained.wait()


def _retry(error: GatesmithError) -> dict[str, str]:
    return {"retry-after-ms": str(retry_after_s(error) * 1000)} if error.retryable else {}
