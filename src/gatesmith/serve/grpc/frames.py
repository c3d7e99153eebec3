"""Frames of HTTP/2: their numbers, and those that a server writes."""

# Ref: RFC 9113: 4.1 frame format, 6 frame types, 7 error codes, 3.4 connection preface

from __future__ import annotations

import struct
from enum import IntEnum

__all__ = ["ACK", "END_HEADERS", "END_STREAM", "FRAME_BYTES", "HEAD_BYTES", "MOST_WINDOW", "PADDED", "PREFACE"]
__all__ += ["PRIORITY", "ErrorCode", "Kind", "ProtocolError", "Setting", "data", "frame", "go_away", "headers"]
__all__ += ["reset", "settings", "window_update"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
FRAME_BYTES = 16_384  # the largest payload that every peer takes, and the largest that is taken here
MOST_WINDOW = (1 << 31) - 1
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20  # ACK and END_STREAM share a bit
_HEAD = struct.Struct(">HBBBI")
_LONG = struct.Struct(">I")


class Kind(IntEnum):
    """Types of frames."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Setting(IntEnum):
    """Parameters of a connection."""

    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ErrorCode(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ProtocolError(Exception):
    """A peer broke the protocol in a way that ends the connection."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def frame(kind: Kind, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One whole frame."""
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream_id) + payload


def headers(stream_id: int, block: bytes, *, end: bool) -> bytes:
    """A header block, in as many frames as it needs."""
    flags = END_STREAM if end else 0
    if len(block) <= FRAME_BYTES:
        return frame(Kind.HEADERS, flags | END_HEADERS, stream_id, block)
    parts = [block[start : start + FRAME_BYTES] for start in range(0, len(block), FRAME_BYTES)]
    out = [frame(Kind.HEADERS, flags, stream_id, parts[0])]
    out += [frame(Kind.CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
    out.append(frame(Kind.CONTINUATION, END_HEADERS, stream_id, parts[-1]))
    return b"".join(out)


def data(stream_id: int, payload: bytes) -> bytes:
    """Part of a body, not the last thing of its stream: trailers follow."""
    return frame(Kind.DATA, 0, stream_id, payload)


def settings(values: dict[Setting, int]) -> bytes:
    """This side's parameters."""
    return frame(Kind.SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in values.items()))


def window_update(stream_id: int, increment: int) -> bytes:
    """Leave to send more; stream 0 is the connection."""
    return frame(Kind.WINDOW_UPDATE, 0, stream_id, _LONG.pack(increment))


def reset(stream_id: int, code: ErrorCode) -> bytes:
    """The early end of a stream."""
    return frame(Kind.RST_STREAM, 0, stream_id, _LONG.pack(code))


def go_away(last_stream_id: int, code: ErrorCode, reason: str = "") -> bytes:
    """The end of a connection: what was begun after the last stream was not looked at."""
    return frame(Kind.GOAWAY, 0, 0, struct.pack(">II", last_stream_id, code) + reason.encode()[:200])
