"""What the search may turn: bits of each tensor, of single columns of weights, and the share of weights that is pruned.

A setting is a mapping from knobs to levels. Turning a knob makes its level one lower; where it ends, it is stuck.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gatesmith.model.graph import Graph
from gatesmith.model.nodes import Dense, LookupTable
from gatesmith.quantize import Precision
from gatesmith.quantize.precision import PRECISIONS
from gatesmith.quantize.prune import prune

__all__ = ["Knob", "Setting", "settings_of"]

PRUNE_STEPS = 10
"""Levels of a prune knob: at level 10 nothing is pruned, at 1 nine tenths are."""

MOST_COLUMNS = 256
"""With more columns than this in the graph, single ones are not turned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Knob:
    """``kind``: ``weights``, ``activations``, ``prune``, or ``default`` for all; ``column`` -1 is the whole tensor."""

    kind: str
    name: str
    column: int = -1

    @property
    def lowest(self) -> int:
        """Its last level."""
        return 1 if self.kind == "prune" else PRECISIONS[0]


Levels: TypeAlias = "Mapping[Knob, int]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """All levels, and what goes with them."""

    levels: Levels
    bias_correction: bool = False

    def turned(self, knob: Knob) -> Setting | None:
        """One level lower; None at the end."""
        level = self.levels[knob]
        if level <= knob.lowest:
            return None
        return Setting(levels={**self.levels, knob: level - 1}, bias_correction=self.bias_correction)

    def with_columns(self, graph: Graph) -> Setting:
        """A knob for each column of weights in place of each tensor's."""
        levels: dict[Knob, int] = {}
        for knob, level in self.levels.items():
            if knob.kind == "weights":
                levels |= {Knob(kind="weights", name=knob.name, column=i): level for i in range(_columns(graph, knob))}
            else:
                levels[knob] = level
        return Setting(levels=levels, bias_correction=self.bias_correction)

    def precision(self, default: int) -> Precision:
        """The same in the quantiser's words."""
        weights: dict[str, int | tuple[int, ...]] = {}
        columns: dict[str, dict[int, int]] = {}
        for knob, level in self.levels.items():
            if knob.kind == "weights" and knob.column < 0:
                weights[knob.name] = level
            elif knob.kind == "weights":
                columns.setdefault(knob.name, {})[knob.column] = level
        weights |= {name: tuple(found[i] for i in sorted(found)) for name, found in columns.items()}
        activations = {knob.name: level for knob, level in self.levels.items() if knob.kind == "activations"}
        return Precision(
            default=default, weights=weights, activations=activations, bias_correction=self.bias_correction
        )

    @property
    def mean_bits(self) -> tuple[float, float]:
        """Of weights and of activations."""
        kinds: dict[str, list[int]] = {"weights": [], "activations": []}
        for knob, level in self.levels.items():
            for kind in kinds if knob.kind == "default" else {knob.kind} & set(kinds):
                kinds[kind].append(level)
        weights, activations = (sum(levels) / len(levels) if levels else 0.0 for levels in kinds.values())
        return weights, activations

    @property
    def most_bits(self) -> int:
        """Of any tensor."""
        return max(level for knob, level in self.levels.items() if knob.kind != "prune")

    @property
    def pruned(self) -> dict[str, float]:
        """Share of pruned weights by node."""
        return {
            knob.name: 1 - level / PRUNE_STEPS
            for knob, level in self.levels.items()
            if knob.kind == "prune" and level < PRUNE_STEPS
        }

    def applied(self, graph: Graph) -> Graph:
        """The float graph with what is pruned set to zero."""
        return prune(graph, self.pruned) if self.pruned else graph


def settings_of(graph: Graph, bits: int, *, with_prune: bool) -> Setting:
    """Every tensor of a folded float graph at one number of bits."""
    levels = dict.fromkeys(_knobs(graph), bits)
    if with_prune:
        levels |= {Knob(kind="prune", name=knob.name): PRUNE_STEPS for knob in list(levels) if knob.kind == "weights"}
    return Setting(levels=levels)


def _knobs(graph: Graph) -> Iterator[Knob]:
    edges: list[str] = []
    for node in graph.nodes:
        if isinstance(node, Dense):
            yield Knob(kind="weights", name=node.name)
        if isinstance(node, Dense | LookupTable):
            edges.append(node.inputs[0])
        if isinstance(node, LookupTable):
            edges.append(node.output.name)
    yield from (Knob(kind="activations", name=name) for name in dict.fromkeys(edges))


def _columns(graph: Graph, knob: Knob) -> int:
    return next(int(n.weight.shape[-1]) for n in graph.nodes if isinstance(n, Dense) and n.name == knob.name)


def may_turn_columns(graph: Graph) -> bool:
    """Whether the graph has few enough columns for knobs of their own."""
    dense = [node.weight for node in graph.nodes if isinstance(node, Dense)]
    return bool(dense) and sum(weight.shape[-1] for weight in dense) <= MOST_COLUMNS
