"""A blob from a file to a registry: in one piece, and in pieces where one is too much or breaks.

Memory holds one chunk at a time. A registry says how much of a broken upload it has, and gets the rest.
"""

# Ref: OCI distribution-spec 1.1 "Pushing blobs": POST then PUT; chunked upload, OCI-Chunk-Min-Length

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from gatesmith.artifact.answer import Answer
from gatesmith.artifact.checked import CHUNK_BYTES, CheckedWriter, Told
from gatesmith.artifact.connection import TRANSIENT, Connection
from gatesmith.artifact.descriptor import Descriptor
from gatesmith.errors import RegistryRefused, RegistryUnreachable

__all__ = ["upload"]

PIECE_BYTES = 8 << 20
MAX_PIECE_BYTES = 256 << 20
_HELD = re.compile(r"(?:bytes=)?0-(\d{1,18})")
_DONE = {201, 202, 204}


def upload(
    connection: Connection, path: str, *, scope: str, descriptor: Descriptor, file: BinaryIO, told: Told | None = None
) -> None:
    """Store what a file holds as a blob; it is checked against the descriptor on its way.

    Raises
    ------
    AuthenticationFailed, DigestMismatch, RegistryRefused, RegistryUnreachable
    """
    try:
        _in_one_piece(connection, path, scope, descriptor, file, told)
    except (RegistryUnreachable, RegistryRefused) as error:
        if error.facts.get("final") or descriptor.size == 0 or error.facts.get("status") in {400, 405}:
            raise
        _in_pieces(connection, path, scope, descriptor, file, told)


def _start(connection: Connection, path: str, scope: str) -> Answer:
    return connection.call("POST", f"{path}/blobs/uploads/", scope=scope, good={202}, what="an upload")


def _in_one_piece(
    connection: Connection, path: str, scope: str, descriptor: Descriptor, file: BinaryIO, told: Told | None
) -> None:
    """The usual way: one exchange, tried once."""
    answer = _start(connection, path, scope)
    headers = _headers(descriptor.size)
    url = _closing(connection.target(answer), descriptor)

    def content() -> Iterator[bytes]:
        file.seek(0)
        writer = CheckedWriter(descriptor, told=told)
        while chunk := file.read(CHUNK_BYTES):
            writer.write(chunk)
            if writer.received == descriptor.size:
                writer.finish()  # before the last bytes leave: content that is not right is never complete there
            yield chunk
        writer.finish()

    with connection.exchange(
        "PUT", url, scope=scope, headers=headers, body=content, patience=connection.patience()
    ) as (answer, raw):
        connection.expect(answer, raw, _DONE, descriptor.digest)


def _in_pieces(
    connection: Connection, path: str, scope: str, descriptor: Descriptor, file: BinaryIO, told: Told | None
) -> None:
    _check(descriptor, file)
    answer = _start(connection, path, scope)
    minimum = answer.headers.get("oci-chunk-min-length", "")
    length = max(PIECE_BYTES, int(minimum) if minimum.isascii() and minimum.isdigit() and len(minimum) < 12 else 0)
    if length > MAX_PIECE_BYTES:
        raise RegistryRefused(f"registry {connection.registry} wants pieces of {length} bytes", length=length)
    url, place = connection.target(answer), 0
    patience = connection.patience()
    while place < descriptor.size:
        end = min(place + length, descriptor.size)
        try:
            answer = _piece(connection, url, scope, file, place, end)
            url, held = connection.target(answer), _held(answer, end)
        except (RegistryUnreachable, RegistryRefused) as error:
            if error.facts.get("final") or error.facts.get("status", 408) not in TRANSIENT:
                raise
            patience.wait(error)
            answer = connection.call("GET", url, scope=scope, good={204, 202}, what="an upload")
            url, held = connection.target(answer), _held(answer, 0)
        if not 0 <= held <= end:
            raise RegistryRefused(f"registry {connection.registry} says it has {held} bytes, {end} were sent")
        if held <= place:
            patience.wait(RegistryRefused(f"registry {connection.registry} takes no more of {descriptor.digest}"))
        else:
            patience.progressed()
            if told is not None:
                told(held - place)
        place = held
    url = _closing(url, descriptor)
    connection.call("PUT", url, scope=scope, good=_DONE, what=descriptor.digest)


def _piece(connection: Connection, url: str, scope: str, file: BinaryIO, begin: int, end: int) -> Answer:
    def content() -> Iterator[bytes]:
        file.seek(begin)
        left = end - begin
        while left and (chunk := file.read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk

    headers = {**_headers(end - begin), "content-range": f"{begin}-{end - 1}"}
    with connection.exchange(
        "PATCH", url, scope=scope, headers=headers, body=content, patience=connection.patience()
    ) as (answer, raw):
        return connection.expect(answer, raw, {202, 201, 204}, f"bytes {begin} to {end - 1}")


def _check(descriptor: Descriptor, file: BinaryIO) -> None:
    file.seek(0)
    writer = CheckedWriter(descriptor)
    while chunk := file.read(CHUNK_BYTES):
        writer.write(chunk)
    writer.finish()


def _held(answer: Answer, otherwise: int) -> int:
    match = _HELD.fullmatch(answer.headers.get("range", ""))
    # "0-0" is what registries say of an upload that has nothing yet
    return (int(match[1]) + 1 if match[1] != "0" else 0) if match else otherwise


def _headers(length: int) -> dict[str, str]:
    return {"content-type": "application/octet-stream", "content-length": str(length)}


def _closing(url: str, descriptor: Descriptor) -> str:
    return f"{url}{'&' if '?' in url else '?'}digest={descriptor.digest}"
