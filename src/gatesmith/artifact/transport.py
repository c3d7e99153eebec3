"""The seam between artifacts and wherever their bytes lie: a layout folder, or a registry over the network.

Content is addressed by digest and never changes; only ``tag`` changes what a name points to. Whoever fetches gets
content that was checked, or an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, ClassVar, Protocol

from gatesmith.artifact.checked import CheckedWriter, Told
from gatesmith.artifact.descriptor import Descriptor
from gatesmith.artifact.reference import Reference

__all__ = ["Transport"]


class Transport(Protocol):
    """One place that holds content; a registry's is made for one repository.

    ``keeps_links`` says whether a manifest that is there has all that it points to there too.
    """

    keeps_links: ClassVar[bool]

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

    def holds(self, descriptor: Descriptor) -> bool:
        """Whether content is there, and sound as far as this place can tell."""

    def holds_manifest(self, descriptor: Descriptor) -> bool:
        """The same for a manifest or index."""

    def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """A manifest or index, checked.

        Raises
        ------
        ArtifactNotFound, DigestMismatch, RegistryRefused
        """

    def put_manifest(self, descriptor: Descriptor, content: bytes) -> None:
        """Store a manifest or index, after all that it points to.

        Raises
        ------
        DigestMismatch, RegistryRefused, StoreWriteFailed
        """

    def pour(self, descriptor: Descriptor, writer: CheckedWriter) -> None:
        """Send content to a writer, which checks it; memory does not grow with its size.

        Raises
        ------
        ArtifactNotFound, DigestMismatch, RegistryRefused, RegistryUnreachable
        """

    def opened(self, descriptor: Descriptor) -> AbstractContextManager[BinaryIO]:
        """Content as a file; whoever reads it checks it.

        Raises
        ------
        ArtifactNotFound, DigestMismatch, RegistryRefused, RegistryUnreachable
        """

    def put_from(self, descriptor: Descriptor, source: Transport, *, told: Told | None = None) -> None:
        """Store content that another place holds; memory does not grow with its size.

        Raises
        ------
        DigestMismatch, RegistryRefused, StoreWriteFailed
        """

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        """Manifests whose subject is this one: signatures, statements and the like."""

    def attach_all(self, attached: Sequence[tuple[Descriptor, str]]) -> None:
        """Let manifests that were put be found as referrers of their subjects' digests.

        Raises
        ------
        RegistryRefused, StoreWriteFailed
        """
