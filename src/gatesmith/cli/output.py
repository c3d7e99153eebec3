"""What every verb shares: results on stdout, everything else on stderr, errors as one line and an exit code.

With ``--json`` a result, or an error, is exactly one JSON object on stdout.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from itertools import zip_longest
from types import FrameType
from typing import Annotated, Any, NoReturn, ParamSpec

import typer

from gatesmith.errors import GatesmithError

__all__ = ["FAILED", "JsonFlag", "emit", "silence_stdout", "table", "usage_error", "verb"]

P = ParamSpec("P")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

FAILED, MISUSED, INTERRUPTED = 1, 2, 130


def verb(function: Callable[P, None]) -> Callable[P, None]:
    """Turn what a verb raises into one line and an exit code; anything unforeseen keeps its traceback."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            function(*args, **kwargs)
            sys.stdout.flush()
        except GatesmithError as error:
            _fail(type(error).__name__, str(error), error.facts, as_json=bool(kwargs.get("as_json")))
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None

    return wrapped


def usage_error(message: str) -> NoReturn:
    """End with the code of a wrong command line; nothing was parsed, so ``--json`` is looked for by hand."""
    verb_name = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    of_verb = f" {verb_name}" if verb_name.isidentifier() and not message.startswith("No such command") else ""
    text = f"{message.rstrip('.')}; see 'gatesmith{of_verb} --help'"
    _fail("UsageError", text, {}, as_json="--json" in sys.argv)
    sys.exit(MISUSED)


def silence_stdout() -> None:
    """The reader of stdout went away; nothing is left to say to it, not even when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(kind: str, message: str, facts: dict[str, Any], *, as_json: bool) -> None:
    line = " ".join(message.split())
    if as_json:
        print(json.dumps({"error": {**facts, "type": kind, "message": line}}), flush=True)
    else:
        print(f"error: {line}", file=sys.stderr)


def emit(data: Any, render: Callable[[], None], *, as_json: bool) -> None:
    """Print a result: as JSON, or as ``render`` shows it to people."""
    if as_json:
        print(json.dumps(data))
    else:
        render()


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table on stdout; without column names it has no head."""
    if not sys.stdout.isatty():
        _plain_table(title, columns, rows)  # a pipe has no width to fold at, and may get a thousand rows
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    result = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        show_header=any(columns),
        show_edge=False,
    )
    for column in columns:
        result.add_column(column, overflow="fold")
    for row in rows:
        result.add_row(*row)
    console = Console(highlight=False)
    with console.capture() as capture:
        console.print(result)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _plain_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """The same in plain text, as wide as its content; a cell of several lines makes its row higher."""
    head = [columns] if any(columns) else []
    cells = [[cell.split("\n") for cell in row] for row in [*head, *rows]]
    widths = [max((len(line) for row in cells for line in row[i]), default=0) for i in range(len(columns))]
    lines = [line for row in cells for line in zip_longest(*row, fillvalue="")]
    text = ["   ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    if head:
        text.insert(1, "─" * (sum(widths) + 3 * (len(widths) - 1)))
    print("\n".join([title, *text] if title else text))
