"""What gRPC lays over HTTP/2: status codes, heads of requests, framed and perhaps compressed messages, trailers."""

# Ref: grpc/grpc doc/PROTOCOL-HTTP2.md: Timeout, Content-Type, Length-Prefixed-Message, Status-Message, Trailers-Only
# Ref: grpc/grpc doc/compression.md: a compressed message without an encoding is INTERNAL, an unknown one UNIMPLEMENTED
# Ref: grpc/grpc doc/http-grpc-status-mapping.md, statuscodes.md

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from google.protobuf.message import DecodeError

from gatesmith.oip.schema import Message
from gatesmith.serve.grpc.hpack import Fields, encode

__all__ = ["OK_HEAD", "OK_LAST", "ZIPPED_HEAD", "Code", "Deframer", "Head", "NotGrpc", "RpcError", "failure"]
__all__ += ["framed", "parsed", "read_head"]

_PREFIX_BYTES = 5
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_WINDOW_BITS = {b"gzip": 31, b"deflate": 15}  # the second is zlib's format, as in HTTP
_TYPE = (b"content-type", b"application/grpc")
_ACCEPTED = (b"grpc-accept-encoding", b"identity, deflate, gzip")
OK_HEAD = encode(((b":status", b"200"), _TYPE))
ZIPPED_HEAD = encode(((b":status", b"200"), _TYPE, (b"grpc-encoding", b"gzip")))
OK_LAST = encode(((b"grpc-status", b"0"),))
_WORTH_ZIPPING = 1024


class Code(IntEnum):
    """gRPC's status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """A call ends with a status other than OK."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotGrpc(Exception):
    """A request that is HTTP and not gRPC; it gets an HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


class Head(NamedTuple):
    """What the header fields of a request say."""

    path: bytes
    timeout_s: float | None
    encoding: bytes
    takes_gzip: bool
    fields: Fields

    def get(self, name: bytes) -> bytes:
        """The value of a field, or nothing."""
        return next((value for key, value in self.fields if key == name), b"")


@lru_cache(maxsize=256)
def read_head(fields: Fields) -> Head:
    """Read a request's fields; clients repeat them, so the last ones are remembered.

    Raises
    ------
    NotGrpc
    RpcError
    """
    given = dict(fields)
    if given.get(b":method") != b"POST":
        raise NotGrpc(405)
    kind = given.get(b"content-type", b"")
    if not (kind == b"application/grpc" or kind.startswith((b"application/grpc+", b"application/grpc;"))):
        raise NotGrpc(415)
    encoding = given.get(b"grpc-encoding", b"identity")
    if encoding != b"identity" and encoding not in _WINDOW_BITS:
        raise RpcError(
            Code.UNIMPLEMENTED, f"messages in {_text(encoding)} are not read; send gzip, deflate or identity"
        )
    return Head(
        given.get(b":path", b""),
        _timeout_s(given.get(b"grpc-timeout")),
        encoding,
        encoding != b"identity" and b"gzip" in given.get(b"grpc-accept-encoding", b""),
        fields,
    )


class Deframer:
    """Messages out of the pieces of a body.

    Parameters
    ----------
    limit_bytes : int
        Largest message, as sent and as decompressed.
    """

    def __init__(self, *, limit_bytes: int, encoding: bytes) -> None:
        self._limit_bytes, self._encoding = limit_bytes, encoding
        self._buffer = bytearray()
        self.missing_bytes = 0
        """What the message that has begun still lacks, as far as is known."""

    def feed(self, part: bytes) -> Iterator[bytes]:
        """All messages that this piece completes.

        Raises
        ------
        RpcError
        """
        if not self._buffer and len(part) >= _PREFIX_BYTES and int.from_bytes(part[1:5]) == len(part) - _PREFIX_BYTES:
            yield self._message(part[0], part[_PREFIX_BYTES:])  # as most clients send small messages
            return
        self._buffer += part
        while self._is_whole():
            stop = _PREFIX_BYTES + int.from_bytes(self._buffer[1:5])
            flag, message = self._buffer[0], bytes(self._buffer[_PREFIX_BYTES:stop])
            del self._buffer[:stop]
            yield self._message(flag, message)

    def _is_whole(self) -> bool:
        have = len(self._buffer)
        if have < _PREFIX_BYTES:
            self.missing_bytes = _PREFIX_BYTES - have if have else 0
            return False
        length = int.from_bytes(self._buffer[1:5])
        if length > self._limit_bytes:
            raise self._too_large(length)
        self.missing_bytes = max(_PREFIX_BYTES + length - have, 0)
        return not self.missing_bytes

    def _message(self, flag: int, message: bytes) -> bytes:
        if len(message) > self._limit_bytes:
            raise self._too_large(len(message))
        if not flag:
            return message
        if flag != 1 or self._encoding not in _WINDOW_BITS:
            raise RpcError(Code.INTERNAL, "a message is marked as compressed, and no grpc-encoding says how")
        unzip = zlib.decompressobj(_WINDOW_BITS[self._encoding])
        try:
            plain = unzip.decompress(message, self._limit_bytes + 1)
        except zlib.error as error:
            raise RpcError(Code.INTERNAL, f"a message cannot be decompressed: {error}") from None
        if len(plain) > self._limit_bytes:
            raise self._too_large(len(plain))
        if not unzip.eof:
            raise RpcError(Code.INTERNAL, "a compressed message is cut off")
        return plain

    def _too_large(self, size: int) -> RpcError:
        limit = self._limit_bytes
        return RpcError(
            Code.RESOURCE_EXHAUSTED, f"a message has {size} bytes or more, {limit} are taken; send smaller batches"
        )


def parsed(kind: Message, data: bytes) -> Message:
    """A message out of its bytes.

    Raises
    ------
    RpcError
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        raise RpcError(Code.INVALID_ARGUMENT, f"the message is no {kind.DESCRIPTOR.name}") from None


def framed(message: bytes, *, zipped: bool = False) -> bytes:
    """A message as it is sent."""
    if zipped and len(message) >= _WORTH_ZIPPING:
        squeeze = zlib.compressobj(1, wbits=31)
        message = squeeze.compress(message) + squeeze.flush()
        return b"\x01" + len(message).to_bytes(4) + message
    return b"\x00" + len(message).to_bytes(4) + message


def failure(code: Code, message: str, more: Mapping[str, str], *, begun: bool) -> bytes:
    """The header block that ends a call with an error; alone, when nothing was sent before."""
    fields = () if begun else ((b":status", b"200"), _TYPE)
    words = quote(message.encode(errors="replace")[:2000], safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()
    last: Fields = (
        *fields,
        (b"grpc-status", b"%d" % code),
        (b"grpc-message", words),
        *((key.encode(), value.encode()) for key, value in more.items()),
    )
    return encode((*last, _ACCEPTED) if code is Code.UNIMPLEMENTED else last)


def _timeout_s(value: bytes | None) -> float | None:
    if value is None:
        return None
    number, unit = value[:-1], value[-1:]
    if not number.isdigit() or len(number) > 8 or unit not in _SECONDS:
        raise RpcError(Code.INVALID_ARGUMENT, f"grpc-timeout is {_text(value)}, a number and one of HMSmun are needed")
    return int(number) * _SECONDS[unit]


def _text(value: bytes) -> str:
    return repr(value[:40].decode(errors="replace"))
