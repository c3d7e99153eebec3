"""Content on its way, checked against its descriptor as it passes: never more than announced, never other bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import BinaryIO

from gatesmith.artifact.descriptor import Descriptor
from gatesmith.errors import DigestMismatch

__all__ = ["CHUNK_BYTES", "CheckedWriter", "Told"]

CHUNK_BYTES = 256 << 10
Told = Callable[[int], None]
"""Takes how many bytes went by; may raise to stop the rest."""


class CheckedWriter:
    """Passes chunks on to a file, or to nowhere, and knows how many came.

    Parameters
    ----------
    descriptor : Descriptor
        What the chunks have to add up to.
    told : Told, optional
        Is told of every chunk.
    """

    def __init__(self, descriptor: Descriptor, file: BinaryIO | None = None, *, told: Told | None = None) -> None:
        self._descriptor, self._file, self._told = descriptor, file, told
        self._hash = hashlib.sha256()
        self.received = 0

    def write(self, chunk: bytes) -> None:
        """Take the next chunk.

        Raises
        ------
        DigestMismatch
            When it is more than was announced.
        """
        if self.received + len(chunk) > self._descriptor.size:
            raise DigestMismatch(
                f"content of {self._descriptor.digest} has more than its announced {self._descriptor.size} bytes",
                digest=self._descriptor.digest,
                announced_size=self._descriptor.size,
            )
        self._hash.update(chunk)
        if self._file is not None:
            self._file.write(chunk)
        self.received += len(chunk)
        if self._told is not None:
            self._told(len(chunk))

    def finish(self) -> None:
        """See that all came, and that it is what was announced.

        Raises
        ------
        DigestMismatch
        """
        self._descriptor.check_sum(self.received, f"sha256:{self._hash.hexdigest()}")
