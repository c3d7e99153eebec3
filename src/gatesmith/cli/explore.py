"""``gatesmith explore``: what fewer bits would save and lose, without building anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gatesmith.cli.asked import LabelsOption, MaxErrorOption, PruneOption, ToleranceOption, hertz
from gatesmith.cli.build import cycles
from gatesmith.cli.output import JsonFlag, emit, table, verb
from gatesmith.cli.progress import progress_bar
from gatesmith.cli.targets import check_writable

__all__ = ["explore"]


@verb
def explore(
    model: Annotated[
        Path, typer.Argument(help="Model file of any library that is read; its kind is told by its content.")
    ],
    board: Annotated[str, typer.Option(help="Board whose logic is counted.")],
    calibration: Annotated[Path | None, typer.Option(help="Data like the model's inputs: .npz, .npy or .csv")] = None,
    labels: LabelsOption = None,
    tolerance: ToleranceOption = None,
    max_error: MaxErrorOption = None,
    prune: PruneOption = False,
    clock_mhz: Annotated[float | None, typer.Option(help="Clock of the gateware; the board's own without.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write precision.json and precision.svg to this folder.")] = None,
    trust_pickle: Annotated[bool, typer.Option("--trust-pickle", help="Read a pickle: this runs its code.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Search for the cheapest precision and show the trade-off."""
    from gatesmith.aim import TOLERANCE
    from gatesmith.boards import find_board
    from gatesmith.explore import labels_of, search_precision
    from gatesmith.frontends import read_model
    from gatesmith.quantize import load_calibration

    found_board = find_board(board)
    clock_hz = hertz(clock_mhz)
    if out is not None:
        check_writable(out)
    graph = read_model(model, trust_pickle=trust_pickle)
    data = load_calibration(calibration) if calibration else None
    with progress_bar(as_json=as_json) as progress:
        found = search_precision(
            graph,
            data,
            labels=labels_of(graph, labels, data),
            tolerance=TOLERANCE if tolerance is None else tolerance,
            max_error=max_error,
            prune=prune,
            board=found_board,
            clock_hz=clock_hz,
            progress=progress,
        )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in found.files(graph.name).items():
            (out / name).write_bytes(content)
    result = {**found.to_json(), "seconds": round(found.seconds, 3)}
    emit(result, lambda: _show(result), as_json=as_json)


def _show(data: dict[str, Any]) -> None:
    fits = {True: "yes", False: "no", None: "unknown"}
    points = sorted(data["curve"], key=lambda point: (point["luts"], -point["metric"]))
    rows = [
        [
            "->" if point["chosen"] else "",
            point["kind"],
            f"{point['weight_bits']:.1f}, {point['activation_bits']:.1f}",
            f"{point['luts']}",
            fits[point["fits"]],
            f"{point['fmax_hz'] / 1e6:.0f} MHz",
            cycles(point["latency_cycles"]),
            f"{point['metric']:.2f} %",
            f"{point['loss']:+.2f}",
            "yes" if point["tolerable"] else "no",
        ]
        for point in points
    ]
    columns = ["", "kind", "bits of weights, activations", "LUTs", "fits", "fmax", "latency", data["metric"], "lost"]
    table("", [*columns, "tolerable"], rows)
    bound = f", an output may be off by {data['max_error']:g}" if "max_error" in data else ""
    print(
        f"\n{data['board']}, {data['metric']} of the float model {data['float_model']:.2f} % on {data['samples']} "
        f"samples, {data['tolerance']:g} points may be lost{bound}; {data['seconds']:.1f} s"
    )
