"""Boards that firmware can be built for; a package adds its own through the entry-point group ``gatesmith.boards``.

An entry point names a tuple of :class:`Board`. A name that two of them use is an error: a build must not depend on
the order in which packages were installed.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType

from gatesmith.boards.board import Board, Family
from gatesmith.errors import BoardNotFound, BuildError

__all__ = ["Board", "Family", "all_boards", "find_board"]


@cache
def all_boards() -> Mapping[str, Board]:
    """Every known board by name, sorted.

    Raises
    ------
    BuildError
        When two entry points bring a board of the same name.
    """
    boards: dict[str, Board] = {}
    for entry in sorted(entry_points(group="gatesmith.boards"), key=lambda entry: entry.name):
        for board in entry.load():
            if board.name in boards:
                raise BuildError(f"board {board.name} is defined twice; remove one of the packages that bring it")
            boards[board.name] = board
    return MappingProxyType(dict(sorted(boards.items())))


def find_board(name: str) -> Board:
    """The board of this name; case does not matter.

    Raises
    ------
    BoardNotFound
        With near matches, or with every name when nothing is near.
    """
    boards = all_boards()
    board = boards.get(name.lower())
    if board is not None:
        return board
    near = difflib.get_close_matches(name.lower(), boards, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(boards)}"
    raise BoardNotFound(f"no board is called {name!r}; {hint}", board=name, near=near)
