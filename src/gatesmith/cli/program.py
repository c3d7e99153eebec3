"""``gatesmith program``: put firmware on a device."""

from __future__ import annotations

from typing import Annotated

import typer

from gatesmith.cli.output import JsonFlag, emit, verb
from gatesmith.cli.targets import named

__all__ = ["program"]


@verb
def program(
    target: Annotated[str, typer.Argument(help="Reference or folder of a build.")],
    device: Annotated[str, typer.Option(help="Device, as 'gatesmith devices' lists it.")],
    board: Annotated[str | None, typer.Option(help="Board, when there is firmware for several.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Program a device and check that it runs the firmware."""
    from gatesmith.devices import open_device

    store, reference = named(target)
    firmware = store.load(reference, board=board)
    with open_device(device) as opened:
        opened.program(firmware)
    data = {"device": device, "board": firmware.board, "build_id": firmware.build_id}
    emit(
        data,
        lambda: print(f"{device} runs {firmware.name} for {firmware.board}, build {firmware.build_id}"),
        as_json=as_json,
    )
