"""``gatesmith doctor``: which tools are there, which are missing and how to get them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from gatesmith.cli.output import JsonFlag, emit, table, verb
from gatesmith.cli.progress import progress_bar

__all__ = ["doctor"]


@verb
def doctor(
    warm: Annotated[bool, typer.Option(help="Prepare the tools that are compiled at their first use.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Check the tools, say how to install what is missing, and prepare those that need it."""
    from gatesmith.toolchain.warm import warm_up
    from gatesmith.tools import tool_status

    found = list(tool_status())
    if warm:
        with progress_bar(as_json=as_json) as progress:
            warm_up(progress)
    rows = [
        [s.name, s.version if s.found else "missing", s.used_for, "" if s.found else s.how_to_install] for s in found
    ]
    emit(
        {"tools": [asdict(status) for status in found]},
        lambda: table("", ["tool", "version", "used for", "how to install"], rows),
        as_json=as_json,
    )
