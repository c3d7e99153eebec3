"""What a graph will cost on a board, in seconds and without synthesis: the engine's plan, counted and weighed.

The plan is the one that a build uses (da4ml's operations, or the trees' comparisons and adders), cut into the same
stages; :mod:`gatesmith.estimate.families` holds what each part costs on a family. ``docs/estimate.md`` says how near
that comes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gatesmith.boards import Board
from gatesmith.errors import BuildError, DesignDoesNotFit
from gatesmith.estimate.count import Parts, count_stages
from gatesmith.estimate.cutoffs import CUTOFFS, first_cutoff, next_cutoff
from gatesmith.estimate.families import AVAILABLE, COSTS, SLOWNESS, Timing
from gatesmith.estimate.paths import Path
from gatesmith.estimate.trees import count_trees
from gatesmith.firmware import Utilization
from gatesmith.gateware.engines import Logic, choose_engine, plan_logic
from gatesmith.gateware.forest import Forest
from gatesmith.gateware.unrolled import cut
from gatesmith.model.graph import Graph

__all__ = ["ERROR", "Estimate", "estimate", "refuse_what_cannot_fit", "weigh"]

ERROR = 0.25
"""How far the estimate of a resource may be from what a build needs."""

LUTS = 1000
"""Logic from which on a design is crowded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a build would report.

    Parameters
    ----------
    fits : bool or None
        None where the size of the board's part is not known.
    utilization : mapping of str to Utilization
        The resources that a model decides, under the toolchain's names.
    logic : str
        The resource of LUTs among them.
    """

    board: str
    part: str
    engine: str
    cutoff: int
    clock_hz: int
    fits: bool | None
    utilization: Mapping[str, Utilization]
    logic: str
    fmax_hz: float
    latency_cycles: int
    initiation_interval_cycles: int = 1

    @property
    def luts(self) -> int:
        """LUTs that are used."""
        return self.utilization[self.logic].used

    @property
    def fullest(self) -> str:
        """The resource of which the largest share is used."""
        return max(self.utilization, key=lambda name: _share(self.utilization[name]))

    def to_json(self) -> dict[str, Any]:
        """The keys that scripts rely on."""
        return {
            "board": self.board,
            "part": self.part,
            "engine": self.engine,
            "fits": self.fits,
            "utilization": {
                name: {"used": use.used, "available": use.available or None} for name, use in self.utilization.items()
            },
            "luts": self.luts,
            "clock_hz": self.clock_hz,
            "fmax_hz": self.fmax_hz,
            "latency_cycles": self.latency_cycles,
            "initiation_interval_cycles": self.initiation_interval_cycles,
            "cutoff": self.cutoff,
        }


def estimate(
    graph: Graph,
    board: Board,
    *,
    engine: str = "auto",
    cutoff: int | None = None,
    clock_hz: int | None = None,
    logic: Logic | None = None,
) -> Estimate:
    """Predict what a build of an integer graph reports.

    Parameters
    ----------
    cutoff : int, optional
        Adders in a row; without, the one that a build would choose.
    clock_hz : int, optional
        The board's oscillator without.
    logic : Logic, optional
        The graph's plan, where it was made already.

    Raises
    ------
    BuildError
        When the cut-off or the clock is out of range.
    UnsupportedOperation
        When the engine does not take the graph.
    """
    if cutoff is not None and cutoff not in CUTOFFS:
        raise BuildError(f"cut-off is {cutoff}, {CUTOFFS[-1]} to {CUTOFFS[0]} are possible", cutoff=cutoff)
    if clock_hz is not None and clock_hz <= 0:
        raise BuildError(f"clock is {clock_hz} Hz, a positive number is needed", clock_hz=clock_hz)
    chosen = choose_engine(graph, engine)
    plan = logic or plan_logic(graph, chosen)
    wanted = clock_hz or board.clock_hz
    given: int | None = cutoff or first_cutoff(board.family.value, wanted)
    while given is not None:
        found = _at(graph, plan, board, engine=chosen, cutoff=given, clock_hz=wanted)
        given = None if cutoff or found.fmax_hz >= wanted else _after(found, wanted)
    return found


def _after(found: Estimate, clock_hz: int) -> int | None:
    return next_cutoff(found.cutoff, fmax_hz=found.fmax_hz, clock_hz=clock_hz)


def _at(graph: Graph, plan: Logic, board: Board, *, engine: str, cutoff: int, clock_hz: int) -> Estimate:
    parts, paths = count(plan, cutoff=cutoff)
    contract, costs = graph.contract(), COSTS[board.family]
    used = weigh(parts, board, input_bits=contract.input_bits, output_bits=contract.output_bits)
    available = AVAILABLE.get(board.device, {})
    utilization = {
        name: Utilization(used=count, available=available.get(name, 0)) for name, count in sorted(used.items())
    }
    fits = all(use.used <= use.available for use in utilization.values()) if available else None
    path_ns = max(_delay_ns(path, costs.timing, used[costs.logic]) for path in (*paths, Path()))
    return Estimate(
        board=board.name,
        part=board.part,
        engine=engine,
        cutoff=cutoff,
        clock_hz=clock_hz,
        fits=fits,
        utilization=MappingProxyType(utilization),
        logic=costs.logic,
        fmax_hz=float(round(1e9 / max(path_ns, costs.timing.link) / SLOWNESS.get(board.device + board.speed, 1.0))),
        latency_cycles=len(paths),
    )


def count(plan: Logic, *, cutoff: int) -> tuple[Parts, list[Path]]:
    """Parts of a plan's core, and the longest path of each stage of its pipeline."""
    if not isinstance(plan, Forest):
        return count_stages(cut(plan, cutoff=cutoff))
    parts, paths = count_trees(plan, cutoff=cutoff)
    if plan.front is None:
        return parts, paths
    before, first = count_stages(cut(plan.front, cutoff=cutoff))
    return before + parts, [*first, *paths]


def weigh(parts: Parts, board: Board, *, input_bits: int, output_bits: int) -> dict[str, int]:
    """What the parts need of each resource of a board, the link among them."""
    counts = features(parts, input_bits=input_bits, output_bits=output_bits)
    return {
        resource: round(sum(weight * counts[name] for name, weight in weights.items()))
        for resource, weights in COSTS[board.family].resources.items()
    }


def features(parts: Parts, *, input_bits: int, output_bits: int) -> dict[str, float]:
    """What the weights of :class:`gatesmith.estimate.families.Costs` are multiplied with."""
    return {
        "link": 1,
        "input_bits": input_bits,
        "output_bits": output_bits,
        "chains": parts.chains,
        "chain_bits": parts.chain_bits - parts.joined_bits,
        "joined_bits": parts.joined_bits,
        "gates": parts.gates,
        "table_luts": parts.table_luts,
        "tree_luts": parts.tree_luts,
        "registers": parts.registers,
        "bare": parts.bare,
    }


def _delay_ns(path: Path, timing: Timing, luts: int) -> float:
    crowd = timing.crowd * max(0.0, math.log2(luts / LUTS))
    return timing.start + timing.adder * path.adders + timing.lut * path.luts + timing.bit * path.bits + crowd


def refuse_what_cannot_fit(found: Estimate) -> None:
    """Raise when a design is too large for its board by more than the estimate may be wrong.

    Raises
    ------
    DesignDoesNotFit
    """
    use = found.utilization[found.fullest]
    if use.available and use.used * (1 - ERROR) > use.available:
        raise DesignDoesNotFit(
            f"design would need about {use.used} {found.fullest}, {found.part} has {use.available}; try --precision "
            f"auto, or a larger board (gatesmith estimate --board all)",
            resource=found.fullest,
            used=use.used,
            available=use.available,
            estimated=True,
        )


def _share(use: Utilization) -> float:
    return use.used / use.available if use.available else 0.0
