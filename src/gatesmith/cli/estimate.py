"""``gatesmith estimate``: what a model will need on a board, in seconds and without synthesis."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatesmith.cli.asked import (
    LabelsOption,
    MaxErrorOption,
    PrecisionOption,
    PruneOption,
    ToleranceOption,
    aim,
    hertz,
)
from gatesmith.cli.build import cycles
from gatesmith.cli.output import JsonFlag, emit, table, verb
from gatesmith.cli.progress import progress_bar

if TYPE_CHECKING:
    from gatesmith.aim import Aim

__all__ = ["boards_of", "estimate", "percent"]

ALL = "all"


@verb
def estimate(
    model: Annotated[
        Path, typer.Argument(help="Model file of any library that is read; its kind is told by its content.")
    ],
    board: Annotated[list[str], typer.Option(help="Board to look at; may be given again, or 'all'.")],
    calibration: Annotated[Path | None, typer.Option(help="Data like the model's inputs: .npz, .npy or .csv")] = None,
    precision: PrecisionOption = "8",
    tolerance: ToleranceOption = None,
    max_error: MaxErrorOption = None,
    labels: LabelsOption = None,
    prune: PruneOption = False,
    engine: Annotated[str, typer.Option(help="auto, unrolled or trees")] = "auto",
    clock_mhz: Annotated[float | None, typer.Option(help="Clock of the gateware; the board's own without.")] = None,
    trust_pickle: Annotated[bool, typer.Option("--trust-pickle", help="Read a pickle: this runs its code.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Predict resources, clock and latency; nothing is synthesised. --precision auto is a search for each board."""
    from gatesmith.frontends import read_model
    from gatesmith.quantize import load_calibration

    start = time.perf_counter()
    chosen = aim(precision, tolerance=tolerance, max_error=max_error, labels=labels, prune=prune)
    boards = boards_of(board)
    clock_hz = hertz(clock_mhz)
    graph = read_model(model, trust_pickle=trust_pickle)
    data = load_calibration(calibration) if calibration else None
    with progress_bar(as_json=as_json) as progress:
        rows = _rows(graph, data, chosen, boards, engine=engine, clock_hz=clock_hz, progress=progress)
    seconds = round(time.perf_counter() - start, 3)
    told = {**rows[0], "seconds": seconds} if len(rows) == 1 else {"estimates": rows, "seconds": seconds}
    emit(told, lambda: _show(rows), as_json=as_json)


def _rows(
    graph: Any, data: Any, chosen: Aim, boards: list[Any], *, engine: str, clock_hz: int | None, progress: Any
) -> list[dict[str, Any]]:
    from gatesmith.aim import AUTO
    from gatesmith.estimate import estimate as predict
    from gatesmith.gateware.engines import plan_logic

    rows: list[dict[str, Any]] = []
    for board in boards:
        if not rows or chosen.precision == AUTO:  # a search weighs one board's logic, anything else is the same for all
            found = chosen.quantized(graph, data, board=board, clock_hz=clock_hz, progress=progress)
            logic = plan_logic(found.graph, engine)
            quality = {name: found.facts[name] for name in ("agreement", "max_abs_error")}
        told = predict(found.graph, board, engine=engine, clock_hz=clock_hz, logic=logic).to_json()
        rows.append({**told, "precision": chosen.precision, **quality})
    return rows


def boards_of(names: list[str]) -> list[Any]:
    """Boards of these names; ``all`` is every board that the toolchains know."""
    from gatesmith.boards import all_boards, find_board

    if ALL in names:
        return list(all_boards().values())
    return [find_board(name) for name in dict.fromkeys(names)]


def percent(use: dict[str, Any]) -> str:
    """A resource's use in words."""
    share = f" ({100 * use['used'] / use['available']:.0f} %)" if use["available"] else ""
    return f"{use['used']}{share}"


def _show(rows: list[dict[str, Any]]) -> None:
    fits = {True: "yes", False: "no", None: "unknown"}
    lines = [
        [
            row["board"],
            fits[row["fits"]],
            ", ".join(f"{name} {percent(use)}" for name, use in row["utilization"].items() if use["used"]),
            f"{row['fmax_hz'] / 1e6:.0f} MHz for {row['clock_hz'] / 1e6:g}",
            f"{cycles(row['latency_cycles'])}, {1e9 * row['latency_cycles'] / row['clock_hz']:.0f} ns",
        ]
        for row in rows
    ]
    table("", ["board", "fits", "needs about", "fmax", "latency"], lines)
