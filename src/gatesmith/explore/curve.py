"""The trade-off that a search saw: what each precision costs and what it loses, as rows and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

__all__ = ["Point", "draw", "frontier"]

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 560, 320, 56, 44, 34, 16
INK, GRID, SEARCH, UNIFORM, LIMIT = "#222222", "#dddddd", "#2b5f9e", "#c2571a", "#b3123a"


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One precision.

    ``kind`` is ``uniform`` (the same bits everywhere) or ``search``; ``bits`` the mean of a weight's and of an
    activation's; ``metric`` and ``loss`` in per cent and points on the data that decides.
    """

    kind: str
    bits: tuple[float, float]
    luts: int
    metric: float
    loss: float
    tolerable: bool
    chosen: bool = False
    fits: bool | None = None
    fmax_hz: float = 0.0
    latency_cycles: int = 0

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return {
            "kind": self.kind,
            "weight_bits": round(self.bits[0], 2),
            "activation_bits": round(self.bits[1], 2),
            "luts": self.luts,
            "metric": round(self.metric, 3),
            "loss": round(self.loss, 3),
            "tolerable": self.tolerable,
            "chosen": self.chosen,
            "fits": self.fits,
            "fmax_hz": self.fmax_hz,
            "latency_cycles": self.latency_cycles,
        }


def frontier(points: Sequence[Point]) -> list[Point]:
    """Points that none beats in both LUTs and metric, the smallest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.luts, -p.metric)):
        if not best or point.metric > best[-1].metric:
            best.append(point)
    return best


def draw(points: Sequence[Point], *, title: str, metric: str, limit: float) -> bytes:
    """SVG: LUTs to the right, the metric up, a line at the least that is tolerable.

    Parameters
    ----------
    limit : float
        That least value of the metric, in per cent.
    """
    luts = _span([point.luts for point in points], 0.05)
    values = _span([limit, *(p.metric for p in points if p.metric > limit - 12)], 0.08)

    def x(value: float) -> float:
        return LEFT + (value - luts[0]) / (luts[1] - luts[0]) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - values[0]) / (values[1] - values[0]) * (HEIGHT - BOTTOM - TOP)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="11" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="18" font-size="13">{escape(title)}</text>',
    ]
    for tick in _ticks(*values):
        lines.append(f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(*luts):
        lines.append(f'<path d="M{x(tick):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="{GRID}"/>')
        lines.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{tick:g}</text>')
    lines += [
        f'<path d="M{LEFT} {y(limit):.1f}H{WIDTH - RIGHT}" stroke="{LIMIT}" stroke-dasharray="5 4"/>',
        f'<text x="{WIDTH - RIGHT}" y="{y(limit) + 13:.1f}" text-anchor="end" fill="{LIMIT}">least tolerable</text>',
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 10}" text-anchor="middle">estimated LUTs</text>',
        f'<text x="6" y="{TOP - 4}">{escape(metric)}, %</text>',
    ]
    for point in points:
        if point.metric < values[0]:
            continue
        colour = SEARCH if point.kind == "search" else UNIFORM
        fill = colour if point.tolerable else "#ffffff"
        place = f'cx="{x(point.luts):.1f}" cy="{y(point.metric):.1f}"'
        lines.append(f'<circle {place} r="4" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>')
        if point.chosen:
            lines.append(f'<circle {place} r="8" fill="none" stroke="{INK}" stroke-width="1.5"/>')
        elif point.kind == "uniform":
            above = f'x="{x(point.luts):.1f}" y="{y(point.metric) - 8:.1f}"'
            lines.append(f'<text {above} text-anchor="middle" fill="{colour}">{point.bits[0]:g}</text>')
    lines += [*_legend(), "</svg>"]
    return ("\n".join(lines) + "\n").encode()


def _legend() -> list[str]:
    rows = ((SEARCH, "found by the search"), (UNIFORM, "the same bits everywhere"))
    lines = []
    for i, (colour, words) in enumerate(rows):
        left = WIDTH - RIGHT - 310 + 150 * i
        lines.append(f'<circle cx="{left}" cy="{TOP - 8}" r="4" fill="{colour}"/>')
        lines.append(f'<text x="{left + 8}" y="{TOP - 4}">{words}</text>')
    return lines


def _span(values: Sequence[float], margin: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * margin or max(abs(high) * margin, 0.5)
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    step = 10.0 ** len(str(int(high - low))) / 10
    while (high - low) / step < 4:
        step /= 2 if f"{step:e}"[0] != "5" else 2.5
    first = int(low // step) + 1
    return [round(step * i, 6) for i in range(first, first + 20) if step * i <= high]
