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
    """What one device was at when it failed, until it is seen how the device is."""

    def __init__(self) -> None:
        self.calls: list[Call] = []


class Blame:
    """Counts, for each request, the devices that speak against it."""

    def __init__(self) -> None:
        self._against: Counter[Call] = Counter()
        self._open: Counter[Call] = Counter()  # devices of which nothing was seen yet
        self._held: list[Failure] = []

    def accuse(self, suspects: Suspects, failure: Failure) -> None:
        """A device failed at these calls: what failed for the first time goes to another device at once."""
        again = [call for call in failure.calls if not call.attempts]
        held = [call for call in failure.calls if call.attempts]
        for call in failure.calls:
            call.attempts += 1
        self._open.update(failure.calls)
        suspects.calls += failure.calls
        if held:
            self._held.append(failure._replace(calls=held))
        self._put_back(failure._replace(calls=again))

    def judge(self, suspects: Suspects, *, healthy: bool) -> None:
        """It was seen how the device is: what waited for that is run again or refused."""
        self._close(suspects)
        if healthy:
            self._against.update(suspects.calls)
        suspects.calls = []
        held, self._held = self._held, []
        for failure in held:
            self._sort(failure)
        self._against = Counter({call: count for call, count in self._against.items() if not call.future.done()})

    def refuse(self, suspects: Suspects) -> None:
        """Nobody will see how the device is."""
        self._close(suspects)
        held, self._held = self._held, []
        for failure in held:
            gone = [call for call in failure.calls if call in suspects.calls]
            failure.deployment.refuse(gone, _error(failure))
            self._hold(failure, [call for call in failure.calls if call not in gone])
        suspects.calls = []

    def _close(self, suspects: Suspects) -> None:
        self._open.subtract(suspects.calls)
        self._open = +self._open

    def _sort(self, failure: Failure) -> None:
        over = [call for call in failure.calls if self._against[call] >= _ENOUGH or call.attempts >= ATTEMPTS]
        rest = [call for call in failure.calls if call not in over]
        waiting = [call for call in rest if self._open[call] and self._against[call] + self._open[call] >= _ENOUGH]
        failure.deployment.refuse(over, _error(failure))
        self._hold(failure, waiting)
        self._put_back(failure._replace(calls=[call for call in rest if call not in waiting]))

    def _hold(self, failure: Failure, calls: list[Call]) -> None:
        if calls:
            self._held.append(failure._replace(calls=calls))

    def _put_back(self, failure: Failure) -> None:
        failure.deployment.counts.retried += len(failure.calls)
        failure.deployment.put_back(failure.calls, alone=True)


def _error(failure: Failure) -> GatesmithError:
    if isinstance(failure.error, GatesmithError):
        return failure.error
    return DeviceError(f"device failed: {type(failure.error).__name__}; see the server's log")
