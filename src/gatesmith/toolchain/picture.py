"""A picture of a placement: one square for each used tile, darker the more it holds, and the critical path on it.

Drawn from what nextpnr writes with ``--write`` and ``--report``. Its own ``--placed-svg`` draws every empty site too:
36 MB and two thirds of the time on an LFE5U-85F. The picture spans the tiles from the origin to the farthest used one.

# Ref: nextpnr frontend/json and common: attribute NEXTPNR_BEL, "X12/Y31/io1" or "X12Y31/LUT4"; report.cc: "loc".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from gatesmith.toolchain.report import slowest_path

__all__ = ["draw"]

_SITE = re.compile(r"X(\d+)/?Y(\d+)/")
_TILE = 8
_MARGIN = 4
_LEGEND = 24

# The first that a cell's type matches.
_KINDS = (
    ("multiplier", "#c2571a", re.compile(r"MULT|DSP|MAC16|ALU54|PADD")),
    ("memory", "#2c7a4b", re.compile(r"RAM(?!I?O)|DP16K|BSRAM|SDP|SPX?9?$|ROM")),
    ("pin", "#777777", re.compile(r"_IO$|IOB|IBUF|OBUF|GPIO|IOSEL")),
    ("logic", "#2b5f9e", re.compile("")),
)


def draw(routed: bytes, report: bytes) -> bytes:
    """SVG of a placement.

    Parameters
    ----------
    routed, report : bytes
        What nextpnr wrote; the design is its only module.
    """
    (module,) = json.loads(routed)["modules"].values()
    tiles: dict[tuple[int, int], Counter[str]] = {}
    for cell in module["cells"].values():
        site = _SITE.match(cell["attributes"].get("NEXTPNR_BEL", ""))
        if site:
            place = (int(site[1]), int(site[2]))
            tiles.setdefault(place, Counter())[_kind(cell["type"])] += 1
    most = max((held.total() for held in tiles.values()), default=1)
    squares = [_square(place, held, most) for place, held in sorted(tiles.items())]
    width = (max((x for x, _ in tiles), default=0) + 1) * _TILE + 2 * _MARGIN
    height = (max((y for _, y in tiles), default=0) + 1) * _TILE + 2 * _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {max(width, 260)} {height + _LEGEND}">',
        f'<rect width="{max(width, 260)}" height="{height + _LEGEND}" fill="#ffffff"/>',
        f'<rect x="1" y="1" width="{width - 2}" height="{height - 2}" fill="#f6f6f4" stroke="#cccccc"/>',
        *squares,
        *_path(json.loads(report)),
        *_legend(height),
        "</svg>",
    ]
    return ("\n".join(lines) + "\n").encode()


def _kind(type_: str) -> str:
    return next(name for name, _, pattern in _KINDS if pattern.search(type_))


def _square(place: tuple[int, int], held: Counter[str], most: int) -> str:
    x, y = (number * _TILE + _MARGIN for number in place)
    rarest = next(name for name, _, _ in _KINDS if held[name])
    colour = next(colour for name, colour, _ in _KINDS if name == rarest)
    opacity = 1.0 if rarest != "logic" else 0.25 + 0.75 * held.total() / most
    size = _TILE - 1
    return f'<rect x="{x}" y="{y}" width="{size}" height="{size}" fill="{colour}" fill-opacity="{opacity:.2f}"/>'


def _path(report: Mapping[str, Any]) -> list[str]:
    slowest = slowest_path(report["critical_paths"])
    if slowest is None:
        return []
    ends = [hop[end]["loc"] for hop in slowest["path"] for end in ("from", "to")]
    points = [" ".join(f"{number * _TILE + _MARGIN + _TILE / 2 - 0.5:g}" for number in place) for place in ends]
    kept = [point for index, point in enumerate(points) if index == 0 or point != points[index - 1]]
    return [f'<path d="M{"L".join(kept)}" fill="none" stroke="#b3123a" stroke-width="1.5"/>']


def _legend(top: int) -> list[str]:
    rows = [*((name, colour) for name, colour, _ in reversed(_KINDS)), ("critical path", "#b3123a")]
    return [
        f'<rect x="{_MARGIN + 50 * i}" y="{top + 6}" width="8" height="8" fill="{colour}"/>'
        f'<text x="{_MARGIN + 50 * i + 10}" y="{top + 13}" font-family="sans-serif" font-size="7">{name}</text>'
        for i, (name, colour) in enumerate(rows)
    ]
