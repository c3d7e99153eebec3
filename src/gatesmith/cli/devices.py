"""``gatesmith devices``: what can run firmware on this machine."""

from __future__ import annotations

from gatesmith.cli.output import JsonFlag, emit, table, verb

__all__ = ["devices"]


@verb
def devices(as_json: JsonFlag = False) -> None:
    """List the devices on this machine; the emulator is always there."""
    from dataclasses import asdict

    from gatesmith.devices import list_devices

    data = [asdict(found) for found in list_devices()]
    rows = [[str(value or "-") for value in one.values()] for one in data]
    emit(data, lambda: table("", ["id", "kind", "board", "state", "firmware"], rows), as_json=as_json)
