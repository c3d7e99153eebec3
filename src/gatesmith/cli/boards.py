"""``gatesmith boards``: what firmware can be built for."""

from __future__ import annotations

from gatesmith.cli.output import JsonFlag, emit, table, verb

__all__ = ["boards"]


@verb
def boards(as_json: JsonFlag = False) -> None:
    """List the boards that firmware can be built for."""
    from gatesmith.boards import all_boards
    from gatesmith.toolchain.flows import FLOWS

    found = all_boards().values()
    data = [
        {
            "name": b.name,
            "part": b.part,
            "family": b.family.value,
            "flow": FLOWS[b.family].router,
            "links": list(b.links),
        }
        for b in found
    ]
    rows = [[b.name, b.title, b.part, b.family.value, f"{b.clock_hz / 1e6:g} MHz"] for b in found]
    emit(data, lambda: table("", ["board", "", "part", "family", "clock"], rows), as_json=as_json)
