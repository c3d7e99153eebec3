"""``gatesmith push``: an artifact of the local store into a registry."""

from __future__ import annotations

from typing import Annotated

import typer

from gatesmith.cli.output import JsonFlag, emit, verb
from gatesmith.cli.registries import CaFile, PlainHttp, Realms, access_to, byte_progress, moved_json, moved_line
from gatesmith.cli.targets import named

__all__ = ["push"]


@verb
def push(
    reference: Annotated[str, typer.Argument(help="Reference in the local store, or folder of a build.")],
    target: Annotated[str | None, typer.Argument(help="Name in the registry; the same name without.")] = None,
    add: Annotated[bool, typer.Option("--add", help="Keep what the registry has for other boards.")] = False,
    plain_http: PlainHttp = False,
    ca: CaFile = None,
    realms: Realms = None,
    as_json: JsonFlag = False,
) -> None:
    """Store an artifact in a registry."""
    from gatesmith.artifact.reference import Reference
    from gatesmith.artifact.remote import push_artifact

    store, name = named(reference, local=True)
    goal, access = Reference.parse(target or name), access_to(plain_http, ca, realms)
    with byte_progress("push", as_json=as_json) as progress:
        moved = push_artifact(store.layout, Reference.parse(name), goal, access, add=add, progress=progress)
    emit(moved_json(moved), lambda: print(moved_line(moved)), as_json=as_json)
