"""What every verb shares: results on stdout, everything else on stderr, errors as one line and an exit code.

With ``--json`` a result, or an error, is exactly one JSON object on stdout.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, ParamSpec

import typer

from gatesmith.errors import GatesmithError

__all__ = ["JsonFlag", "emit", "named", "progress_bar", "table", "verb"]

P = ParamSpec("P")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

FAILED, INTERRUPTED = 1, 130


def verb(function: Callable[P, None]) -> Callable[P, None]:
    """Turn what a verb raises into one line and an exit code; anything unforeseen keeps its traceback."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            function(*args, **kwargs)
            sys.stdout.flush()
        except GatesmithError as error:
            _fail(error, as_json=bool(kwargs.get("as_json")))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # the reader of stdout went away; nothing is left to say to it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(FAILED) from None

    return wrapped


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(error: GatesmithError, *, as_json: bool) -> None:
    message = " ".join(str(error).split())
    if as_json:
        facts = {"type": type(error).__name__, "message": message, **error.facts}
        print(json.dumps({"error": facts}))
    else:
        print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(FAILED)


def emit(data: Any, render: Callable[[], None], *, as_json: bool) -> None:
    """Print a result: as JSON, or as ``render`` shows it to people."""
    if as_json:
        print(json.dumps(data))
    else:
        render()


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table on stdout."""
    from rich.console import Console
    from rich.table import Table

    result = Table(title=title or None, title_justify="left")
    for column in columns:
        result.add_column(column, overflow="fold")
    for row in rows:
        result.add_row(*row)
    # a pipe has no width: do not fold there
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(result)


@contextmanager
def progress_bar(*, as_json: bool) -> Iterator[Callable[[str, float], None]]:
    """A progress bar on stderr when that is a terminal, a line for each stage otherwise, nothing with ``--json``."""
    if as_json:
        yield lambda _stage, _done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _line_for_each_stage()
        return
    with Progress(
        TextColumn("{task.description:<12}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda stage, done: bar.update(task, description=stage, completed=done)


def _line_for_each_stage() -> Callable[[str, float], None]:
    seen: list[str] = []

    def tell(stage: str, _done: float) -> None:
        if not seen or seen[-1] != stage:
            seen.append(stage)
            print(f"{stage} ...", file=sys.stderr, flush=True)

    return tell


def named(target: str) -> tuple[Any, str]:
    """The store and the reference that a user's REF or DIR stands for.

    Raises
    ------
    ArtifactNotFound
        When a folder holds no artifact, or several.
    """
    from gatesmith.artifact.store import Store
    from gatesmith.errors import ArtifactNotFound

    if not Path(target).is_dir():
        return Store(), target
    store = Store(Path(target))
    found = [entry.reference for entry in store.list()]
    if len(found) != 1:
        raise ArtifactNotFound(f"folder {target!r} holds {len(found)} artifacts, one is needed", path=target)
    return store, found[0]
