"""An HTTP/2 client of an independent library, and frames that no library would write."""

from __future__ import annotations

import contextlib
import socket
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Self

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

__all__ = ["HEAD", "PREFACE", "Peer", "RawPeer", "framed", "grpc_head", "raw_frame"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATH = "/inference.GRPCInferenceService/"


def grpc_head(method: str = "ServerLive", **more: str) -> list[tuple[str, str]]:
    """Header fields of a call; ``more`` replaces or adds, an empty value removes."""
    fields = {":method": "POST", ":scheme": "http", ":path": f"{PATH}{method}", ":authority": "here", "te": "trailers"}
    fields["content-type"] = "application/grpc"
    for name, value in more.items():
        fields[name.replace("__", ":").replace("_", "-")] = value
    return [(name, value) for name, value in fields.items() if value]


HEAD = grpc_head()


def framed(message: bytes = b"", *, flag: int = 0, length: int | None = None) -> bytes:
    return bytes([flag]) + (len(message) if length is None else length).to_bytes(4) + message


def raw_frame(kind: int, flags: int, stream: int, payload: bytes = b"", *, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">HBBBI", size >> 8, size & 0xFF, kind, flags, stream) + payload


class Peer:
    """A client that keeps the rules."""

    def __init__(self, port: int, **settings: int) -> None:
        self.line = socket.create_connection(("127.0.0.1", port), 20)
        self.line.settimeout(20)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        if settings:
            codes = {getattr(h2.settings.SettingCodes, name): value for name, value in settings.items()}
            self.h2.local_settings = h2.settings.Settings(client=True, initial_values=codes)
        self.h2.initiate_connection()
        self.events: list[Any] = []
        self.flush()

    def flush(self) -> None:
        self.line.sendall(self.h2.data_to_send())

    def call(self, head: list[tuple[str, str]], body: bytes = b"", *, end: bool = True, **more: Any) -> int:
        stream: int = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, head, end_stream=end and not body, **more)
        if body:
            self.h2.send_data(stream, body, end_stream=end)
        self.flush()
        return stream

    def until(self, kind: type, stream: int | None = None) -> Any:
        """The first event of a kind, read or yet to come."""
        while True:
            for event in self.events:
                if isinstance(event, kind) and (stream is None or event.stream_id == stream):
                    return event
            data = self.line.recv(65_536)
            assert data, f"the server closed the line; there was {self.events}"
            self.events += self.h2.receive_data(data)
            self.flush()

    def status(self, stream: int) -> tuple[int, str]:
        """gRPC status and message of a call that has ended."""
        self.until(h2.events.StreamEnded, stream)
        fields: dict[str, str] = {}
        for event in self.events:
            if (
                isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived))
                and event.stream_id == stream
            ):
                fields |= dict(event.headers)
        return int(fields.get("grpc-status", -1)), fields.get("grpc-message", "")

    def body(self, stream: int) -> bytes:
        self.until(h2.events.StreamEnded, stream)
        parts = [e.data for e in self.events if isinstance(e, h2.events.DataReceived) and e.stream_id == stream]
        return b"".join(parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self.line.close()


class RawPeer:
    """A client that writes what it likes."""

    def __init__(self, port: int, first: bytes = PREFACE + raw_frame(4, 0, 0)) -> None:
        self.line = socket.create_connection(("127.0.0.1", port), 20)
        self.line.settimeout(20)
        self.send(first)

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.line.sendall(data)

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Type, flags, stream and payload of what the server writes, until it closes the line."""
        left = b""
        while True:
            while len(left) >= 9 and len(left) >= 9 + int.from_bytes(left[:3]):
                size = int.from_bytes(left[:3])
                yield left[3], left[4], int.from_bytes(left[5:9]), left[9 : 9 + size]
                left = left[9 + size :]
            try:
                data = self.line.recv(65_536)
            except ConnectionResetError:
                return
            if not data:
                return
            left += data

    def goodbye(self) -> tuple[int, str]:
        """Error code and words of the server's GOAWAY."""
        for kind, _, _, payload in self.frames():
            if kind == 7:
                return int.from_bytes(payload[4:8]), payload[8:].decode()
        return -1, "closed without a word"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self.line.close()


def zipped(message: bytes, wbits: int = 31) -> bytes:
    squeeze = zlib.compressobj(9, wbits=wbits)
    return squeeze.compress(message) + squeeze.flush()
