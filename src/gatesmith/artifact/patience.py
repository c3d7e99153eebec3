"""How long a registry is waited for: time limits of one exchange, and how often and when a failed one is tried again.

Everything ends: a connection, an answer, a body that stalls or drips, and all tries together.
"""

# Ref: RFC 9110 section 10.2.3 Retry-After: seconds or a date

from __future__ import annotations

import email.utils
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from gatesmith.errors import GatesmithError

__all__ = ["Limits", "Patience", "retry_after_s"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Time limits of a registry client.

    Parameters
    ----------
    stall_s : float
        A body that brings nothing for so long, or less than ``slowest_bytes_per_s`` over so long, has stalled.
    tries, patience_s
        A failing exchange is tried so often, for so long in all, waits included; time in which content came in does
        not count.
    settle_s : float
        After a name that others change too was changed, it is read again this much later, or five times as much later
        as the change took.
    """

    connect_s: float = 10.0
    answer_s: float = 30.0
    stall_s: float = 20.0
    slowest_bytes_per_s: float = 4096.0
    tries: int = 5
    patience_s: float = 60.0
    first_wait_s: float = 0.25
    settle_s: float = 0.25


class Patience:
    """The tries of one operation."""

    def __init__(self, limits: Limits, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._limits, self._pause = limits, pause
        self._failed, self._since = 0, time.monotonic()

    def left_s(self) -> float:
        """What is left of the time for all tries."""
        return self._limits.patience_s - (time.monotonic() - self._since)

    def progressed(self) -> None:
        """Content came in: the time until now does not count."""
        self._since = time.monotonic()

    def wait(self, error: GatesmithError, *, wanted_s: float | None = None) -> None:
        """Wait before the next try, or raise the error when there is none.

        Parameters
        ----------
        wanted_s : float, optional
            What the registry asked for; without, twice as long as before, and not in step with others.
        """
        self._failed += 1
        usual = self._limits.first_wait_s * 2 ** (self._failed - 1) * (0.5 + secrets.randbelow(500) / 1000)
        delay = usual if wanted_s is None else wanted_s
        if self._failed >= self._limits.tries or delay >= self.left_s():
            raise error
        self._pause(delay)


def retry_after_s(text: str) -> float | None:
    """Seconds that a ``Retry-After`` header asks for; nothing when it cannot be read."""
    if text.strip().isascii() and text.strip().isdigit():
        return float(text.strip()[:9])
    try:
        when = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return max(0.0, when.timestamp() - time.time())
