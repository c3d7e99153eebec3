"""A tree's tables as logic: the answers of its comparisons choose the bits of a word for each output.

Few bits are multiplexers along the tree, in which a subtree whose leaves agree in the bit is gone. For many bits, as
when every leaf has a share for each of many classes, the leaves come first: one signal each, exactly one of them high,
and a bit is the OR of some.
"""
# Amaranth values have no types of their own to postpone, but the engines' files are kept alike.

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from amaranth.hdl import Cat, Const, Mux, Value
from numpy.typing import NDArray

from gatesmith.gateware.forest import Path

__all__ = ["Word", "words_of"]

Word: TypeAlias = tuple[Value, int]
"""Bits of an unsigned number, and the largest that it can be."""

FEW_BITS = 12
"""Most bits of a tree's words for which multiplexers take less room than leaves."""

Named: TypeAlias = Callable[[Value, str], Value]

_Branch: TypeAlias = "int | tuple[int, _Branch, _Branch]"
_Bit: TypeAlias = "int | Value"


def words_of(
    paths: Sequence[Path], answers: Sequence[Value], tables: Sequence[NDArray[np.int64]], *, named: Named
) -> list[Word]:
    """One word for each output of a tree.

    Parameters
    ----------
    paths : sequence of Path
        The tree's leaves.
    answers : sequence of Value
        What each comparison says.
    tables : sequence of ndarray of int64, shape (leaves,)
        For each output the leaves' numbers.
    named : callable
        Makes a value a signal, so that its logic is there once.
    """
    branch = _branch(list(enumerate(paths)), 0)
    bits = sum(int(table.max()).bit_length() for table in tables)
    hot = _leaves(branch, answers, Const(1, 1), named) if bits > FEW_BITS else {}
    words = []
    for table in tables:
        highest = int(table.max())
        wanted = [(table >> i & 1).tolist() for i in range(highest.bit_length())]
        word = [_one_of(hot, each) if hot else _chosen(branch, answers, each) for each in wanted]
        words.append((Cat(Const(bit, 1) if isinstance(bit, int) else bit for bit in word), highest))
    return words


def _branch(leaves: list[tuple[int, Path]], depth: int) -> _Branch:
    number, path = leaves[0]
    if len(path) == depth:
        return number
    yes, no = ([leaf for leaf in leaves if leaf[1][depth][1] is side] for side in (True, False))
    return path[depth][0], _branch(yes, depth + 1), _branch(no, depth + 1)


def _chosen(branch: _Branch, answers: Sequence[Value], wanted: list[int]) -> _Bit:
    """A bit as multiplexers, or what it always is."""
    if isinstance(branch, int):
        return wanted[branch]
    test, *sides = branch
    yes, no = (_chosen(side, answers, wanted) for side in sides)
    if isinstance(yes, int) and isinstance(no, int):
        return yes if yes == no else answers[test] if yes else ~answers[test]
    return Mux(answers[test], yes, no)


def _leaves(branch: _Branch, answers: Sequence[Value], here: Value, named: Named) -> dict[int, Value]:
    if isinstance(branch, int):
        return {branch: here}
    test, yes, no = branch
    left, right = (named(here & side, "branch") for side in (answers[test], ~answers[test]))
    return _leaves(yes, answers, left, named) | _leaves(no, answers, right, named)


def _one_of(hot: dict[int, Value], wanted: list[int]) -> _Bit:
    """High when one of the wanted leaves is; low when one of the others is, where those are fewer."""
    ones = [leaf for number, leaf in hot.items() if wanted[number]]
    zeros = [leaf for number, leaf in hot.items() if not wanted[number]]
    if len(zeros) < len(ones):
        return ~Cat(zeros).any() if zeros else 1
    return Cat(ones).any() if ones else 0
