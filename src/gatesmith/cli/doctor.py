"""``gatesmith doctor``: which tools are there, which are missing and how to get them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from gatesmith.cli.output import JsonFlag, emit, table, verb
from gatesmith.cli.progress import progress_bar

if TYPE_CHECKING:
    from gatesmith.tools import ToolStatus

__all__ = ["doctor"]


@verb
def doctor(
    warm: Annotated[bool, typer.Option(help="Prepare the tools that are compiled at their first use.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Check the tools, say how to install what is missing, and prepare those that need it."""
    from gatesmith.devices.verilated import compile_runtime
    from gatesmith.toolchain.warm import warm_up
    from gatesmith.tools import tool_status

    found = list(tool_status())
    if not as_json:
        _show(found)  # what is there is worth knowing even when a tool does not start
    if warm:
        with progress_bar(as_json=as_json) as progress:
            warm_up(progress)
            if all(status.found for status in found if status.name in {"verilator", "g++"}):
                progress("verilator", 0.0)
                compile_runtime()
                progress("ready", 1.0)
    if as_json:
        emit({"tools": [asdict(status) for status in found]}, lambda: None, as_json=True)


def _show(found: list[ToolStatus]) -> None:
    rows = [[status.name, status.version if status.found else "missing", status.used_for] for status in found]
    table("", ["tool", "version", "used for"], rows)
    for status in found:
        if not status.found:
            print(f"to get {status.name}: {status.how_to_install}")
