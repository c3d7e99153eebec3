"""``gatesmith pack``: firmwares of several builds become one artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatesmith.cli.output import JsonFlag, emit, verb
from gatesmith.cli.targets import named

__all__ = ["pack"]


@verb
def pack(
    folders: Annotated[list[Path], typer.Argument(help="Folders that 'gatesmith build --out' wrote.")],
    tag: Annotated[str, typer.Option(help="Reference to store them under.")],
    as_json: JsonFlag = False,
) -> None:
    """Put the firmwares of several builds under one reference."""
    from gatesmith.artifact.reference import Reference
    from gatesmith.artifact.store import Store
    from gatesmith.errors import ArtifactNotFound

    name = str(Reference.parse(tag))
    firmwares = []
    for folder in folders:
        if not folder.is_dir():
            raise ArtifactNotFound(f"folder {str(folder)!r} does not exist", path=str(folder))
        store, reference = named(str(folder))
        firmwares += [
            store.load(reference, board=board, with_model=True) for board in store.inspect(reference)["boards"]
        ]
    digest = Store().save(name, firmwares)
    data = {"reference": name, "digest": digest, "boards": [f.board for f in firmwares]}
    emit(data, lambda: print(f"{data['reference']} {digest}: {', '.join(data['boards'])}"), as_json=as_json)
