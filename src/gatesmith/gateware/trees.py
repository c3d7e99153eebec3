"""The trees engine: every comparison is its own gates, a new sample enters in every cycle.

Levels in a row: comparisons, trees with their tables, adders two by two, and for an argmax a tournament. Registers
come after ``cutoff`` of them; all move together. A comparison with a constant is a chain of AND and OR over the bits
that matter, because synthesis would spend a carry chain on ``<=``. Votes, words of one bit, are counted by six first.

What leaves the last stage while the output waits is kept beside it. All stages stop in the cycle after, so what enables
them is a register and no path leads from the output's ``ready`` through the whole core.
"""
# Ref: yosys 0.70, `alumacc`: `$le` with a constant becomes an `$alu`, which techmaps to carry cells
# Amaranth reads annotations when a component's class is made, so they must not be postponed here.

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned

from gatesmith.gateware.core import Core
from gatesmith.gateware.forest import Column, Forest
from gatesmith.gateware.tables import Word, words_of
from gatesmith.model.ensemble import TreeEnsemble
from gatesmith.model.nodes import ArgMax

__all__ = ["TreesCore", "grow", "stages_of"]

SHARED_BITS = 5
"""Highest bits of a comparison that others of the same element are likely to need."""

COMPARE, SELECT = 1, 2
"""Levels before the first adder."""

VOTES = 6
"""Single bits that are counted at once: two of them would spend a whole adder."""


def grow(forest: Forest, *, cutoff: int) -> "TreesCore":
    """A pipelined core of a plan.

    Parameters
    ----------
    cutoff : int
        Levels in a row between two registers, 1 or more.
    """
    return TreesCore(forest, cutoff)


def stages_of(forest: Forest, *, cutoff: int) -> int:
    """Stages of a plan's core."""
    levels = SELECT + max(map(_adding_levels, forest.columns))
    if any(isinstance(node, ArgMax) for node in forest.graph.nodes):
        levels += _depth(len(forest.columns))
    return -(-levels // cutoff)


class TreesCore(Core):
    """A pipeline of comparisons, leaves and adders."""

    def __init__(self, forest: Forest, cutoff: int) -> None:
        self.forest, self.cutoff = forest, cutoff
        super().__init__(
            input_bits=sum(t.edge.elements * t.edge.fixed.width for t in forest.graph.inputs),
            output_bits=sum(t.edge.elements * t.edge.fixed.width for t in forest.graph.outputs),
            latency_cycles=stages_of(forest, cutoff=cutoff),
            initiation_interval_cycles=1,
        )

    def elaborate(self, platform: object) -> Module:
        """Registers behind every stage, enabled together."""
        m = Module()
        pipeline = _Pipeline(m, self.cutoff)
        valid = [Signal(name=f"valid{i}") for i in range(self.latency_cycles)]
        with m.If(pipeline.enable):
            m.d.sync += [each.eq(valid[i - 1] if i else self.i.valid) for i, each in enumerate(valid)]
        answers = self._answers(pipeline)
        tables = zip(*(column.tables for column in self.forest.columns), strict=True)
        words = [
            words_of(tree, answers, each, named=pipeline.named)
            for tree, each in zip(self.forest.paths, tables, strict=True)
        ]
        columns = zip(self.forest.columns, zip(*words, strict=True), strict=True)
        sums = [_sum(pipeline, column, each) for column, each in columns]
        outputs = self._outputs(pipeline, sums)
        last = self.latency_cycles * self.cutoff + 1
        payload = Cat(pipeline.at(value, level, last) for value, level in outputs)
        kept, is_kept = Signal(payload.shape(), name="kept", reset_less=True), Signal()
        with m.If(~is_kept):
            m.d.sync += kept.eq(payload)
        m.d.sync += is_kept.eq(self.o.valid & ~self.o.ready)
        m.d.comb += [
            pipeline.enable.eq(~is_kept),
            self.i.ready.eq(~is_kept),
            self.o.valid.eq(is_kept | valid[-1]),
            self.o.payload.eq(Mux(is_kept, kept, payload)),
        ]
        return m

    def _answers(self, pipeline: "_Pipeline") -> list[Value]:
        """One signal for each comparison."""
        width = self.forest.input.width
        answers: list[Value] = []
        for test in self.forest.tests:
            bits = list(self.i.payload[test.element * width : (test.element + 1) * width])
            if self.forest.input.signed:
                bits[-1] = ~bits[-1]
            passes = _at_most(bits, test.bound)
            passes = passes | Cat(bits).all() if test.missing else passes
            # what the register holds is a bit itself where the comparison asks a single one: no LUT inverts it
            fails = pipeline.named(~passes, f"test{len(answers)}")
            answers.append(~pipeline.at(fails, COMPARE, SELECT))
        return answers

    def _outputs(self, pipeline: "_Pipeline", sums: list[tuple[Value, int]]) -> list[tuple[Value, int]]:
        """Bits of every output in the contract's order, each with the level that gives it."""
        graph = self.forest.graph
        edges: dict[str, list[tuple[Value, int]]] = {}
        for node in graph.nodes:
            if isinstance(node, TreeEnsemble):
                edges[node.output.name] = sums
            elif node.inputs[0] in edges:
                given = edges[node.inputs[0]]
                if isinstance(node, ArgMax):
                    is_signed = graph.edges[node.inputs[0]].fixed.signed
                    given = [_arg_max(pipeline, given, node.output.fixed.width, is_signed=is_signed)]
                edges[node.output.name] = given
        return [wire for terminal in graph.outputs for wire in edges[terminal.edge.name]]


class _Pipeline:
    """Values, the levels at which they are ready, and the registers that carry them to later ones."""

    def __init__(self, m: Module, cutoff: int) -> None:
        self.m, self.cutoff = m, cutoff
        self.enable = Signal(name="enable")
        self.carried: dict[tuple[int, int], Signal] = {}
        self.kept: list[Value] = []  # an id is one value's only while that value lives

    def named(self, value: Value, name: str) -> Signal:
        signal = Signal(value.shape(), name=name)
        self.m.d.comb += signal.eq(value)
        return signal

    def at(self, value: Value, made: int, used: int) -> Value:
        """The value that a level gave, as a later level sees it."""
        if isinstance(value, Const):
            return value
        self.kept.append(value)
        start, stop = (made - 1) // self.cutoff, (used - 1) // self.cutoff
        carried = value
        for stage in range(start, stop):
            key = (id(value), stage)
            if key not in self.carried:
                register = Signal(carried.shape(), name=f"stage{stage}", reset_less=True)
                with self.m.If(self.enable):
                    self.m.d.sync += register.eq(carried)
                self.carried[key] = register
            carried = self.carried[key]
        return carried


def _at_most(bits: list[Value], bound: int) -> Value:
    """``bits <= bound``, lowest bit first; bounds with the same highest bits share the comparison of those."""
    while bound & 1:  # of trailing ones in the bound no bit matters
        bits, bound = bits[1:], bound >> 1
    rest = len(bits) - SHARED_BITS
    if rest <= 1:
        return _chain(bits, bound)
    top, highest = bits[rest:], bound >> rest
    below = _at_most(bits[:rest], bound & ((1 << rest) - 1))
    less = _chain(top, highest - 1) if highest else Const(0, 1)
    no_more = _chain(top, highest) if highest + 1 < 1 << SHARED_BITS else Const(1, 1)
    return less | (no_more & below)


def _chain(bits: list[Value], bound: int) -> Value:
    """``bits <= bound`` as one chain of AND and OR; the bound has a zero."""
    while bound & 1:
        bits, bound = bits[1:], bound >> 1
    answer = ~bits[0]
    for i, bit in enumerate(bits[1:], start=1):
        answer = ~bit | answer if bound >> i & 1 else ~bit & answer
    return answer


def _adding_levels(column: Column) -> int:
    highest = [int(table.max()) for table in column.tables if table.any()]
    votes = highest.count(1)
    if votes < VOTES:
        return _depth(len(highest))
    return 1 + _depth(-(-votes // VOTES) + -(-(len(highest) - votes) // 2))


def _depth(operands: int) -> int:
    return max(operands - 1, 0).bit_length()


def _sum(pipeline: _Pipeline, column: Column, tables: Sequence[Word]) -> tuple[Value, int]:
    """The column's bits and the level that gives them."""
    words = [(pipeline.named(word, "word"), highest) for word, highest in tables if highest]
    level = SELECT
    while len(words) > 1:
        words = _added(pipeline, sorted(words, key=lambda word: word[1]), level)
        level += 1
    total = words[0][0] if words else Const(0, column.width)
    return pipeline.named(_moved(total, column), "sum"), level


def _added(pipeline: _Pipeline, words: list[Word], level: int) -> list[Word]:
    """Neighbours added; the largest stays alone when the number is odd."""
    carried = [(pipeline.at(word, level, level + 1), highest) for word, highest in words]
    votes = sum(highest == 1 for _, highest in carried)
    added = []
    if votes >= VOTES:
        added = [_counted(pipeline, carried[i : min(i + VOTES, votes)]) for i in range(0, votes, VOTES)]
        carried = carried[votes:]
    for (a, highest_a), (b, highest_b) in zip(carried[::2], carried[1::2], strict=False):
        highest = highest_a + highest_b
        added.append((pipeline.named((a + b)[: highest.bit_length()], "word"), highest))
    return added + (carried[-1:] if len(carried) % 2 else [])


def _counted(pipeline: _Pipeline, votes: list[Word]) -> Word:
    """How many of up to six bits are high: each bit of the number is one function of six, which a LUT6 holds."""
    bits = [vote[0] for vote, _ in votes] + [Const(0, 1)] * (VOTES - len(votes))
    (one, two), (other, others) = (_full(*bits[i : i + 3]) for i in (0, 3))
    low, carry = one ^ other, one & other
    middle, high = _full(two, others, carry)
    highest = len(votes)
    return pipeline.named(Cat(low, middle, high)[: highest.bit_length()], "count"), highest


def _full(a: Value, b: Value, c: Value) -> tuple[Value, Value]:
    """Sum and carry of three bits."""
    return a ^ b ^ c, (a & b) | (c & (a ^ b))


def _moved(total: Value, column: Column) -> Value:
    """The total plus the constant, modulo the width; the bits below the constant's lowest one pass."""
    constant = column.constant % (1 << column.width)
    if not constant:
        return Cat(total, Const(0, max(0, column.width - len(total))))[: column.width]
    lowest = (constant & -constant).bit_length() - 1
    whole = Cat(total, Const(0, max(0, column.width - len(total))))[: column.width]
    return Cat(whole[:lowest], (whole[lowest:] + (constant >> lowest))[: column.width - lowest])


def _arg_max(pipeline: _Pipeline, scores: list[tuple[Value, int]], width: int, *, is_signed: bool) -> tuple[Value, int]:
    """A tournament in which the earlier of two equal scores wins; columns that are ready early wait."""
    level = max(made for _, made in scores)
    shape: Shape = (signed if is_signed else unsigned)(len(scores[0][0]))
    players = [(pipeline.at(value, made, level), Const(i, width)) for i, (value, made) in enumerate(scores)]
    while len(players) > 1:
        level += 1
        players = [(pipeline.at(a, level - 1, level), pipeline.at(i, level - 1, level)) for a, i in players]
        winners = []
        for (a, i), (b, j) in zip(players[::2], players[1::2], strict=False):
            first = pipeline.named((a.as_signed() if is_signed else a) >= (b.as_signed() if is_signed else b), "first")
            score, place = Signal(shape, name="score"), Signal(width, name="place")
            pipeline.m.d.comb += [score.eq(Mux(first, a, b)), place.eq(Mux(first, i, j))]
            winners.append((score, place))
        players = winners + (players[-1:] if len(players) % 2 else [])
    return players[0][1], level
