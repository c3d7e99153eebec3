"""A blob from a registry into a writer that checks it; a transfer that breaks goes on where it stopped."""

# Ref: RFC 9110 section 14: Range, Content-Range, 206

from __future__ import annotations

import re
from collections.abc import Iterator

from gatesmith.artifact.answer import Answer, refusal
from gatesmith.artifact.checked import CheckedWriter
from gatesmith.artifact.connection import TRANSIENT, Connection
from gatesmith.artifact.descriptor import Descriptor
from gatesmith.artifact.patience import Patience, retry_after_s
from gatesmith.errors import DigestMismatch, GatesmithError, RegistryRefused, RegistryUnreachable

__all__ = ["download"]

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


def download(connection: Connection, url: str, *, scope: str, descriptor: Descriptor, writer: CheckedWriter) -> None:
    """Send a blob to a writer; whether it is the right one is for the writer's ``finish``.

    Raises
    ------
    ArtifactNotFound, AuthenticationFailed, DigestMismatch, RegistryRefused, RegistryUnreachable
    """
    patience = connection.patience()
    while writer.received < descriptor.size or not descriptor.size:
        start = writer.received
        try:
            failure, wanted_s = _once(connection, url, scope, descriptor, writer, patience)
        except RegistryUnreachable as error:
            if error.facts.get("final"):
                raise
            failure, wanted_s = error, None
        if failure is None:
            return
        if writer.received > start:
            patience.progressed()
        patience.wait(failure, wanted_s=wanted_s)


def _once(
    connection: Connection, url: str, scope: str, descriptor: Descriptor, writer: CheckedWriter, patience: Patience
) -> tuple[GatesmithError | None, float | None]:
    """One try: nothing when all came, else why not and how long to wait."""
    headers = {"range": f"bytes={writer.received}-"} if writer.received else {}
    with connection.exchange("GET", url, scope=scope, headers=headers, patience=patience) as (answer, raw):
        if answer.status in {200, 206}:
            _receive(connection.registry, answer, raw, writer, descriptor)
            return None, None
        failure = refusal(connection.registry, answer, descriptor.digest)
        if answer.status not in TRANSIENT:
            raise failure
        return failure, retry_after_s(answer.headers.get("retry-after", ""))


def _receive(
    registry: str, answer: Answer, raw: Iterator[bytes], writer: CheckedWriter, descriptor: Descriptor
) -> None:
    skip, expected = writer.received, descriptor.size
    if answer.status == 206:
        match = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        if not match or int(match[1]) != writer.received or match[3] not in {"*", str(descriptor.size)}:
            raise RegistryRefused(
                f"registry {registry} answers with another part of {descriptor.digest} than was asked for"
            )
        skip, expected = 0, descriptor.size - writer.received
    if answer.size is not None and answer.size != expected:
        raise DigestMismatch(
            f"registry {registry} sends {answer.size} bytes of {descriptor.digest}, {expected} were announced",
            digest=descriptor.digest,
            size=answer.size,
            announced_size=expected,
        )
    for chunk in raw:
        # A registry that ignores the range begins anew; what is there already is left out.
        kept = chunk[skip:]
        skip -= len(chunk) - len(kept)
        if kept:
            writer.write(kept)
