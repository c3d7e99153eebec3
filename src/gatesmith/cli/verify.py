"""``gatesmith verify``: prove a firmware against the reference."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gatesmith.cli.output import JsonFlag, emit, verb
from gatesmith.cli.targets import named

__all__ = ["verify"]


@verb
def verify(
    target: Annotated[str, typer.Argument(help="Reference or folder of a build.")],
    board: Annotated[str | None, typer.Option(help="One board's firmware; all of them without.")] = None,
    level: Annotated[str, typer.Option(help="reference, rtl, or bitstream (iCE40)")] = "rtl",
    samples: Annotated[int, typer.Option(help="Random samples beside the corners.", min=1, max=10_000_000)] = 10_000,
    as_json: JsonFlag = False,
) -> None:
    """Compare a firmware with the reference, integer by integer, on corner and random samples."""
    from gatesmith.proof import verify_firmware

    store, reference = named(target)
    boards: dict[str, dict[str, Any]] = {}
    for name in [board] if board else store.inspect(reference)["boards"]:
        result = verify_firmware(store.load(reference, board=name), level=level, samples=samples)
        boards[name] = {
            "samples": result.samples,
            "mismatches": result.mismatches,
            "seconds": round(result.seconds, 3),
        }
    totals = {key: sum(one[key] for one in boards.values()) for key in ("samples", "mismatches", "seconds")}
    emit({"level": level, **totals, "boards": boards}, lambda: _show(level, boards), as_json=as_json)


def _show(level: str, boards: dict[str, dict[str, Any]]) -> None:
    for name, one in boards.items():
        print(f"{name} {level}: {one['samples']} samples, {one['mismatches']} differ, {one['seconds']:.1f} s")
