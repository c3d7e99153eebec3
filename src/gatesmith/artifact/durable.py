"""Files that appear whole or not at all, and locks between processes."""

# Ref: rename(2), fsync(2): a rename is atomic, and lasting once the folder is flushed

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gatesmith.errors import StoreWriteFailed

__all__ = ["becoming", "locked", "store_errors"]


@contextlib.contextmanager
def becoming(place: Path, partial_folder: Path) -> Iterator[BinaryIO]:
    """A file to write in another folder of the same disk; it gets to its place when nothing failed."""
    partial = partial_folder / f".{uuid.uuid4().hex}"
    partial_folder.mkdir(exist_ok=True)
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(place)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    _flush_folder(place.parent)


@contextlib.contextmanager
def locked(path: Path, *, exclusive: bool, wait: bool = True) -> Iterator[None]:
    """Hold a lock on a file, which is made, or on a folder; a shared one only as far as the file can be made.

    Raises
    ------
    BlockingIOError
        When others hold it and ``wait`` is false.
    """
    descriptor = _open_lock(path, exclusive=exclusive)
    if descriptor is None:
        yield
        return
    try:
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Around the writing of a store: what the system refuses becomes one line.

    Raises
    ------
    StoreWriteFailed
    """
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise StoreWriteFailed(
            f"store {path} cannot be written: {error.strerror or error}; free space there or set GATESMITH_HOME",
            path=str(path),
            errno=error.errno,
        ) from error


def _open_lock(path: Path, *, exclusive: bool) -> int | None:
    if path.is_dir():
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        # A folder that cannot be written (a mounted, read-only one) or is not there has no writers to keep out.
        if exclusive or error.errno not in {errno.EROFS, errno.EACCES, errno.ENOENT, errno.ENOTDIR}:
            raise
    with contextlib.suppress(OSError):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return None


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
