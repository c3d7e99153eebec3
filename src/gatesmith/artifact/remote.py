"""Pull, push and copy: an artifact by name from one place to another, all of it or nothing.

A tag is resolved once, and what happens afterwards goes by digest.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gatesmith.artifact.connection import Access, Connection
from gatesmith.artifact.descriptor import Descriptor
from gatesmith.artifact.layout import Layout
from gatesmith.artifact.merge import merge_indexes
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.registry import Registry
from gatesmith.artifact.transfer import Progress, Transferred, transfer
from gatesmith.errors import ArtifactError, DigestMismatch, ManifestInvalid, RegistryUnreachable

__all__ = ["Moved", "copy_artifact", "delete_artifact", "list_tags", "pull_artifact", "push_artifact"]

_BOOKKEEPING = re.compile(r"sha256-[0-9a-f]{64}(?:\.[a-z]+)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """What came to its target, and how many bytes of it were not there yet."""

    reference: str
    digest: str
    copied_bytes: int
    skipped_bytes: int


def pull_artifact(
    layout: Layout,
    reference: Reference,
    access: Access,
    *,
    expected_digest: str = "",
    progress: Progress | None = None,
) -> Moved:
    """Fetch an artifact into a local store, under the name that it has in its registry.

    Parameters
    ----------
    expected_digest : str, optional
        Nothing else is fetched.

    Raises
    ------
    ArtifactNotFound, AuthenticationFailed, DigestMismatch, LimitExceeded, ManifestInvalid, RegistryRefused
    RegistryUnreachable, StoreWriteFailed
    """
    try:
        with _repository(reference, access) as registry, layout.session(writing=True):
            top = _resolved(registry, reference, expected_digest)
            done = transfer(registry, layout, top, progress=progress)
            name = replace(reference, tag=reference.tag or f"at-{top.digest[7:23]}", digest="")
            layout.update(name, lambda _: top, attached=done.attached)
    except RegistryUnreachable:
        raise  # what came is kept: the next pull goes on from there
    except ArtifactError:
        _tidy(layout)
        raise
    _tidy(layout)
    return _moved(reference, top.digest, done)


def push_artifact(
    layout: Layout,
    reference: Reference,
    target: Reference,
    access: Access,
    *,
    add: bool = False,
    progress: Progress | None = None,
) -> Moved:
    """Store a local artifact in a registry.

    Parameters
    ----------
    add : bool
        Add the artifact's boards to those that the target has already, whoever else does so at the same time; without,
        the target holds this artifact alone.

    Raises
    ------
    ArtifactNotFound, AuthenticationFailed, DigestMismatch, RegistryRefused, RegistryUnreachable
    """
    with _repository(target, access) as registry, layout.session():
        top = layout.resolve(reference)
        _check_target(target, top)
        content = layout.fetch_manifest(top)
        done = transfer(layout, registry, top, progress=progress, with_top=False)
        if add:
            top = _added(registry, target, content)
        else:
            registry.name(top, content, target.tag)
    return _moved(target, top.digest, done)


def copy_artifact(source: Reference, target: Reference, access: Access, *, progress: Progress | None = None) -> Moved:
    """Copy an artifact from one registry or repository to another; within one registry nothing is transferred.

    Raises
    ------
    ArtifactNotFound, AuthenticationFailed, DigestMismatch, LimitExceeded, ManifestInvalid, RegistryRefused
    RegistryUnreachable
    """
    with _repository(source, access) as origin, contextlib.ExitStack() as stack:
        if _named(target) == source.registry:
            goal = Registry(origin.connection, target.repository)
        else:
            goal = stack.enter_context(_repository(target, access))
        top = _resolved(origin, source, "")
        _check_target(target, top)
        content = origin.fetch_manifest(top)
        done = transfer(origin, goal, top, progress=progress, with_top=False)
        goal.name(top, content, target.tag)
    return _moved(target, top.digest, done)


def list_tags(reference: Reference, access: Access) -> list[str]:
    """The tags of a repository in a registry, without those that only list signatures and the like.

    Raises
    ------
    ArtifactNotFound, AuthenticationFailed, RegistryRefused, RegistryUnreachable
    """
    with _repository(reference, access) as registry:
        return [tag for tag in registry.tags() if not _BOOKKEEPING.fullmatch(tag)]


def delete_artifact(reference: Reference, access: Access) -> str:
    """Delete what a reference stands for from its registry, under all its tags; gives the digest.

    Raises
    ------
    ArtifactNotFound, AuthenticationFailed, RegistryRefused, RegistryUnreachable
    """
    with _repository(reference, access) as registry:
        digest = registry.resolve(reference).digest
        registry.delete(digest)
    return digest


def _added(registry: Registry, target: Reference, content: bytes) -> Descriptor:
    from gatesmith.artifact.images import complete_index  # brings numpy, which nothing else here needs

    if not target.tag:
        raise ManifestInvalid(f"{target} names content by digest, which never changes; give a tag to add to")
    seen: dict[str, bytes] = {}

    def fetch(descriptor: Descriptor) -> bytes:
        if descriptor.digest not in seen:
            seen[descriptor.digest] = registry.fetch_manifest(descriptor)
        return seen[descriptor.digest]

    def change(old: bytes | None) -> bytes:
        completed = complete_index(merge_indexes(old, content), fetch)
        for descriptor, blob in completed.blobs:
            if descriptor.digest not in seen:
                registry.put(descriptor, blob)
                seen[descriptor.digest] = blob
        return completed.content

    registry.amend({target.tag: change})
    return registry.resolve(replace(target, digest=""))


@contextlib.contextmanager
def _repository(reference: Reference, access: Access) -> Iterator[Registry]:
    connection = Connection(_named(reference), access)
    try:
        yield Registry(connection, reference.repository)
    finally:
        connection.close()


def _named(reference: Reference) -> str:
    if not reference.registry:
        raise ManifestInvalid(
            f"{reference} names no registry; write registry.example/{reference}", reference=str(reference)
        )
    return reference.registry


def _resolved(registry: Registry, reference: Reference, expected_digest: str) -> Descriptor:
    top = registry.resolve(reference)
    if expected_digest and top.digest != expected_digest:
        raise DigestMismatch(
            f"{reference} is {top.digest} now, the lock file says {expected_digest}; "
            "pull without --locked to take the new one",
            digest=expected_digest,
            found_digest=top.digest,
        )
    return top


def _check_target(target: Reference, top: Descriptor) -> None:
    if target.digest and target.digest != top.digest:
        raise ManifestInvalid(f"{target} names other content than {top.digest}; give a tag instead", digest=top.digest)


def _tidy(layout: Layout) -> None:
    with contextlib.suppress(ArtifactError):
        layout.collect(wait=False)


def _moved(reference: Reference, digest: str, done: Transferred) -> Moved:
    return Moved(
        reference=str(reference), digest=digest, copied_bytes=done.copied_bytes, skipped_bytes=done.skipped_bytes
    )
