"""``gatesmith delete``: take an artifact out of a registry; ``remove`` is for the local store."""

from __future__ import annotations

from typing import Annotated

import typer

from gatesmith.cli.output import JsonFlag, emit, verb
from gatesmith.cli.registries import CaFile, PlainHttp, Realms, access_to

__all__ = ["delete"]


@verb
def delete(
    reference: Annotated[str, typer.Argument(help="Reference in a registry.")],
    plain_http: PlainHttp = False,
    ca: CaFile = None,
    realms: Realms = None,
    as_json: JsonFlag = False,
) -> None:
    """Delete an artifact from a registry, under all tags that point to it."""
    from gatesmith.artifact.reference import Reference
    from gatesmith.artifact.remote import delete_artifact

    name = Reference.parse(reference)
    digest = delete_artifact(name, access_to(plain_http, ca, realms))
    emit({"reference": str(name), "digest": digest}, lambda: print(f"deleted {name} {digest}"), as_json=as_json)
