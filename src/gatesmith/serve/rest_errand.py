"""A coroutine that is run from where it is, without a task: nearly every request waits once, for its device.

A task would start it in the next round of the event loop and let the server know of it; both cost more than the work.
What it runs must not need ``asyncio.current_task()``, so no ``asyncio.timeout``; anything else may be awaited.
"""

# Ref: CPython asyncio/tasks.py, Task.__step: a coroutine yields the future it waits for, or nothing to be called again
# Measured: docs/decisions/0009-rest-from-the-socket.md

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["Errand"]


class Errand:
    """Begin with :meth:`start`, on the event loop."""

    __slots__ = ("_coroutine", "_future", "_is_cancelled")

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine = coroutine
        self._future: asyncio.Future[Any] | None = None
        self._is_cancelled = False

    def start(self) -> None:
        """Run up to where it waits for the first time, or to its end."""
        self._go_on(None)

    def cancel(self) -> None:
        """Let it end where it waits."""
        self._is_cancelled = True
        if self._future is not None:
            self._future.cancel()

    def _go_on(self, _ended: asyncio.Future[Any] | None) -> None:
        try:
            if self._is_cancelled:  # also when what it waited for had ended already
                self._future = self._coroutine.throw(asyncio.CancelledError())
            else:
                self._future = self._coroutine.send(None)
        except (StopIteration, asyncio.CancelledError):
            return
        if self._future is None:
            asyncio.get_running_loop().call_soon(self._go_on, None)
        else:
            self._future._asyncio_future_blocking = False  # it was taken notice of, as a task would
            self._future.add_done_callback(self._go_on)
