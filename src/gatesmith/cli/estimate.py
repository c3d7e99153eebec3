"""``gatesmith estimate``: what a model will need on a board, in seconds and without synthesis."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gatesmith.cli.build import cycles, hertz
from gatesmith.cli.output import JsonFlag, emit, table, verb

__all__ = ["boards_of", "estimate", "percent"]

ALL = "all"


@verb
def estimate(
    model: Annotated[
        Path, typer.Argument(help="Model file of any library that is read; its kind is told by its content.")
    ],
    board: Annotated[list[str], typer.Option(help="Board to look at; may be given again, or 'all'.")],
    calibration: Annotated[Path | None, typer.Option(help="Data like the model's inputs: .npz, .npy or .csv")] = None,
    precision: Annotated[int, typer.Option(help="Bits of weights and activations, 2 to 16.")] = 8,
    engine: Annotated[str, typer.Option(help="auto, unrolled or trees")] = "auto",
    clock_mhz: Annotated[float | None, typer.Option(help="Clock of the gateware; the board's own without.")] = None,
    trust_pickle: Annotated[bool, typer.Option("--trust-pickle", help="Read a pickle: this runs its code.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Predict resources, clock and latency; nothing is synthesised."""
    from gatesmith.estimate import estimate as predict
    from gatesmith.frontends import read_model
    from gatesmith.gateware.engines import plan_logic
    from gatesmith.quantize import load_calibration, quantize

    start = time.perf_counter()
    boards = boards_of(board)
    clock_hz = hertz(clock_mhz)
    graph = read_model(model, trust_pickle=trust_pickle)
    integer, report = quantize(graph, load_calibration(calibration) if calibration else None, precision=precision)
    logic = plan_logic(integer, engine)
    found = [predict(integer, one, engine=engine, clock_hz=clock_hz, logic=logic) for one in boards]
    quality = {"precision": precision, "agreement": report.agreement, "max_abs_error": report.max_abs_error}
    rows = [{**one.to_json(), **quality} for one in found]
    seconds = round(time.perf_counter() - start, 3)
    data = {**rows[0], "seconds": seconds} if len(rows) == 1 else {"estimates": rows, "seconds": seconds}
    emit(data, lambda: _show(rows), as_json=as_json)


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
