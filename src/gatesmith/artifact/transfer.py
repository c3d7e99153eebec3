"""A whole artifact from one place to another: manifests, blobs and referrers, children before parents.

The shape of the artifact does not matter, only what points to what. What the target has is left alone, several blobs
are on their way at once, and the name comes last: until then nothing of the transfer can be seen.
"""

# Ref: OCI distribution-spec 1.1 "Push": blobs before the manifests that name them

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TypeVar

from gatesmith.artifact.descriptor import Descriptor
from gatesmith.artifact.pointers import INDEX_TYPES, MANIFEST_TYPES, Pointers, parse_pointers
from gatesmith.artifact.transport import Transport
from gatesmith.errors import ArtifactNotFound, LimitExceeded, ManifestInvalid

__all__ = ["Progress", "Transferred", "transfer"]

PARALLEL = 4
MAX_DEPTH = 8
MAX_DOCUMENTS = 4096
MAX_DOCUMENT_BYTES = 8 << 20
MAX_BLOBS = 16384
MAX_TOTAL_BYTES = 8 << 30
Progress = Callable[[int, int], None]
"""Takes the bytes that are done and the bytes that there are to do."""

T = TypeVar("T")
_MANIFESTS = INDEX_TYPES + MANIFEST_TYPES


@dataclass(frozen=True, kw_only=True, slots=True)
class Transferred:
    """What a transfer did; ``attached`` are referrers, each with its subject's digest."""

    copied_bytes: int
    skipped_bytes: int
    attached: tuple[tuple[Descriptor, str], ...] = ()


@dataclass(kw_only=True, slots=True)
class _Plan:
    """What is known of an artifact so far; ``documents`` are the manifests that the target lacks."""

    documents: dict[str, tuple[Descriptor, bytes]] = field(default_factory=dict)
    pointers: dict[str, Pointers] = field(default_factory=dict)
    blobs: dict[str, Descriptor] = field(default_factory=dict)
    attached: list[tuple[Descriptor, str]] = field(default_factory=list)
    announced: int = 0
    document_bytes: int = 0
    blob_bytes: int = 0
    skipped_bytes: int = 0

    def announce(self, level: Iterable[Descriptor]) -> None:
        """Count manifests before any of them is fetched."""
        for descriptor in level:
            self.announced += 1
            self.document_bytes += descriptor.size
        if self.announced > MAX_DOCUMENTS or self.document_bytes > MAX_DOCUMENT_BYTES:
            raise LimitExceeded(
                f"artifact has {self.announced} manifests of {self.document_bytes} bytes, {MAX_DOCUMENTS} and "
                f"{MAX_DOCUMENT_BYTES} are taken",
                manifests=self.announced,
                size=self.document_bytes,
            )

    def add(self, looked: _Looked) -> None:
        """Take a manifest and the blobs that it names."""
        digest = looked.descriptor.digest
        self.pointers[digest] = looked.pointers
        if looked.is_there:
            self.skipped_bytes += looked.descriptor.size
            return
        self.documents[digest] = (looked.descriptor, looked.content)
        for blob in looked.pointers.blobs:
            known = self.blobs.get(blob.digest)
            if known is None:
                self.blobs[blob.digest] = blob
                self.blob_bytes += blob.size
            elif known.size != blob.size:
                raise ManifestInvalid(
                    f"{blob.digest} is announced with {known.size} and with {blob.size} bytes", digest=blob.digest
                )
        if len(self.blobs) > MAX_BLOBS or self.blob_bytes > MAX_TOTAL_BYTES:
            raise LimitExceeded(
                f"artifact has {len(self.blobs)} blobs of {self.blob_bytes} bytes, {MAX_BLOBS} and {MAX_TOTAL_BYTES} "
                "are taken",
                blobs=len(self.blobs),
                size=self.blob_bytes,
            )

    def in_order(self) -> list[tuple[Descriptor, bytes]]:
        """The manifests to put, each after all that it points to."""
        order: dict[str, None] = {}
        for root in self.pointers:
            stack = [(root, False)]
            while stack:
                digest, is_done = stack.pop()
                if is_done:
                    order[digest] = None
                elif digest not in order and digest in self.pointers:
                    below = [(child.digest, False) for child in self.pointers[digest].manifests]
                    stack += [(digest, True), *below]
        return [self.documents[digest] for digest in order if digest in self.documents]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Looked:
    """A manifest that was read; ``is_there`` when the target has it with all that it points to."""

    descriptor: Descriptor
    content: bytes
    pointers: Pointers
    is_there: bool
    referrers: tuple[Descriptor, ...]


def transfer(
    source: Transport, target: Transport, top: Descriptor, *, progress: Progress | None = None, with_top: bool = True
) -> Transferred:
    """Copy everything that a manifest or index reaches, and its referrers, but no name.

    Parameters
    ----------
    with_top : bool
        Whether the top document itself is put as well.

    Raises
    ------
    ArtifactNotFound, DigestMismatch, LimitExceeded, ManifestInvalid
        When the source's content cannot be had or trusted; the target holds no part that is not complete.
    RegistryRefused, RegistryUnreachable, StoreWriteFailed
    """
    pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="transfer")
    stop = threading.Event()
    try:
        plan = _explore(source, target, top, pool)
        copied = _move_blobs(source, target, plan, pool, stop, progress)
        for descriptor, content in plan.in_order():
            if with_top or descriptor.digest != top.digest:
                target.put_manifest(descriptor, content)
        if target.keeps_links:  # else it is for the caller, together with the name
            target.attach_all(plan.attached)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
    return Transferred(copied_bytes=copied, skipped_bytes=plan.skipped_bytes, attached=tuple(plan.attached))


def _explore(source: Transport, target: Transport, top: Descriptor, pool: ThreadPoolExecutor) -> _Plan:
    """Find everything, level by level; a referrer stands below its subject."""
    plan, level, subjects = _Plan(), {top.digest: top}, dict[str, str]()
    for _ in range(MAX_DEPTH):
        plan.announce(level.values())
        lower: dict[str, Descriptor] = {}
        found = _all(pool, lambda d: _look(source, target, d, is_referrer=d.digest in subjects), level.values())
        for looked in filter(None, found):
            descriptor, subject = looked.descriptor, subjects.get(looked.descriptor.digest)
            if subject and (looked.pointers.subject is None or looked.pointers.subject.digest != subject):
                continue  # whoever may write a list of referrers may write anything into it
            plan.attached += [(descriptor, subject)] if subject else []
            plan.add(looked)
            lower |= {child.digest: child for child in looked.pointers.manifests}
            for referrer in looked.referrers:
                if referrer.digest not in plan.pointers | level | lower:
                    subjects[referrer.digest] = descriptor.digest
                    lower[referrer.digest] = referrer
        level = {digest: child for digest, child in lower.items() if digest not in plan.pointers}
        if not level:
            return plan
    raise LimitExceeded(f"artifact is nested more than {MAX_DEPTH} deep", depth=MAX_DEPTH)


def _look(source: Transport, target: Transport, descriptor: Descriptor, *, is_referrer: bool) -> _Looked | None:
    """Read a manifest and look for it at the target; a referrer that is listed and gone is nothing."""
    try:
        content = source.fetch_manifest(descriptor)
    except ArtifactNotFound:
        if is_referrer:
            return None
        raise
    return _Looked(
        descriptor=descriptor,
        content=content,
        pointers=parse_pointers(descriptor.media_type, content),
        is_there=target.keeps_links and target.holds_manifest(descriptor),
        referrers=tuple(r for r in source.referrers(descriptor.digest) if r.media_type in _MANIFESTS),
    )


def _move_blobs(
    source: Transport,
    target: Transport,
    plan: _Plan,
    pool: ThreadPoolExecutor,
    stop: threading.Event,
    progress: Progress | None,
) -> int:
    blobs = sorted(plan.blobs.values(), key=lambda blob: -blob.size)
    there = _all(pool, target.holds, blobs)
    missing = [blob for blob, is_there in zip(blobs, there, strict=True) if not is_there]
    total, done, lock = sum(blob.size for blob in missing), 0, threading.Lock()
    plan.skipped_bytes += sum(blob.size for blob in blobs) - total

    def told(size: int) -> None:
        nonlocal done
        if stop.is_set():
            raise ManifestInvalid("stopped because another part failed")
        with lock:
            done = min(done + size, total)
            if progress is not None:
                progress(done, total)

    try:
        _all(pool, lambda blob: target.put_from(blob, source, told=told), missing)
    except BaseException:
        stop.set()
        raise
    return total


def _all(pool: ThreadPoolExecutor, work: Callable[[Descriptor], T], items: Iterable[Descriptor]) -> list[T]:
    """The results of work on all items; the first failure ends it."""
    futures = [pool.submit(work, item) for item in items]
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    failed = next((future for future in futures if future in done and future.exception()), None)
    if failed is not None:
        failed.result()
    return [future.result() for future in futures]
