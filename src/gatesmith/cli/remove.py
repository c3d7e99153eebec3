"""``gatesmith remove``: take an artifact out of the local store."""

from __future__ import annotations

from typing import Annotated

import typer

from gatesmith.cli.output import JsonFlag, emit, verb

__all__ = ["remove"]


@verb
def remove(
    reference: Annotated[str, typer.Argument(help="Reference to remove.")],
    as_json: JsonFlag = False,
) -> None:
    """Remove a reference and free what nothing else needs."""
    from gatesmith.artifact.store import Store

    freed = Store().remove(reference)
    emit(
        {"reference": reference, "freed_bytes": freed},
        lambda: print(f"removed {reference}, {freed:,} bytes freed"),
        as_json=as_json,
    )
