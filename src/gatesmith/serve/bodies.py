"""Request bodies as endpoints want them: decompressed within a bound, JSON apart from what is binary, big ones aside.

Small bodies are read at once on the event loop. From ``LARGE_BYTES`` on the work moves to a thread and is done in
slices (``rest_large``), because one call that parses megabytes would keep every other request waiting.
"""

# Ref: RFC 9110 section 8.4.1 (gzip, deflate: zlib's format), 15.5.16 (415 with Accept-Encoding)
# Ref: Triton binary tensor data extension: Inference-Header-Content-Length is the JSON's part of the body

from __future__ import annotations

import asyncio
import zlib
from typing import Any, NamedTuple

import orjson

from gatesmith.serve.rest_http import HttpError, Reply, Request
from gatesmith.serve.rest_large import loads_in_slices

__all__ = ["HEADER_LENGTH", "LARGE_BYTES", "Body", "compressed", "read_body", "read_object"]

LARGE_BYTES = 256 << 10
_WORTH_BYTES = 1400  # what fits in one packet gains nothing
_STEP_BYTES = 1 << 20
_PIECE_BYTES = 1 << 16  # is given to zlib at once: what it does not use it copies
_MOST_MEMBERS = 10_000
_WINDOWS = {b"gzip": (31,), b"x-gzip": (31,), b"deflate": (15, -15)}  # deflate without its header is seen too
HEADER_LENGTH = b"inference-header-content-length"


class Body(NamedTuple):
    """A body that was read: its JSON object, and the bytes behind it where a header says that there are some."""

    json: dict[str, Any]
    binary: memoryview | None = None


async def read_body(request: Request, limit_bytes: int) -> Body:
    """Decompress, divide and parse.

    Raises
    ------
    HttpError
        400, 413 or 415.
    """
    headers, body = request.headers, request.body
    if b"content-encoding" in headers:
        body = await _decompressed(headers[b"content-encoding"], body, limit_bytes)
    length = headers.get(HEADER_LENGTH)
    if length is None:
        return Body(_object(await _parsed(body)))
    return await _divided(length, body)


async def read_object(request: Request, limit_bytes: int) -> dict[str, Any]:
    """The JSON object of a body that may be empty, which stands for an empty object.

    Raises
    ------
    HttpError
    """
    return (await read_body(request, limit_bytes)).json if request.body else {}


async def compressed(request: Request, reply: Reply) -> Reply:
    """The reply with its body compressed, where the client asked and it is worth it."""
    accepted = request.headers.get(b"accept-encoding")
    if accepted is None or len(reply.body) < _WORTH_BYTES or reply.status != 200:
        return reply
    name = _chosen(accepted)
    if not name:
        return reply
    small = len(reply.body) < LARGE_BYTES
    body = _compress(name, reply.body) if small else await asyncio.to_thread(_compress, name, reply.body)
    marks = ((b"content-encoding", name), (b"vary", b"accept-encoding"))
    return reply._replace(body=body, headers=(*reply.headers, *marks))


async def _divided(length: bytes, body: bytes) -> Body:
    if not length.isdigit() or len(length) > 18 or int(length) > len(body):
        shown = length[:40].decode("latin-1")
        raise HttpError(400, f"Inference-Header-Content-Length is {shown!r}, the body has {len(body)} bytes")
    size = int(length)
    binary = memoryview(body)[size:]
    return Body(_object(await _parsed(body[:size])) if size else {}, binary)


async def _parsed(body: bytes) -> Any:
    try:
        if len(body) < LARGE_BYTES:
            return orjson.loads(body)
        return await asyncio.to_thread(loads_in_slices, body)
    except orjson.JSONDecodeError as error:
        raise HttpError(400, f"the body is not JSON: {error}") from None


def _object(data: Any) -> dict[str, Any]:
    if type(data) is not dict:
        raise HttpError(400, f"the body is a JSON {type(data).__name__}, an object is needed")
    return data


async def _decompressed(encoding: bytes, body: bytes, limit_bytes: int) -> bytes:
    name = encoding.strip().lower()
    if name in {b"", b"identity"}:
        return body
    if name not in _WINDOWS:
        shown = encoding[:40].decode("latin-1")
        what = f"content encoding {shown!r} is not read; gzip, deflate and identity are"
        raise HttpError(415, what, (b"accept-encoding", b"gzip, deflate, identity"))
    return await asyncio.to_thread(_inflated, name, body, limit_bytes)


def _inflated(name: bytes, body: bytes, limit_bytes: int) -> bytes:
    """All members of a compressed body; never more than the limit is held, whatever it would grow to."""
    windows = _WINDOWS[name]
    if len(windows) > 1 and not _is_zlib(body):
        windows = windows[1:]
    parts, size, members, place, piece = list[bytes](), 0, 0, 0, b""
    try:
        while piece or place < len(body):
            members += 1
            if members > _MOST_MEMBERS:
                raise HttpError(400, f"the body has more than {_MOST_MEMBERS} gzip members; send it as one")
            stream = zlib.decompressobj(windows[0])
            while not stream.eof:
                if not piece:
                    piece, place = body[place : place + _PIECE_BYTES], place + _PIECE_BYTES
                part = stream.decompress(piece, min(_STEP_BYTES, limit_bytes + 1 - size))
                piece = stream.unconsumed_tail
                size += len(part)
                if size > limit_bytes:
                    what = f"the body is larger than {limit_bytes} bytes when decompressed; send smaller batches"
                    raise HttpError(413, what)
                if not part and not piece and place >= len(body) and not stream.eof:
                    raise HttpError(400, f"the body ends within its {name.decode()} data")
                parts.append(part)
            if name == b"deflate":
                break
            piece = stream.unused_data
    except zlib.error as error:
        raise HttpError(400, f"the body is not {name.decode()} data: {error}") from None
    return b"".join(parts)


def _is_zlib(body: bytes) -> bool:
    """Whether a body starts with zlib's header."""
    # Ref: RFC 1950 section 2.2: method 8, and a check that makes both bytes a multiple of 31
    return len(body) >= 2 and body[0] & 15 == 8 and int.from_bytes(body[:2]) % 31 == 0


def _chosen(accepted: bytes) -> bytes:
    weights: dict[bytes, float] = {}
    for item in accepted.lower().split(b","):
        name, _, parameters = item.partition(b";")
        weights[name.strip()] = 0.0 if parameters.replace(b" ", b"").rstrip(b"0.") == b"q=" else 1.0
    return next((name for name in (b"gzip", b"deflate") if weights.get(name, 0.0)), b"")


def _compress(name: bytes, body: bytes) -> bytes:
    stream = zlib.compressobj(1, wbits=31 if name == b"gzip" else 15)
    return stream.compress(body) + stream.flush()
