"""What verbs that reach registries share: their options, and progress in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatesmith.cli.progress import progress_bar

if TYPE_CHECKING:
    from gatesmith.artifact.connection import Access
    from gatesmith.artifact.remote import Moved

__all__ = ["CaFile", "PlainHttp", "Realms", "access_to", "byte_progress", "moved_json", "moved_line"]

PlainHttp = Annotated[bool, typer.Option("--plain-http", help="Reach registries without TLS; passwords are readable.")]
CaFile = Annotated[Path | None, typer.Option("--ca", help="PEM file with further certificates to trust.")]
Realms = Annotated[list[str] | None, typer.Option("--realm", help="Host of a token server that may see passwords.")]


def access_to(plain_http: bool, ca: Path | None, realms: list[str] | None) -> Access:
    """How registries are reached, from the options."""
    from gatesmith.artifact.connection import Access

    return Access(plain_http=plain_http, ca=ca, realms=tuple(realms or ()))


@contextmanager
def byte_progress(stage: str, *, as_json: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar for bytes that are done, of all there are to do."""
    with progress_bar(as_json=as_json) as tell:
        tell(stage, 0.0)
        yield lambda done, total: tell(stage, done / total if total else 1.0)


def moved_json(moved: Moved) -> dict[str, str | int]:
    """What was moved, for scripts."""
    return {
        "reference": moved.reference,
        "digest": moved.digest,
        "copied_bytes": moved.copied_bytes,
        "skipped_bytes": moved.skipped_bytes,
    }


def moved_line(moved: Moved) -> str:
    """The same, for people."""
    there = f", {moved.skipped_bytes:,} were there" if moved.skipped_bytes else ""
    return f"{moved.reference} {moved.digest}: {moved.copied_bytes:,} bytes copied{there}"
