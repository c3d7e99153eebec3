"""Room for large messages: how much all clients together may have under way.

A client may begin many messages at once, each with a small window. One that says it is longer gets the rest of its
window once there is room for all of it, in the order of asking; so what is begun can always be finished.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["Place", "Room"]


class Place:
    """A share of the room, or a wait for one."""

    __slots__ = ("given", "size", "then")

    def __init__(self, size: int, then: Callable[[], None]) -> None:
        self.size, self.then = size, then
        self.given = False


class Room:
    """So many bytes, first come, first served."""

    def __init__(self, size: int) -> None:
        self._free = self._size = size
        self._waiting: deque[Place] = deque()

    def take(self, size: int, then: Callable[[], None]) -> Place:
        """Ask for a share no larger than the room; ``then`` is called once it is there, perhaps at once."""
        place = Place(min(size, self._size), then)
        self._waiting.append(place)
        self._serve()
        return place

    def give_back(self, place: Place) -> None:
        """A share is free again, or not wanted any more."""
        if place.given:
            place.given = False
            self._free += place.size
            self._serve()
        elif place in self._waiting:
            self._waiting.remove(place)
            self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0].size <= self._free:
            place = self._waiting.popleft()
            self._free -= place.size
            place.given = True
            place.then()
