"""Uploaded files by the digest of their content: a model is sent once, however many builds of it are asked for."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

from gatesmith.artifact.durable import store_errors
from gatesmith.errors import ArtifactNotFound, DigestMismatch, LimitExceeded

__all__ = ["Blobs"]


class Blobs:
    """Files in a folder, bounded one by one and all together.

    Raises
    ------
    StoreWriteFailed
    """

    def __init__(self, folder: Path, *, largest_bytes: int = 1 << 30, all_bytes: int = 16 << 30) -> None:
        self._folder, self._largest_bytes, self._all_bytes = folder, largest_bytes, all_bytes
        with store_errors(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def sweep(self) -> None:
        """Remove what killed uploads left; for the one service that works here, before it takes any.

        Raises
        ------
        StoreWriteFailed
        """
        with store_errors(self._folder):
            for left in self._folder.glob(".*"):
                left.unlink()

    def holds(self, digest: str) -> bool:
        """Whether a file is here."""
        return self._place(digest).is_file()

    def check(self, digest: str) -> None:
        """See that a file is here.

        Raises
        ------
        ArtifactNotFound
        """
        if not self.holds(digest):
            raise ArtifactNotFound(f"file {digest} was not uploaded; upload it first", digest=digest)

    def read(self, digest: str) -> bytes:
        """A file's content, checked; an empty digest is an empty file.

        Raises
        ------
        ArtifactNotFound, DigestMismatch
        """
        if not digest:
            return b""
        self.check(digest)
        content = self._place(digest).read_bytes()
        if "sha256:" + hashlib.sha256(content).hexdigest() != digest:
            self._place(digest).unlink()
            raise DigestMismatch(f"file {digest} was damaged here; upload it again", digest=digest)
        return content

    async def write(self, digest: str, parts: AsyncIterator[bytes]) -> int:
        """Take a file that comes in parts; it is here whole or not at all.

        Returns
        -------
        int
            Its size in bytes.

        Raises
        ------
        DigestMismatch, LimitExceeded, StoreWriteFailed
        """
        partial = self._folder / f".{uuid.uuid4().hex}"
        found, size = hashlib.sha256(), 0
        room = min(self._largest_bytes, self._room())
        try:
            with store_errors(self._folder):
                with partial.open("xb") as file:
                    async for part in parts:
                        size += len(part)
                        if size > room:
                            raise LimitExceeded(f"file {digest} has more than {room} bytes, which is what is taken")
                        found.update(part)
                        file.write(part)
                    file.flush()
                    await asyncio.to_thread(os.fsync, file.fileno())
                if "sha256:" + found.hexdigest() != digest:
                    raise DigestMismatch(
                        f"file was announced as {digest} and has sha256:{found.hexdigest()}", digest=digest
                    )
                partial.replace(self._place(digest))
        finally:
            partial.unlink(missing_ok=True)
        return size

    def _room(self) -> int:
        used = sum(path.stat().st_size for path in self._folder.iterdir() if path.is_file())
        return max(0, min(self._all_bytes - used, shutil.disk_usage(self._folder).free // 2))

    def _place(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")
