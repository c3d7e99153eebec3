"""The descent of a search: settings are tried, measured, and planned where that is worth the time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.boards import Board
from gatesmith.errors import AccuracyLost, BuildError, UnsupportedOperation
from gatesmith.estimate import Estimate, estimate
from gatesmith.explore.cost import adder_bits, planning_effort
from gatesmith.explore.curve import Point, draw
from gatesmith.explore.goal import Goal, Limits, Measured, farthest, goal_for
from gatesmith.explore.knobs import Knob, Setting, may_turn_columns, settings_of
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.model.nodes import Dense
from gatesmith.quantize import Precision, QuantizationReport, fold, quantize
from gatesmith.quantize.allocate import allocate
from gatesmith.quantize.equalize import equalize
from gatesmith.quantize.fold import with_scaled_inputs
from gatesmith.quantize.precision import PRECISIONS
from gatesmith.quantize.quantizer import report
from gatesmith.quantize.trees import holds_trees

__all__ = ["Progress", "Search", "Searcher"]

Data = dict[str, NDArray[Any]]
Progress = Callable[[str, float], None]

START_BITS = 8
MORE_BITS = (10, 12, 14, 16)
"""Tried where eight are too few."""

UNIFORM_BITS = (8, 7, 6, 5, 4, 3)

FORMAT_SAMPLES, DECIDING_SAMPLES = 600, 4000
ENOUGH_SAMPLES = 2000
"""From here on, some samples choose formats and others decide."""

WORSE = 1.05
"""A change of method has to gain more than this."""

NEARLY = 0.9
"""A knob is turned when it is worth at least so much of what the best was worth before."""

NEXT_PLAN = 0.93
"""A plan is made again when the guess has fallen by this much."""

PACE = 6e-7
"""Seconds of a plan for each unit of its effort, where none was made yet: on the quick side of what was measured on one
core of an AMD EPYC, so that a plan which might be made in time is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """The precision that was found, and what was seen on the way.

    Parameters
    ----------
    graph : Graph
        The integer graph.
    uniform : Point or None
        Eight bits everywhere, for comparison.
    """

    precision: Precision
    pruned: Mapping[str, float]
    graph: Graph
    report: QuantizationReport
    curve: tuple[Point, ...]
    chosen: Point
    metric: str
    reference: float
    limits: Limits
    board: str
    samples: int
    seconds: float

    @property
    def limit(self) -> float:
        """The least tolerable value of the metric."""
        return self.reference - self.limits.tolerance

    def facts(self) -> dict[str, Any]:
        """What a firmware keeps of its quantisation."""
        chosen = self.chosen
        return self.report.to_json() | {
            "search": {
                "metric": self.metric,
                "float_model": round(self.reference, 3),
                "value": round(chosen.metric, 3),
                "loss": round(chosen.loss, 3),
                **self.limits.to_json(),
                "samples": self.samples,
                "weight_bits": round(chosen.bits[0], 2),
                "activation_bits": round(chosen.bits[1], 2),
            }
        }

    def files(self, name: str) -> dict[str, bytes]:
        """The curve as data and as a picture."""
        picture = draw(self.curve, title=f"{name} on {self.board}", metric=self.metric, limit=self.limit)
        return {"precision.json": json.dumps(self.to_json(), indent=1).encode(), "precision.svg": picture}

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; no time in it, so that the same search gives the same bytes."""
        return {
            "metric": self.metric,
            "float_model": round(self.reference, 3),
            **self.limits.to_json(),
            "samples": self.samples,
            "board": self.board,
            "precision": {
                "weights": {k: list(v) if isinstance(v, tuple) else v for k, v in self.precision.weights.items()},
                "activations": dict(self.precision.activations),
                "default": self.precision.default,
                "bias_correction": self.precision.bias_correction,
                "pruned": dict(self.pruned),
            },
            "chosen": self.chosen.to_json(),
            "curve": [point.to_json() for point in self.curve],
        }


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """A setting that was tried."""

    setting: Setting
    graph: Graph
    measured: Measured
    farthest: float
    guess: float


@dataclass
class Searcher:
    """One search."""

    graph: Graph
    data: Data
    labels: NDArray[Any] | None
    limits: Limits = field(kw_only=True)
    board: Board = field(kw_only=True)
    clock_hz: int | None = field(kw_only=True)
    deadline: float = field(kw_only=True)
    tell: Progress = field(kw_only=True)
    points: list[tuple[Point, _Trial]] = field(default_factory=list)
    plan_s: float = 0.0
    pace: float = PACE
    too_long: float = 0.0
    """Seconds that a plan would have taken which was not made."""

    def __post_init__(self) -> None:
        self.start = time.monotonic()
        count = len(next(iter(self.data.values())))
        order = np.random.default_rng(0).permutation(count)
        half = min(count // 2, FORMAT_SAMPLES)
        formats, deciding = (order[:half], order[half:]) if count >= ENOUGH_SAMPLES else (order, order)
        deciding = deciding[:DECIDING_SAMPLES]
        self.formats = {name: values[formats] for name, values in self.data.items()}
        self.deciding = {name: values[deciding] for name, values in self.data.items()}
        self.wanted = reference.infer_real(self.graph, self.deciding)
        labels = None if self.labels is None else self.labels[deciding]
        self.goal: Goal = goal_for(self.graph, self.wanted, labels)
        self.samples = len(deciding)

    def run(self, *, prune: bool) -> Search:
        folded = fold(self.graph)
        self.tell("search", 0.01)
        if holds_trees(folded) or not any(isinstance(node, Dense) for node in folded.nodes):
            self._uniform_only()
        else:
            self._descend(folded, prune=prune)
        self.tell("search", 0.99)
        return self._result()

    # trees, and whatever else has no tensors to choose bits for

    def _uniform_only(self) -> None:
        for bits in (START_BITS, *MORE_BITS):
            if self._tolerable(self._uniform_at(bits)):
                break
        for bits in (*UNIFORM_BITS[1:], PRECISIONS[0]):
            if bits >= START_BITS or self._late() or not self._tolerable(self._uniform_at(bits)):
                break

    # networks

    def _descend(self, folded: Graph, *, prune: bool) -> None:
        base, first = self._beginning(folded, prune=prune)
        self._uniform()
        self._fall(base, first)
        if not may_turn_columns(base):
            return
        best = self._best()
        # from the best, where little is left to do, before from the beginning, which may take all of the time
        is_network = best is not None and best.setting.levels.keys() == first.setting.levels.keys()
        for start in [best, first] if best is not None and is_network else [first]:
            finer = self._try(base, start.setting.with_columns(base))
            if finer is not None and self._tolerable(finer) and not self._late():
                self._fall(base, finer)

    def _beginning(self, folded: Graph, *, prune: bool) -> tuple[Graph, _Trial]:
        """The method that has the least error, and the fewest bits with which it is tolerable everywhere."""
        scaled = with_scaled_inputs(folded, self.formats)
        plain = [folded, *([scaled] if scaled is not folded else [])]
        even = [equalize(graph) for graph in plain]
        best: tuple[Graph, _Trial] | None = None
        for graph in [*plain, *(e for e, p in zip(even, plain, strict=True) if e is not p)]:
            for corrected in (False, True):
                setting = replace(settings_of(graph, START_BITS - 2, with_prune=prune), bias_correction=corrected)
                trial = self._try(graph, setting)
                if trial and (best is None or trial.measured.error * WORSE < best[1].measured.error):
                    best = graph, trial
        base = best[0] if best else folded
        corrected = bool(best and best[1].setting.bias_correction)
        for bits in (START_BITS, *MORE_BITS):
            setting = replace(settings_of(base, bits, with_prune=prune), bias_correction=corrected)
            trial = self._try(base, setting)
            if trial and self._tolerable(trial):
                return base, trial
        raise self._refusal(trial)

    def _uniform(self) -> None:
        """The same bits everywhere, as the quantiser does without a search; a few when plans take long."""
        for bits in UNIFORM_BITS:
            self._uniform_at(bits)
            if self.plan_s * len(UNIFORM_BITS) > 0.2 * (self.deadline - self.start):
                return

    def _uniform_at(self, bits: int) -> _Trial:
        integer, _ = quantize(self.graph, self.formats, precision=bits)
        trial = self._measured(integer, Setting(levels={Knob(kind="default", name=""): bits}))
        self._plan(trial, "uniform")
        return trial

    def _fall(self, base: Graph, first: _Trial) -> None:
        """Turn knobs until none can be turned."""
        current, planned = first, first
        self._plan(first, "search")
        known = dict.fromkeys(first.setting.levels, np.inf)
        while known and not self._late():
            found = self._most_rewarding(base, current, known)
            if found is None:
                break
            current = found
            if current.guess < NEXT_PLAN * planned.guess and self._may_plan():
                self._plan(current, "search")
                planned = current
            self._say()
        if current is not planned:
            self._plan(current, "search")

    def _most_rewarding(self, base: Graph, current: _Trial, known: dict[Knob, float]) -> _Trial | None:
        """The next step. What a knob was worth before is taken as it was, until it seems the best."""
        while known and not self._late():
            knob = max(known, key=lambda each: known[each])
            setting = current.setting.turned(knob)
            trial = self._try(base, setting) if setting is not None else None
            if trial is None or not self._tolerable(trial):
                del known[knob]
                continue
            known[knob] = _reward(current, trial)
            if known[knob] >= NEARLY * max(known.values()):
                return trial
        return None

    def _try(self, base: Graph, setting: Setting) -> _Trial | None:
        """None where the numbers are too far apart for these bits."""
        try:
            integer = allocate(setting.applied(base), dict(self.formats), setting.precision(START_BITS))
        except AccuracyLost:
            return None
        return self._measured(integer, setting)

    def _measured(self, integer: Graph, setting: Setting) -> _Trial:
        outputs = reference.infer_real(integer, self.deciding)
        return _Trial(
            setting=setting,
            graph=integer,
            measured=self.goal.measure(outputs),
            farthest=farthest(self.wanted, outputs),
            guess=adder_bits(integer) + 1.0,
        )

    def _tolerable(self, trial: _Trial) -> bool:
        return self.limits.allow(trial.measured, trial.farthest)

    def _plan(self, trial: _Trial, kind: str) -> None:
        """The engine's own plan, unless it would take more time than is left: it cannot be stopped."""
        begun, effort = time.monotonic(), planning_effort(trial.graph)
        if effort * self.pace > self.deadline - begun:
            self.too_long = effort * self.pace
            if not self.points:
                raise self._too_slow()
            return
        try:
            found = estimate(trial.graph, self.board, clock_hz=self.clock_hz)
        except UnsupportedOperation:
            return
        self.plan_s = time.monotonic() - begun
        self.pace = self.plan_s / effort if effort else self.pace
        self.points.append((_point(kind, trial, found, tolerable=self._tolerable(trial)), trial))
        self._say()

    def _may_plan(self) -> bool:
        return self.deadline - time.monotonic() > 4 * self.plan_s

    def _late(self) -> bool:
        return time.monotonic() > self.deadline - 2 * self.plan_s

    def _say(self) -> None:
        whole = max(self.deadline - self.start, 1e-9)
        self.tell("search", min(0.98, max(0.02, (time.monotonic() - self.start) / whole)))

    def _tolerable_points(self) -> Iterator[tuple[Point, _Trial]]:
        return ((point, trial) for point, trial in self.points if point.tolerable)

    def _best(self) -> _Trial | None:
        return min(self._tolerable_points(), key=lambda each: (each[0].luts, -each[0].metric), default=(None, None))[1]

    def _too_slow(self) -> BuildError:
        whole = self.deadline - self.start
        return BuildError(
            f"one plan of {self.graph.name!r} takes about {self.too_long:.0f} s, a search for a precision has "
            f"{whole:.0f} s for several; give bits, such as --precision 6",
            plan_s=self.too_long,
            limit_s=whole,
        )

    def _refusal(self, widest: _Trial | None) -> AccuracyLost:
        loss, error = (widest.measured.loss, widest.farthest) if widest else (100.0, 0.0)
        return self.limits.refusal(MORE_BITS[-1], loss, error, metric=self.goal.metric, samples=self.samples)

    def _result(self) -> Search:
        best = self._best()
        if best is None and self.too_long:
            raise self._too_slow()
        if best is None:
            raise self._refusal(max(self.points, key=lambda each: each[0].bits, default=(None, None))[1])
        curve = tuple(replace(point, chosen=trial is best) for point, trial in self.points)
        return Search(
            precision=_precision(best),
            pruned=best.setting.pruned,
            graph=best.graph,
            report=report(self.graph, best.graph, self.data, best.setting.most_bits),
            curve=curve,
            chosen=next(point for point in curve if point.chosen),
            metric=self.goal.metric,
            reference=self.goal.reference,
            limits=self.limits,
            board=self.board.name,
            samples=self.samples,
            seconds=time.monotonic() - self.start,
        )


def _reward(before: _Trial, after: _Trial) -> float:
    """Bits saved for the error that is added; where nothing is saved, next to nothing, for what follows may save."""
    saved = max(before.guess - after.guess, 1e-6 * before.guess)
    added = after.measured.error - before.measured.error
    return saved / max(added, 1e-3 * before.measured.error, 1e-15)


def _precision(trial: _Trial) -> Precision:
    uniform = trial.setting.levels.get(Knob(kind="default", name=""))
    return Precision(default=uniform) if uniform else trial.setting.precision(START_BITS)


def _point(kind: str, trial: _Trial, found: Estimate, *, tolerable: bool) -> Point:
    return Point(
        kind=kind,
        bits=trial.setting.mean_bits,
        luts=found.luts,
        metric=trial.measured.value,
        loss=trial.measured.loss,
        tolerable=tolerable,
        fits=found.fits,
        fmax_hz=found.fmax_hz,
        latency_cycles=found.latency_cycles,
    )
