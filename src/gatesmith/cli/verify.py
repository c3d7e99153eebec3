"""``gatesmith verify``: prove a firmware against the reference."""

from __future__ import annotations

from typing import Annotated

import typer

from gatesmith.cli.output import JsonFlag, emit, named, verb

__all__ = ["verify"]


@verb
def verify(
    target: Annotated[str, typer.Argument(help="Reference or folder of a build.")],
    board: Annotated[str | None, typer.Option(help="Board, when there is firmware for several.")] = None,
    level: Annotated[str, typer.Option(help="reference or rtl")] = "rtl",
    samples: Annotated[int, typer.Option(help="Random samples beside the corners.", min=1, max=10_000_000)] = 10_000,
    as_json: JsonFlag = False,
) -> None:
    """Compare a firmware with the reference, integer by integer, on corner and random samples."""
    from gatesmith.flow import verify_firmware

    store, reference = named(target)
    result = verify_firmware(store.load(reference, board=board), level=level, samples=samples)
    data = {
        "level": result.level,
        "samples": result.samples,
        "mismatches": result.mismatches,
        "seconds": round(result.seconds, 3),
    }
    emit(
        data,
        lambda: print(f"{level}: {result.samples} samples, {result.mismatches} differ, {result.seconds:.1f} s"),
        as_json=as_json,
    )
