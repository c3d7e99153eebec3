"""Options of a build that several verbs share, and what is made of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gatesmith.aim import Aim

__all__ = ["LabelsOption", "MaxErrorOption", "PrecisionOption", "PruneOption", "ToleranceOption", "aim", "hertz"]

PrecisionOption = Annotated[
    str, typer.Option(help="Bits of weights and activations, 2 to 16; or 'auto' to search, or 'exact' for trees.")
]
ToleranceOption = Annotated[
    float | None, typer.Option(help="Of auto: points of accuracy, agreement or R2 that may be lost; 0.5 without.")
]
MaxErrorOption = Annotated[
    float | None, typer.Option(help="Of auto: most that any output may be from the float model's, as well.")
]
LabelsOption = Annotated[
    Path | None,
    typer.Option(help="Of auto: classes or targets of the calibration data, which may hold them itself as 'y'."),
]
PruneOption = Annotated[bool, typer.Option("--prune", help="Of auto: small weights may be set to zero.")]

LOWEST_MHZ, HIGHEST_MHZ = 0.001, 2000.0


def aim(precision: str, **options: Any) -> Aim:
    """How formats are chosen, as the command line says it."""
    from gatesmith.aim import PRECISION_WORDS, Aim

    digits = precision.removeprefix("-").isdecimal()
    if not digits and precision not in PRECISION_WORDS:
        raise typer.BadParameter(f"--precision is {precision!r}; a number of bits, {' or '.join(PRECISION_WORDS)}")
    return Aim(precision=int(precision) if digits else precision, **options)


def hertz(clock_mhz: float | None) -> int | None:
    """A clock as the command line gives it."""
    from gatesmith.errors import BuildError

    if clock_mhz is None:
        return None
    # beyond this no part of any family can be clocked; the board says what it can make
    if not (math.isfinite(clock_mhz) and LOWEST_MHZ <= clock_mhz <= HIGHEST_MHZ):
        raise BuildError(f"--clock-mhz is {clock_mhz:g}, {LOWEST_MHZ:g} to {HIGHEST_MHZ:g} are possible")
    return round(clock_mhz * 1e6)
