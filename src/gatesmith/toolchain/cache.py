"""Finished results on disk, one file each, by the digest of everything that they depend on.

A file appears at once or not at all (written aside, synchronised, renamed) and starts with the digest of the rest, so
a torn or changed file is noticed, dropped and built again. Deleting the folder is always safe.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from gatesmith.errors import BuildError

__all__ = ["load", "store"]


def load(folder: Path, key: str) -> dict[str, bytes] | None:
    """The files stored under a key, or None when there are none or they are damaged."""
    path = _path(folder, key)
    try:
        content = path.read_bytes()
    except OSError:
        return None
    files = _unpack(content, key)
    if files is None:
        with contextlib.suppress(OSError):
            path.unlink()
    return files


def store(folder: Path, key: str, files: Mapping[str, bytes]) -> None:
    """Keep files under a key; what was there is replaced.

    Raises
    ------
    BuildError
        When the folder cannot be written; nothing half-written stays.
    """
    index = json.dumps({name: len(content) for name, content in files.items()}).encode()
    body = b"\n".join([key.encode(), index, b"".join(files.values())])
    content = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
    path = _path(folder, key)
    aside = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(aside).replace(path)
    except OSError as error:
        raise BuildError(
            f"cannot write the build cache {folder}: {error.strerror}; free some space or set GATESMITH_HOME",
            path=str(folder),
        ) from error
    finally:
        if aside:
            with contextlib.suppress(OSError):
                Path(aside).unlink(missing_ok=True)


def _path(folder: Path, key: str) -> Path:
    return folder / key[:2] / f"{key}.build"


def _unpack(content: bytes, key: str) -> dict[str, bytes] | None:
    digest, _, body = content.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        return None
    name, index, blob = body.split(b"\n", 2)
    if name != key.encode():
        return None
    files, start = {}, 0
    for member, length in json.loads(index).items():
        files[member] = blob[start : start + length]
        start += length
    return files
