"""The same count for the trees engine, from its plan: comparisons, leaves, tables, and the adders of each column."""

from __future__ import annotations

from dataclasses import dataclass, field

from gatesmith.estimate.count import Parts
from gatesmith.estimate.paths import Path, lut_levels
from gatesmith.gateware.forest import Column, Forest
from gatesmith.gateware.trees import SELECT, stages_of
from gatesmith.model.nodes import ArgMax

__all__ = ["count_trees"]

COMPARE_LEVELS = 4
"""LUTs in a row of a comparison with a constant of some ten bits and of what shares it: as the builds' clocks say."""


def count_trees(forest: Forest, *, cutoff: int) -> tuple[Parts, list[Path]]:
    """Parts of the whole core, and each stage's longest path."""
    stages = stages_of(forest, cutoff=cutoff)
    count = _Count(forest=forest, cutoff=cutoff, stages=stages)
    count.compare()
    level = max(count.add(column) for column in forest.columns)
    winners = [node for node in forest.graph.nodes if isinstance(node, ArgMax)]
    if winners:
        level = count.choose(level)
    last = sum(t.edge.elements * t.edge.fixed.width for t in forest.graph.outputs)
    count.registers(last, level, stages * cutoff + 1)
    return count.parts, [count.paths[stage] for stage in range(stages)]


@dataclass(kw_only=True)
class _Count:
    """The pipeline's levels, one after the other."""

    forest: Forest
    cutoff: int
    stages: int
    parts: Parts = field(default_factory=Parts)
    paths: dict[int, Path] = field(default_factory=dict)
    adding: set[int] = field(default_factory=set)  # levels with adders

    def __post_init__(self) -> None:
        self.paths = {stage: Path() for stage in range(self.stages + 1)}

    def compare(self) -> None:
        """Comparisons and leaves."""
        width = self.forest.input.width
        for _, bound, *_ in self.forest.tests:
            bits = width - ((bound + 1) & -(bound + 1)).bit_length() + 1
            self.parts += Parts(tree_luts=_luts(bits))
        self.registers(len(self.forest.tests), 1, SELECT)
        leaves = {
            (number, path[:end])
            for number, tree in enumerate(self.forest.paths)
            for path in tree
            for end in range(2, len(path) + 1)
        }
        self.parts += Parts(tree_luts=len(leaves))
        deepest = max((len(path) for tree in self.forest.paths for path in tree), default=1)
        most = max(len(tree) for tree in self.forest.paths)
        self._row(1, Path(luts=COMPARE_LEVELS))
        self._row(SELECT, Path(luts=lut_levels(deepest) + lut_levels(max(most // 2, 2))))

    def add(self, column: Column) -> int:
        """One column's tables and adders; the level of its sum."""
        words = []
        for table in column.tables:
            if not table.any():
                continue
            highest = int(table.max())
            for bit in range(highest.bit_length()):
                ones = int(((table >> bit) & 1).sum())
                self.parts += Parts(tree_luts=_luts(min(ones, len(table) - ones)))
            words.append(highest)
        level = SELECT
        while len(words) > 1:
            words.sort()
            self.registers(sum(word.bit_length() for word in words), level, level + 1)
            pairs = [a + b for a, b in zip(words[::2], words[1::2], strict=False)]
            self._adders([pair.bit_length() for pair in pairs], level + 1, is_last=len(words) == 2)
            words = pairs + (words[-1:] if len(words) % 2 else [])
            level += 1
        if column.constant % (1 << column.width):
            self.parts += Parts(gates=column.width // 2)
        return level

    def choose(self, level: int) -> int:
        """The tournament of the columns."""
        players, width = len(self.forest.columns), self.forest.columns[0].width
        while players > 1:
            self.registers(players * width, level, level + 1)
            level += 1
            self._adders([width] * (players // 2), level, is_last=True)
            self.parts += Parts(gates=players // 2 * (width + 1))
            self._row(level, Path(luts=1))
            players -= players // 2
        return level

    def registers(self, bits: int, made: int, used: int) -> None:
        """That carry some bits from one level to another."""
        crossings = (used - 1) // self.cutoff - (made - 1) // self.cutoff
        self.parts += Parts(registers=bits * crossings, bare=bits * max(crossings - 1, 0))

    def _adders(self, widths: list[int], level: int, *, is_last: bool) -> None:
        bits = sum(widths)
        is_joined = not is_last and level % self.cutoff != 0  # the next level adds these in the same stage
        self.parts += Parts(chains=len(widths), chain_bits=bits, joined_bits=bits if is_joined else 0)
        self._row(level, Path(adders=1, bits=max(widths, default=0)))

    def _row(self, level: int, more: Path) -> None:
        """Put something behind what the level's stage has."""
        stage = (level - 1) // self.cutoff
        path = self.paths.get(stage, Path())
        adders = 0 if level in self.adding else more.adders  # columns add side by side
        self.adding |= {level} if more.adders else set()
        self.paths[stage] = Path(
            adders=path.adders + adders, luts=path.luts + more.luts, bits=max(path.bits, more.bits)
        )


def _luts(inputs: int) -> int:
    return max(0, -(-(inputs - 1) // 3))
