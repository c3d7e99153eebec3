"""Universal Binary JSON, as XGBoost writes it: read-only and bounded; lists of numbers of one type are arrays."""

# Ref: Universal Binary JSON specification, draft 12: value types, container types, optimised arrays ($ type, # count)

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["decode"]

MAX_DEPTH = 64

NUMBERS = {ord(c): code for c, code in zip("iUIlLdD", ("i1", "u1", ">i2", ">i4", ">i8", ">f4", ">f8"), strict=True)}
WORDS = {ord("T"): True, ord("F"): False, ord("Z"): None}


def decode(data: bytes) -> Any:
    """The value of a whole file.

    Raises
    ------
    ValueError
        When the bytes are no such value, or something follows it.
    """
    reader = _Reader(data)
    value = reader.value(reader.take(1)[0], 0)
    if reader.place != len(data):
        raise ValueError(f"{len(data) - reader.place} bytes follow the end")
    return value


class _Reader:
    """The bytes and how many of them have been read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.place:
            raise ValueError(f"{count} bytes are needed at {self.place}, the file has {len(self.data)}")
        self.place += count
        return self.data[self.place - count : self.place]

    def number(self, kind: int) -> int | float:
        if kind not in NUMBERS:
            raise ValueError(f"type {chr(kind)!r} at {self.place} is no number")
        dtype = np.dtype(NUMBERS[kind])
        number: int | float = np.frombuffer(self.take(dtype.itemsize), dtype)[0].item()
        return number

    def length(self) -> int:
        count = self.number(self.take(1)[0])
        if not isinstance(count, int):
            raise ValueError(f"a length at {self.place} is {count}")
        return count

    def text(self) -> str:
        return self.take(self.length()).decode()

    def value(self, kind: int, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} levels at {self.place}")
        if kind in NUMBERS:
            return self.number(kind)
        if kind in WORDS:
            return WORDS[kind]
        match chr(kind):
            case "S" | "H":
                return self.text()
            case "C":
                return chr(self.take(1)[0])
            case "[":
                return self._list(depth)
            case "{":
                return self._dictionary(depth)
        raise ValueError(f"type {chr(kind)!r} at {self.place} is unknown")

    def _header(self) -> tuple[int | None, int | None]:
        """Type and count of an optimised container."""
        kind = count = None
        if self.data[self.place : self.place + 1] == b"$":
            kind = self.take(2)[1]
            if self.data[self.place : self.place + 1] != b"#":
                raise ValueError(f"a typed container at {self.place} has no count")
        if self.data[self.place : self.place + 1] == b"#":
            self.take(1)
            count = self.length()
            if not 0 <= count <= len(self.data):
                raise ValueError(f"a container at {self.place} has {count} elements")
        return kind, count

    def _list(self, depth: int) -> Any:
        kind, count = self._header()
        if kind in NUMBERS and count is not None:
            dtype = np.dtype(NUMBERS[kind])
            return np.frombuffer(self.take(count * dtype.itemsize), dtype)
        if count is not None:
            return [self.value(kind or self.take(1)[0], depth + 1) for _ in range(count)]
        found = []
        while (mark := self.take(1)[0]) != ord("]"):
            found.append(self.value(mark, depth + 1))
        return found

    def _dictionary(self, depth: int) -> dict[str, Any]:
        kind, count = self._header()
        found: dict[str, Any] = {}
        while count is None or len(found) < count:
            if count is None and self.data[self.place : self.place + 1] == b"}":
                self.take(1)
                break
            key = self.text()
            if key in found:
                raise ValueError(f"key {key!r} is there twice")
            found[key] = self.value(kind or self.take(1)[0], depth + 1)
        return found
