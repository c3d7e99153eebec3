"""What a design is made of, counted from the engine's plan: carry chains, gates, tables, registers, levels.

Nothing here knows a family. A bit of an adder counts from the lowest place at which both operands have one: below it
the bits of one pass. What is constant counts nothing, what is used twice counts once.
"""
# Ref: da4ml 0.6.0, codegen/rtl/verilog/comb.py: what each operation code becomes
# Ref: yosys 0.70, `alumacc`: sums of sums become one, unless what is between them may overflow

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from da4ml.types import minimal_kif

from gatesmith.estimate.paths import LUT_INPUTS, Path, longest_path

__all__ = ["Parts", "count_logic", "count_stages"]

INPUT, CONSTANT, SUMS = -1, 5, (0, 1, 4)
"""Operation codes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Numbers of each kind of part.

    ``chains`` are adders, ``chain_bits`` their bits, ``joined_bits`` those of adders that another one alone reads as
    they are, which synthesis turns into carry-save adders. ``gates`` are LUTs of four inputs, ``table_luts`` what
    tables of random content would need, ``tree_luts`` trees without any sharing. ``registers`` are bits, ``bare``
    those whose input is another register.
    """

    chains: int = 0
    chain_bits: int = 0
    joined_bits: int = 0
    gates: int = 0
    table_luts: int = 0
    tree_luts: int = 0
    registers: int = 0
    bare: int = 0

    def __add__(self, other: Parts) -> Parts:
        return Parts(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


def count_logic(logic: Any) -> Parts:
    """Of a da4ml CombLogic, without registers."""
    return _Walk(logic).parts


def count_stages(stages: Sequence[Any]) -> tuple[Parts, list[Path]]:
    """Of a pipeline of them: everything together, and each stage's longest path."""
    walks = [_Walk(stage) for stage in stages]
    total = sum((walk.parts + walk.registers() for walk in walks), Parts())
    return total, [walk.longest() for walk in walks]


class _Walk:
    """One pass over the operations of a stage."""

    def __init__(self, logic: Any) -> None:
        self.logic = logic
        self.kifs = [minimal_kif(op.qint) for op in logic.ops]
        self.widths = [int(sum(kif)) for kif in self.kifs]
        self.parts = Parts()
        self.wire = [False] * len(logic.ops)  # bits of an input, renamed
        self.negated: set[int] = set()
        used = logic.ref_count  # da4ml counts anew each time
        self.readers = _readers(logic, used)
        for place, op in enumerate(logic.ops):
            if used[place] > 0 and self.widths[place] > 0:
                self._count(place, op)
        for place, negated in zip(logic.out_idxs, logic.out_negs, strict=True):
            if place >= 0 and negated:
                self._negate(place)

    def registers(self) -> Parts:
        """Behind this stage."""
        seen: dict[int, int] = {}
        for place, interval in zip(self.logic.out_idxs, self.logic.out_qint, strict=True):
            if place >= 0 and self.logic.ops[place].opcode != CONSTANT:
                seen[place] = max(seen.get(place, 0), int(sum(minimal_kif(interval))))
        bare = sum(bits for place, bits in seen.items() if self.wire[place])
        return Parts(registers=sum(seen.values()), bare=bare)

    def longest(self) -> Path:
        """The longest path of the stage."""
        return longest_path(self.logic, self._is_flat)

    def _count(self, place: int, op: Any) -> None:
        width, code = self.widths[place], op.opcode
        if code < INPUT:  # reads the negative of its operand, a multiplexer that of its second
            self._negate(op.id1 if code == -6 else op.id0)
        match abs(code) if code != INPUT else INPUT:
            case -1:
                self.wire[place] = True
            case 0 | 1:
                self._sum(place, self._sum_bits(place, op))
            case 4:
                self._sum(place, width - _trailing_zeros(op.data))
            case 2 if code < 0 or self.logic.ops[op.id0].qint.min < 0:
                self.parts += Parts(gates=width)
            case 2 | 3:
                self.wire[place] = self.wire[op.id0] and code > 0
            case 6:
                self.parts += Parts(gates=width)
            case 7:
                self.parts += Parts(gates=width * width)
            case 8:
                self.parts += Parts(table_luts=width * table_luts(self.widths[op.id0]))
            case 9:
                self.parts += Parts(gates=width if op.data == 0 else -(-(self.widths[op.id0] - 1) // 3))
            case 10:
                self.parts += Parts(gates=width)

    def _sum_bits(self, place: int, op: Any) -> int:
        """Bits of the sum from the first at which both operands, or a negative one alone, have a bit."""
        low_a, low_b = -self.kifs[op.id0][2], op.data - self.kifs[op.id1][2]
        start = low_b if op.opcode == 1 and low_b < low_a else max(low_a, low_b)
        keep, integers, _ = self.kifs[place]
        return max(int(keep) + int(integers) - int(start), 0)

    def _sum(self, place: int, bits: int) -> None:
        joined = bits if self.is_joined(place) else 0
        self.parts += Parts(chains=int(bits > 0), chain_bits=bits, joined_bits=joined)

    def is_joined(self, place: int) -> bool:
        """Whether synthesis makes one sum of this adder and the only other that reads it.

        It does where the bits stay where they are, and where no width on the way loses a carry that there might be.
        """
        readers = self.readers[place]
        if len(readers) != 1 or readers[0] < 0 or self._may_overflow(place):
            return False
        reader = self.logic.ops[readers[0]]
        if reader.opcode not in SUMS:
            return False
        shift = reader.data if reader.opcode != SUMS[-1] and reader.id1 == place else 0
        return bool(shift - self.kifs[place][2] == -self.kifs[readers[0]][2])

    def _may_overflow(self, place: int) -> bool:
        """Whether operands as wide as these can have a sum wider than this one."""
        op = self.logic.ops[place]
        if op.opcode not in SUMS[:2]:
            return False
        (keep, integers, _), a, b = self.kifs[place], self.kifs[op.id0], self.kifs[op.id1]
        highs = [int(sum(a[:2])), int(sum(b[:2])) + int(op.data)]
        if a[0] != b[0]:  # the one without a sign gets one
            highs[int(bool(a[0]))] += 1
        return int(keep) + int(integers) < max(highs) + 1

    def _is_flat(self, place: int) -> bool:
        """Whether an adder has most likely no carry of its own: its constant joins the sum before or after it."""
        return bool(self.logic.ops[place].opcode == SUMS[-1])

    def _negate(self, place: int) -> None:
        if place not in self.negated:
            self.negated.add(place)
            self.parts += Parts(chains=1, chain_bits=self.widths[place])


def _readers(logic: Any, used: Sequence[int]) -> list[list[int]]:
    """Of each operation the places that read it, -1 for an output."""
    readers: list[list[int]] = [[] for _ in logic.ops]
    for place, op in enumerate(logic.ops):
        if op.opcode == -1 or used[place] == 0:
            continue
        for source in {op.id0, op.id1, op.data & 0xFFFFFFFF if abs(op.opcode) == 6 else -1} - {-1}:
            readers[source].append(place)
    for place in logic.out_idxs:
        if place >= 0:
            readers[place].append(-1)
    return readers


def table_luts(inputs: int) -> int:
    """LUTs of four inputs for one bit of a table, multiplexers among them."""
    return 1 if inputs <= LUT_INPUTS else 2 * table_luts(inputs - 1) + 1


def _trailing_zeros(number: int) -> int:
    return (int(number) & -int(number)).bit_length() - 1 if number else 0
