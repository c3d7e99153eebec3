"""Progress on stderr: a bar on a terminal, a line for each longer stage elsewhere, nothing with ``--json``."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress_bar"]

Tell = Callable[[str, float], None]

LONG_S = 1.0
"""A stage that takes longer than this is told in a log; a command that fails at once says one line, its error."""


@contextmanager
def progress_bar(*, as_json: bool) -> Iterator[Tell]:
    """Yields what takes the name of a stage and the part of it that is done, 0 to 1."""
    if as_json:
        yield lambda _stage, _done: None
    elif sys.stderr.isatty():
        with _bar() as tell:
            yield tell
    else:
        with _lines() as tell:
            yield tell


@contextmanager
def _bar() -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<12}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        # Short stages say 0 and 1 of themselves, long ones where the whole build is: those move the bar.
        yield lambda stage, done: bar.update(task, description=stage, completed=done if 0 < done < 1 else None)


@contextmanager
def _lines() -> Iterator[Tell]:
    said: set[str] = set()
    timer: threading.Timer | None = None
    current = ""

    def stop() -> None:
        if timer is not None:
            timer.cancel()

    def say(stage: str) -> None:
        if stage not in said:
            said.add(stage)
            print(f"{stage} ...", file=sys.stderr, flush=True)

    def tell(stage: str, _done: float) -> None:
        nonlocal timer, current
        if stage != current:
            stop()
            current = stage
            timer = threading.Timer(LONG_S, say, [stage])
            timer.daemon = True
            timer.start()

    try:
        yield tell
    finally:
        stop()
