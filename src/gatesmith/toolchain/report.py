"""nextpnr's words turned into facts: utilization, fmax, the critical path, the reason why a design does not fit.

Only what is the same on every machine is kept: no path, no time.

# Ref: nextpnr common/kernel/report.cc: --report writes critical_paths, fmax (achieved), utilization (used, available).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from gatesmith.errors import DesignDoesNotFit
from gatesmith.firmware import Report, Utilization

__all__ = ["does_not_fit", "parse_report", "slowest_path"]

_USED = re.compile(r"Info:\s+(\w+):\s+(\d+)/\s*(\d+)\s+\d+%$")
_NO_PLACE = re.compile(
    r"unable to place|no bels remaining|failed to expand region|unable to find legal placement|failed to place", re.I
)

_CELL_NAMES = re.compile(r"_(?:SB_|CC_|TRELLIS_|CCU2C|LUT\d|PFUMX|L6MUX|ALU|MUX2|DFF|[IO]BUF)|\$(?:nextpnr|CCU2|CARRY)")


def parse_report(text: str) -> Report:
    """Read what ``--report`` wrote."""
    data = json.loads(text)
    clocks = [float(clock["achieved"]) for clock in data["fmax"].values()]
    return Report(
        utilization={
            name: Utilization(used=int(numbers["used"]), available=int(numbers["available"]))
            for name, numbers in sorted(data["utilization"].items())
            if numbers["available"]  # GateMate lists modes of a cell too: used, and none available
        },
        fmax_hz=round(min(clocks, default=0.0) * 1e6, 0),
        critical_path=_critical_path(data["critical_paths"]),
    )


def does_not_fit(lines: Iterable[str], part: str) -> DesignDoesNotFit | None:
    """The error to raise when nextpnr's log says that the part is too small; None when it says something else."""
    rows = [match.groups() for line in lines if (match := _USED.match(line))]
    table = {name: (int(used), int(available)) for name, used, available in rows if int(available)}
    if not table:
        return None
    resource, (used, available) = max(table.items(), key=lambda row: row[1][0] / row[1][1])
    if used <= available and not any(_NO_PLACE.search(line) for line in lines):
        return None
    full = f"{part} has {available}" if used > available else f"{part} has {available} and cannot place that many"
    return DesignDoesNotFit(
        f"design needs {used} {resource}, {full}; try --precision 6 or a larger board",
        resource=resource,
        used=used,
        available=available,
    )


def slowest_path(paths: list[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The longest path between registers; None when there is none."""
    clocked = [path for path in paths if "<async>" not in (path["from"], path["to"])]
    return max(clocked, key=_length_ns, default=None)


def _critical_path(paths: list[Mapping[str, Any]]) -> tuple[str, ...]:
    slowest = slowest_path(paths)
    if slowest is None:
        return ()
    hops = [(float(hop["delay"]), _place(hop)) for hop in slowest["path"]]
    parts = [(place, [delay for delay, _ in group]) for place, group in groupby(hops, key=lambda hop: hop[1])]
    lines = [f"{sum(delays):.2f} ns, hops {len(delays)}, at {place}" for place, delays in parts]
    return (f"{_length_ns(slowest):.2f} ns in all", *lines)


def _length_ns(path: Mapping[str, Any]) -> float:
    return float(sum(hop["delay"] for hop in path["path"]))


def _place(hop: Mapping[str, Any]) -> str:
    """The signal of the design that a cell was made for: yosys appends one cell's name to another's."""
    cell = str((hop["to"] if "net" in hop else hop["from"])["cell"])
    return _CELL_NAMES.split(cell, maxsplit=1)[0] or "a cell that nextpnr added"
