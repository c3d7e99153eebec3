"""``gatesmith list``: what the local store holds."""

from __future__ import annotations

from gatesmith.cli.output import JsonFlag, emit, table, verb

__all__ = ["list_"]


@verb
def list_(as_json: JsonFlag = False) -> None:
    """List the artifacts in the local store."""
    from gatesmith.artifact.store import Store

    entries = Store().list()
    data = [
        {"reference": e.reference, "digest": e.digest, "boards": list(e.boards), "size_bytes": e.size_bytes}
        for e in entries
    ]
    rows = [[e.reference, e.digest[:19], ", ".join(e.boards) or e.problem, f"{e.size_bytes:,}"] for e in entries]
    emit(
        data,
        lambda: table("", ["reference", "digest", "boards", "bytes"], rows) if rows else print("the store is empty"),
        as_json=as_json,
    )
