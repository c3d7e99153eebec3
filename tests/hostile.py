"""A registry that does whatever a test tells it to, on plain sockets, and writes down what it was sent."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gatesmith.artifact import media_types
from gatesmith.artifact.descriptor import digest_of

__all__ = [
    "CLOSE",
    "Content",
    "HostileRegistry",
    "Seen",
    "answer",
    "chunked",
    "describe",
    "index",
    "manifest",
    "running",
]

CLOSE = b""
"""As a piece of an answer: end the connection here."""


@dataclass(frozen=True)
class Seen:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


Answerer = Callable[[Seen], Iterable[bytes]]


@dataclass
class Content:
    """What is served under a digest."""

    media_type: str
    body: bytes

    @property
    def digest(self) -> str:
        return digest_of(self.body)

    def describe(self, **changes: Any) -> dict[str, Any]:
        """A descriptor of it, or of something else."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.body), **changes}


def describe(content: Content, **changes: Any) -> dict[str, Any]:
    return content.describe(**changes)


def answer(body: bytes = b"", *, status: int = 200, media_type: str = "application/json", **headers: str) -> bytes:
    """A whole and proper answer; a header that is None is left out."""
    lines = {"content-type": media_type, "content-length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} x\r\n{head}\r\n".encode() + body


def chunked(pieces: Iterable[bytes], *, media_type: str = "application/octet-stream") -> Iterator[bytes]:
    """An answer of unknown length."""
    yield f"HTTP/1.1 200 x\r\ncontent-type: {media_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    for piece in pieces:
        yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    yield b"0\r\n\r\n"


def manifest(*layers: dict[str, Any], **more: Any) -> Content:
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(b"{}"), "size": 2}
    data = {"schemaVersion": 2, "mediaType": media_types.MANIFEST, "config": config, "layers": list(layers), **more}
    return Content(media_types.MANIFEST, json.dumps(data).encode())


def index(*manifests: dict[str, Any], **more: Any) -> Content:
    data = {"schemaVersion": 2, "mediaType": media_types.INDEX, "manifests": list(manifests), **more}
    return Content(media_types.INDEX, json.dumps(data).encode())


@dataclass
class HostileRegistry:
    """Serves contents by digest and by tag; ``routes`` come first: the end of a path to what answers it."""

    address: str = ""
    contents: dict[str, Content] = field(default_factory=dict)
    routes: dict[str, Answerer] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    def reset(self) -> None:
        """Forget everything."""
        self.contents, self.routes, self.seen = {}, {}, []
        self.hold(Content("application/vnd.oci.empty.v1+json", b"{}"))

    def hold(self, *contents: Content) -> None:
        """Serve these by their digests, the last one as tag v1 too."""
        for content in contents:
            self.contents[content.digest] = content
            self.contents["v1"] = content

    def respond(self, seen: Seen) -> Iterable[bytes]:
        """The answer to a request."""
        for path, answerer in self.routes.items():
            if seen.path.partition("?")[0].endswith(path):
                return answerer(seen)
        content = self.contents.get(seen.path.rpartition("/")[2])
        if content is None or "/referrers/" in seen.path:
            return [answer(b'{"errors":[{"code":"UNKNOWN","message":"not here"}]}', status=404)]
        body = b"" if seen.method == "HEAD" else content.body
        return [answer(body, media_type=content.media_type)]


@contextlib.contextmanager
def running(host: str = "127.0.0.1") -> Iterator[HostileRegistry]:
    """Run one until the block ends."""
    registry = HostileRegistry()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                while serve_one(self.request, registry):
                    pass

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False

    with Server((host, 0), Handler) as server:
        registry.address = f"{host}:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join(10)


def serve_one(line: socket.socket, registry: HostileRegistry) -> bool:
    """Read a request and answer it; whether the connection goes on."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = line.recv(65536)
        if not piece:
            return False
        head += piece
    head, _, body = head.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in rest)}
    seen = Seen(method, path, headers)
    registry.seen.append(seen)
    length = int(headers.get("content-length", "0"))
    while not path.endswith("/unread") and len(body) < length and (piece := line.recv(65536)):
        body += piece
    for piece in registry.respond(Seen(method, path, headers, body)):
        if piece == CLOSE:
            line.shutdown(socket.SHUT_RDWR)
            return False
        line.sendall(piece.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == "HEAD" else piece)
    return True
