"""``gatesmith tags``: what a repository in a registry has names for."""

from __future__ import annotations

from typing import Annotated

import typer

from gatesmith.cli.output import JsonFlag, emit, verb
from gatesmith.cli.registries import CaFile, PlainHttp, Realms, access_to

__all__ = ["tags"]


@verb
def tags(
    repository: Annotated[str, typer.Argument(help="Repository in a registry: registry.example/lab/iris")],
    plain_http: PlainHttp = False,
    ca: CaFile = None,
    realms: Realms = None,
    as_json: JsonFlag = False,
) -> None:
    """List the tags of a repository in a registry."""
    from gatesmith.artifact.reference import Reference
    from gatesmith.artifact.remote import list_tags

    name = Reference.parse(repository)
    found = list_tags(name, access_to(plain_http, ca, realms))
    emit({"repository": name.name, "tags": found}, lambda: print("\n".join(found)), as_json=as_json)
