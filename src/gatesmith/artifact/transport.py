"""The seam between artifacts and wherever their bytes lie: a layout folder now, a registry over the network next.

Content is addressed by digest and never changes; only ``tag`` changes what a name points to. Whoever fetches gets
content that was checked, or an error.
"""

from __future__ import annotations

from typing import Protocol

from gatesmith.artifact.descriptor import Descriptor
from gatesmith.artifact.reference import Reference

__all__ = ["Transport"]


class Transport(Protocol):
    """One place that holds content; a registry's is made for one repository."""

    def resolve(self, reference: Reference) -> Descriptor:
        """What a tag or digest stands for now.

        Raises
        ------
        ArtifactNotFound, RegistryRefused
        """

    def fetch(self, descriptor: Descriptor) -> bytes:
        """Content, checked against digest and size.

        Raises
        ------
        ArtifactNotFound, DigestMismatch, RegistryRefused
        """

    def put(self, descriptor: Descriptor, content: bytes) -> None:
        """Store content; a manifest or index goes after all that it points to.

        Raises
        ------
        DigestMismatch, RegistryRefused, StoreWriteFailed
        """

    def tag(self, reference: Reference, descriptor: Descriptor) -> None:
        """Let the reference's tag point to a manifest or index that was put.

        Raises
        ------
        RegistryRefused, StoreWriteFailed
        """
