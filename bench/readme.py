"""Writes the README's figures and the table of ``docs/models.md`` from ``results/``, and the demo's own output.

``--check`` only compares.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
MODELS = HERE.parent / "docs" / "models.md"


def result(name: str) -> dict[str, Any]:
    """What a benchmark printed last."""
    data: dict[str, Any] = json.loads((HERE / "results" / f"{name}.json").read_text())
    return data


def figures() -> str:
    """The table."""
    iris, digits = result("build_time")["result"]["cases"]
    serving, exact = result("emulated_serving")["result"], result("exactness")["result"]["rows"]
    reference, rest, start = (result(name)["result"] for name in ("reference_speed", "serve_peers", "startup"))
    deployed, machine = result("deploy")["result"], result("build_time")["machine"]
    rows = [
        ("iris 4-8-3 to a proved iCEBreaker firmware", f"{iris['seconds_total']:.0f} s"),
        ("the same build again, unchanged", f"{1000 * iris['seconds_unchanged']:.0f} ms"),
        ("digits 64-16-10 to a proved ULX3S-85F firmware", f"{digits['seconds_total']:.0f} s"),
        ("accuracy, float and from the board: iris", _accuracy(iris)),
        ("accuracy, float and from the board: digits", _accuracy(digits)),
        ("samples compared over the wire, integers that differ", _compared(exact)),
        ("reference, 16-64-32-32-5, one core", f"{reference['samples_per_second']:,.0f} samples/s"),
        ("emulated iCEBreaker, device alone, batch 256", f"{serving['samples_per_second_device']:,} samples/s"),
        ("the same behind the REST server", f"{serving['samples_per_second_rest']:,} samples/s"),
        ("loading a firmware seen before", f"{1000 * serving['seconds_to_load_seen_firmware']:.0f} ms"),
        ("REST door, 16 floats, 32 clients, null device", _door(rest, "json-32")),
        ("gRPC door, the same", _door(rest, "grpc-32")),
        ("three boards killed, frozen, unplugged, damaged and swapped under load", _chaos(result("chaos")["result"])),
        ("ten models on two boards, Zipf: found loaded; a swap", _swaps(result("models_on_demand")["result"])),
        ("start of the server to ready, firmware seen before; memory", _start(start)),
        ("iris as ONNX, from registry and build service to the first answer", _deployed(deployed, 1)),
        ("the same elsewhere, where nothing is built", _deployed(deployed, 2)),
        ("MAGIC, XGBoost 50 trees of depth 4: LUT sites, ECP5 COMB, fmax", _trees(result("trees")["result"])),
        ("`gatesmith --help`", f"{1000 * start['help_seconds']:.0f} ms"),
    ]
    lines = ["| what | measured |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)]
    return "\n".join([*lines, "", f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}."])


def models() -> str:
    """A row for each model of ``bench/models.py``."""
    result_ = result("models")["result"]
    head = "| model | float | firmware | precision | bits | iCE40 LC | ECP5 COMB | cycles | fmax, MHz |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    for row in result_["rows"]:
        if "error" in row:
            continue
        boards = ["ice40", "ecp5"]
        logic = [f"{row[f'{b}_logic']:,}" if row[f"{b}_fits"] else _estimated(row[f"{b}_why"]) for b in boards]
        cycles, fmax = (
            ", ".join(f"{row[f'{b}_{key}']:g}" for b in boards if row[f"{b}_fits"]) for key in ("cycles", "fmax_mhz")
        )
        scores = [_score(row[key]) for key in ("float", "firmware")]
        cells = [f"{row['model']} ({row['library']})", *scores, row["precision"], row["bits"], *logic, cycles, fmax]
        lines.append(f"| {' | '.join(cells)} |")
    loss = f"Mean loss: {result_['mean_loss_points']:.2f} points of accuracy."
    return "\n".join([*lines, "", loss])


def _estimated(why: str) -> str:
    """What a design that does not fit needs, as the estimate or the router says."""
    ((about, count),) = re.findall(r"(about|needs) ([0-9]+)", why)
    return f"{'~' if about == 'about' else ''}{int(count):,}, does not fit"


def _score(value: float) -> str:
    return f"{value:.1f} %" if value > 1 else f"R² {value:.3f}"


def _accuracy(case: dict[str, Any]) -> str:
    return f"{100 * case['float_accuracy']:.1f} %, {100 * case['board_accuracy']:.1f} %"


def _compared(rows: list[dict[str, Any]]) -> str:
    differ = sum(row["differ_rtl_over_the_wire"] + row["differ_adder_graph"] for row in rows)
    return f"{sum(row['samples'] for row in rows):,}, {differ}"


def _door(rest: dict[str, Any], case: str) -> str:
    ours, theirs = rest["cases"][case]["gatesmith"], rest["cases"][case]["kserve"]
    times = ours["requests_per_s"] / theirs["requests_per_s"]
    return f"{ours['requests_per_s']:,.0f} requests/s, {times:.1f} times KServe's SDK"


def _chaos(chaos: dict[str, Any]) -> str:
    return f"{chaos['requests']:,} requests, {chaos['wrong']} wrong, {chaos['lost']} lost"


def _swaps(swaps: dict[str, Any]) -> str:
    return f"{100 * swaps['hit_rate']:.0f} %; {swaps['swap_p50_ms']:.0f} ms"


def _start(start: dict[str, Any]) -> str:
    return f"{start['server_ready_seconds']:.2f} s; {start['ready_mib']:.0f} MiB"


def _deployed(deployed: dict[str, Any], number: int) -> str:
    stages = (f"server {number} listens", f"server {number} is ready", f"server {number} gives its first answer")
    return f"{sum(deployed['seconds'][stage] for stage in stages):.1f} s"


def _trees(trees: dict[str, Any]) -> str:
    row = next(row for row in trees["rows"] if row["model"] == "default")
    return f"{row['xc7_sites']:,}, {row['ecp5_comb']:,}, {row['fmax_mhz']:.0f} MHz"


def demo() -> str:
    """The demo's output, as it prints it."""
    done = subprocess.run([sys.executable, "-m", "gatesmith", "demo"], capture_output=True, text=True, check=True)
    return "```\n" + "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n```"


def put(text: str, name: str, content: str) -> str:
    """The text with what lies between two markers replaced."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n{content}\n{end}{rest.partition(end)[2]}"


def main() -> None:
    """Write, or compare."""
    text = README.read_text()
    new = put(text, "figures", figures())
    page = MODELS.read_text()
    table = put(page, "models", models())
    if "--check" in sys.argv:
        sys.exit("figures are not those of bench/results" if (new, table) != (text, page) else 0)
    MODELS.write_text(table)
    README.write_text(put(new, "demo", demo()))


if __name__ == "__main__":
    main()
