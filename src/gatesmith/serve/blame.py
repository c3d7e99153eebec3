"""Whose fault a failure is: the device's, or that of a request that makes devices fail.

Whatever a device was at when it failed is run again, from then on each request alone. A device that is healthy as soon
as it was programmed again speaks against what it was at. A request that failed alone, and has two such devices against
it, is refused alone: it would take one device after the other. Everything else is tried until ``ATTEMPTS``.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from gatesmith.errors import DeviceError, GatesmithError
from gatesmith.serve.deployment import Call
from gatesmith.serve.engine import Failure

__all__ = ["Blame", "Suspects"]

ATTEMPTS: Final = 4
"""How often a request is tried on devices before it is refused."""
_ENOUGH: Final = 2


class Suspects:
    """What one device was at when it failed."""

    def __init__(self) -> None:
        self.seen: list[Call] = []  # on their way to another device
        self.held: list[Failure] = []  # these failed before: they wait until it is known how the device is

    def __bool__(self) -> bool:
        return bool(self.seen or self.held)


class Blame:
    """Counts, for each request, the devices that speak against it."""

    def __init__(self) -> None:
        self._against: Counter[Call] = Counter()

    def accuse(self, suspects: Suspects, failure: Failure) -> None:
        """A device failed at these calls: what failed for the first time goes to another device at once."""
        again = [call for call in failure.calls if not call.attempts]
        held = [call for call in failure.calls if call.attempts]
        for call in failure.calls:
            call.attempts += 1
        if held:
            suspects.held.append(failure._replace(calls=held))
        suspects.seen += again
        self._put_back(failure._replace(calls=again))

    def judge(self, suspects: Suspects, *, healthy: bool) -> None:
        """It was seen how the device is: what waited for that is run again or refused."""
        for call in (*suspects.seen, *(call for failure in suspects.held for call in failure.calls)):
            self._against[call] += healthy
        held, suspects.held, suspects.seen = suspects.held, [], []
        for failure in held:
            refused = [call for call in failure.calls if self._is_over(call)]
            failure.deployment.refuse(refused, _error(failure))
            self._put_back(failure._replace(calls=[call for call in failure.calls if call not in refused]))
        self._against = Counter({call: count for call, count in self._against.items() if not call.future.done()})

    def refuse(self, suspects: Suspects) -> None:
        """Nobody will see how the device is."""
        for failure in suspects.held:
            failure.deployment.refuse(failure.calls, _error(failure))
        suspects.held, suspects.seen = [], []

    def _is_over(self, call: Call) -> bool:
        return self._against[call] >= _ENOUGH or call.attempts >= ATTEMPTS

    def _put_back(self, failure: Failure) -> None:
        failure.deployment.counts.retried += len(failure.calls)
        failure.deployment.put_back(failure.calls, alone=True)


def _error(failure: Failure) -> GatesmithError:
    if isinstance(failure.error, GatesmithError):
        return failure.error
    return DeviceError(f"device failed: {type(failure.error).__name__}; see the server's log")
