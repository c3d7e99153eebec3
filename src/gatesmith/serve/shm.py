"""Shared memory of clients on the same host: tensors that are read and written where they lie.

A region is a POSIX shared memory object that a client has made and names; the server never makes one. It is read and
written through a file descriptor and not mapped: a client may shrink its object at any time, and touching mapped memory
behind the end kills the process, while reading there is just short. It costs one copy of what would else travel
through a socket.
"""

# Ref: shm_open(3), shm_overview(7): an object's name is a slash and up to 255 characters without another; /dev/shm
# Ref: mmap(2): SIGBUS for a page behind the end of the object; pread(2) is short there, pwrite(2) makes it longer
# Ref: Triton shared memory extension: register, unregister, status; shared_memory_region, _offset, _byte_size

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from gatesmith.errors import TensorMismatch

__all__ = ["Region", "Regions"]

_FOLDER = Path("/dev") / "shm"
_MOST = 1024
_LIMIT_BYTES = 16 << 20
_LONGEST_NAME = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """A registered part of a shared memory object."""

    name: str
    key: str
    offset: int
    byte_size: int
    descriptor: int

    def to_json(self) -> dict[str, str | int]:
        """As the protocol's status has it."""
        return {"name": self.name, "key": self.key, "offset": self.offset, "byte_size": self.byte_size}


class Regions:
    """All registered regions of a server.

    Parameters
    ----------
    folder : Path
        Where the system keeps shared memory objects.
    most : int
        How many regions there may be.
    limit_bytes : int
        Largest part that is read at once: an object's size costs its maker nothing, and a copy of it costs the server.
    """

    def __init__(self, *, folder: Path = _FOLDER, most: int = _MOST, limit_bytes: int = _LIMIT_BYTES) -> None:
        self._folder, self._most, self._limit_bytes = folder, most, limit_bytes
        self._regions: dict[str, Region] = {}

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Make a region known.

        Raises
        ------
        TensorMismatch
            When the name is taken or empty, the key is no object's name, there is no such object of this size, or there
            are too many regions.
        """
        if not name or len(name) > _LONGEST_NAME:
            raise TensorMismatch(
                f"a shared memory region's name has {len(name)} characters, 1 to {_LONGEST_NAME} are needed"
            )
        if name in self._regions:
            raise TensorMismatch(
                f"shared memory region {name!r} is registered already; unregister it first", region=name
            )
        if len(self._regions) >= self._most:
            raise TensorMismatch(f"{self._most} shared memory regions are registered, no more may be", limit=self._most)
        descriptor = self._opened(name, key)
        region = Region(name=name, key=key, offset=offset, byte_size=byte_size, descriptor=descriptor)
        try:
            _check_room(region, offset, byte_size)
        except TensorMismatch:
            os.close(descriptor)
            raise
        self._regions[name] = region

    def unregister(self, name: str | None = None) -> None:
        """Forget a region, or all of them; one that is not known is forgotten already."""
        names = list(self._regions) if name is None else [name]
        for region in [self._regions.pop(one) for one in names if one in self._regions]:
            os.close(region.descriptor)

    def status(self, name: str | None = None) -> list[dict[str, str | int]]:
        """What is registered: all, or one region.

        Raises
        ------
        TensorMismatch
            When there is no region of that name.
        """
        regions = [self._region(name)] if name else list(self._regions.values())
        return [region.to_json() for region in regions]

    def read(self, name: str, offset: int, byte_size: int) -> memoryview:
        """A copy of part of a region.

        Raises
        ------
        TensorMismatch
            When the region is not known, the part leaves it, or its object has become smaller.
        """
        region = self._region(name)
        _check_inside(region, offset, byte_size)
        if byte_size > self._limit_bytes:
            raise TensorMismatch(
                f"{byte_size} bytes of shared memory are to be read at once, {self._limit_bytes} may be; "
                "send smaller batches",
                limit=self._limit_bytes,
            )
        try:
            data = os.pread(region.descriptor, byte_size, region.offset + offset)
        except OSError as error:
            raise TensorMismatch(
                f"shared memory region {name!r} cannot be read: {error.strerror}", region=name
            ) from error
        if len(data) != byte_size:
            raise _shrunk(region, offset + len(data), byte_size)
        return memoryview(data)

    def write(self, name: str, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write into a region.

        Raises
        ------
        TensorMismatch
            When the region is not known, the data leaves it, or its object has become smaller.
        """
        region = self._region(name)
        _check_inside(region, offset, len(data))
        _check_room(region, region.offset + offset, len(data))  # writing behind the end would make the object longer
        view, place = memoryview(data), region.offset + offset
        while view:
            try:
                done = os.pwrite(region.descriptor, view, place)
            except OSError as error:
                raise TensorMismatch(
                    f"shared memory region {name!r} cannot be written: {error.strerror}", region=name
                ) from error
            view, place = view[done:], place + done

    def close(self) -> None:
        """Forget all regions."""
        self.unregister()

    def _region(self, name: str) -> Region:
        region = self._regions.get(name)
        if region is None:
            raise TensorMismatch(
                f"no shared memory region {name[:80]!r} is registered; register it first", region=name[:80]
            )
        return region

    def _opened(self, name: str, key: str) -> int:
        inner = key.removeprefix("/")
        if not inner or inner in {".", ".."} or "/" in inner or "\0" in inner or len(inner) > _LONGEST_NAME:
            raise TensorMismatch(
                f"shared memory key {key[:80]!r} is no object's name: one slash and then none are needed", region=name
            )
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(self._folder / inner, flags)
        except (OSError, UnicodeEncodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "its name is not text"
            raise TensorMismatch(f"shared memory object {key[:80]!r} cannot be opened: {why}", region=name) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise TensorMismatch(f"{key[:80]!r} is no shared memory object", region=name)
        return descriptor


def _check_inside(region: Region, offset: int, byte_size: int) -> None:
    if not 0 <= offset <= region.byte_size or not 0 <= byte_size <= region.byte_size - offset:
        raise TensorMismatch(
            f"{byte_size} bytes at offset {offset} are not inside shared memory region {region.name!r}, "
            f"which has {region.byte_size}",
            region=region.name,
        )


def _check_room(region: Region, start: int, byte_size: int) -> None:
    if start < 0 or byte_size < 0:
        raise TensorMismatch(f"offset {start} and size {byte_size} are no part of memory", region=region.name)
    size = os.fstat(region.descriptor).st_size
    if byte_size > size - start:
        raise TensorMismatch(
            f"shared memory object {region.key!r} has {size} bytes, {byte_size} at offset {start} are needed",
            region=region.name,
        )


def _shrunk(region: Region, place: int, byte_size: int) -> TensorMismatch:
    return TensorMismatch(
        f"shared memory object {region.key!r} ends at byte {region.offset + place} of region {region.name!r}, "
        f"{byte_size} bytes were to be read; it has become smaller",
        region=region.name,
    )
