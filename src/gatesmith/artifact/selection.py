"""Which firmware of an artifact a board gets: its own; else one for the same part, and that is always told.

Only the part decides what a bitstream configures, but pins decide what it drives. So a firmware of another board is
taken only when it is called ``generic-...``, or when both boards are known here to have the same pins and clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gatesmith.artifact.descriptor import Descriptor
from gatesmith.artifact.manifest import BOARD, PART
from gatesmith.boards import Board, all_boards
from gatesmith.errors import ArtifactNotFound

__all__ = ["Choice", "choose"]

_GENERIC = "generic-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A firmware's manifest; ``board`` is the one it announces, ``warning`` is for the user."""

    descriptor: Descriptor
    board: str = ""
    warning: str = ""


def choose(reference: str, manifests: Sequence[Descriptor], board: str | None) -> Choice:
    """The firmware for a board; without a board, the only one there is.

    Raises
    ------
    ArtifactNotFound
        When there is none; the message names the boards there are.
    """
    boards = [manifest.annotations.get(BOARD, "") for manifest in manifests]
    matching = [m for m in manifests if board is None or m.annotations.get(BOARD, board) == board]
    if len(matching) == 1:
        return Choice(descriptor=matching[0], board=board or matching[0].annotations.get(BOARD, ""))
    if board is None and boards:
        raise ArtifactNotFound(
            f"{reference} holds firmware for {len(boards)} boards: {', '.join(boards)}; choose one with --board",
            boards=boards,
        )
    if board is not None and (other := _for_the_part(manifests, board)):
        name = other.annotations[BOARD]
        return Choice(
            descriptor=other,
            board=name,
            warning=f"{reference} has no firmware for board {board}; the one for {name} is taken, which has the same "
            f"part {other.annotations[PART]}",
        )
    there = f"it holds firmware for {', '.join(boards) or 'no board'}"
    raise ArtifactNotFound(f"{reference} has no firmware for board {board}: {there}", board=board, boards=boards)


def _for_the_part(manifests: Sequence[Descriptor], name: str) -> Descriptor | None:
    """The generic firmware for this board's part, else that of a board with the same pins."""
    known = all_boards()
    wanted = known.get(name)
    if wanted is None:
        return None
    same_part = [m for m in manifests if m.annotations.get(PART, "").casefold() == wanted.part.casefold()]
    generic = [m for m in same_part if m.annotations.get(BOARD, "").startswith(_GENERIC)]
    twins = [
        m for m in same_part if (other := known.get(m.annotations.get(BOARD, ""))) and _pins(other) == _pins(wanted)
    ]
    return next(iter([*generic, *twins]), None)


def _pins(board: Board) -> tuple[str | int, ...]:
    return (board.clock_pin, board.rx_pin, board.tx_pin, board.io_standard, board.clock_hz)
