"""``gatesmith pull``: an artifact from a registry into the local store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatesmith.cli.output import JsonFlag, emit, verb
from gatesmith.cli.registries import CaFile, PlainHttp, Realms, access_to, byte_progress, moved_json, moved_line

__all__ = ["pull"]


@verb
def pull(
    reference: Annotated[str, typer.Argument(help="Reference in a registry.")],
    locked: Annotated[bool, typer.Option("--locked", help="Refuse another digest than the lock file's.")] = False,
    lock: Annotated[Path, typer.Option(help="File that keeps the digest of every name.")] = Path("gatesmith.lock"),
    no_lock: Annotated[bool, typer.Option("--no-lock", help="Write no lock file.")] = False,
    plain_http: PlainHttp = False,
    ca: CaFile = None,
    realms: Realms = None,
    as_json: JsonFlag = False,
) -> None:
    """Fetch an artifact, every board of it, and note its digest in the lock file."""
    from gatesmith.artifact.lockfile import locked_digest, record_digest
    from gatesmith.artifact.reference import Reference
    from gatesmith.artifact.remote import pull_artifact
    from gatesmith.artifact.store import Store

    name, access = Reference.parse(reference), access_to(plain_http, ca, realms)
    expected = locked_digest(lock, str(name)) if locked else ""
    with byte_progress("pull", as_json=as_json) as progress:
        moved = pull_artifact(Store().layout, name, access, expected_digest=expected, progress=progress)
    if not no_lock:
        record_digest(lock, moved.reference, moved.digest)
    emit(moved_json(moved), lambda: print(moved_line(moved)), as_json=as_json)
