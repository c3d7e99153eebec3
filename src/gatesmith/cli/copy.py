"""``gatesmith copy``: an artifact from one registry to another, past the local store."""

from __future__ import annotations

from typing import Annotated

import typer

from gatesmith.cli.output import JsonFlag, emit, verb
from gatesmith.cli.registries import CaFile, PlainHttp, Realms, access_to, byte_progress, moved_json, moved_line

__all__ = ["copy"]


@verb
def copy(
    source: Annotated[str, typer.Argument(help="Reference in a registry.")],
    target: Annotated[str, typer.Argument(help="Its new name, in the same registry or another.")],
    plain_http: PlainHttp = False,
    ca: CaFile = None,
    realms: Realms = None,
    as_json: JsonFlag = False,
) -> None:
    """Copy an artifact, with its signatures, from one registry or repository to another."""
    from gatesmith.artifact.reference import Reference
    from gatesmith.artifact.remote import copy_artifact

    access = access_to(plain_http, ca, realms)
    with byte_progress("copy", as_json=as_json) as progress:
        moved = copy_artifact(Reference.parse(source), Reference.parse(target), access, progress=progress)
    emit(moved_json(moved), lambda: print(moved_line(moved)), as_json=as_json)
