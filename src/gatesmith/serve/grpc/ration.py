"""A ration of what costs the server and is no call: it refills with time and with every call that is answered."""

from __future__ import annotations

from gatesmith.serve.grpc.frames import ErrorCode, ProtocolError

__all__ = ["Ration"]

_FULL, _PER_S = 2000.0, 200.0


class Ration:
    """How many resets, pings, settings and empty frames a client may still send."""

    def __init__(self, now: float) -> None:
        self._left, self._at = _FULL, now

    def spend(self, now: float) -> None:
        """Take one.

        Raises
        ------
        ProtocolError
        """
        self._left -= 1
        if self._left < 0:
            self._left = min(self._left + (now - self._at) * _PER_S, _FULL)
            self._at = now
            if self._left < 0:
                raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that are no calls")

    def earn(self) -> None:
        """A call was answered."""
        self._left = min(self._left + 1, _FULL)
