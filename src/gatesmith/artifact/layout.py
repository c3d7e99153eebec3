"""An OCI image-layout folder with many tags: content by digest, and names in ``index.json``.

Every file appears whole or not at all: it is written beside its place, flushed, renamed, and the folder flushed.
``index.json`` changes last, so whatever it names is there. Two locks keep processes apart: ``content`` is held shared
while blobs are read or written and exclusively while unreachable ones are deleted; ``index`` is held while
``index.json`` is read, changed and written. ``content`` is always taken first.
"""

# Ref: OCI image-spec 1.1 image-layout.md; annotations.md: org.opencontainers.image.ref.name
# Ref: rename(2), fsync(2): a rename is atomic, and lasting once the folder is flushed

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from gatesmith.artifact import media_types
from gatesmith.artifact.checked import CHUNK_BYTES, CheckedWriter, Told
from gatesmith.artifact.descriptor import Descriptor, canonical_json, parse_json
from gatesmith.artifact.durable import becoming, locked, store_errors
from gatesmith.artifact.pointers import INDEX_TYPES, MANIFEST_TYPES, parse_pointers
from gatesmith.artifact.reference import Reference
from gatesmith.errors import (
    ArtifactError,
    ArtifactNotFound,
    DigestMismatch,
    LimitExceeded,
    ManifestInvalid,
)

if TYPE_CHECKING:
    from gatesmith.artifact.transport import Transport

__all__ = ["MAX_BLOB_BYTES", "Known", "Layout", "Named"]

MAX_BLOB_BYTES = 256 << 20
_LARGEST_INDEX_BYTES = 256 << 20
"""Of ``index.json``, which grows with every name that is kept and never passes through a registry."""
_REF_NAME = "org.opencontainers.image.ref.name"
_SUBJECT = "dev.gatesmith.subject"
"""On an entry without a name: it is kept for as long as this digest is, and found by it."""
_MARKER = canonical_json({"imageLayoutVersion": "1.0.0"})
Named = dict[str, Descriptor]
"""Reference name to what it points to, in the order of ``index.json``."""
Known = dict[str, tuple[Descriptor, ...]]
"""Digest of a manifest or index to what it points to."""


class Layout:
    """One image-layout folder; it is made at the first write. Implements :class:`~.transport.Transport`."""

    keeps_links: ClassVar[bool] = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> Named:
        """All names and what they point to.

        Raises
        ------
        ManifestInvalid
            When ``index.json`` is damaged.
        """
        names: Named = {}
        for descriptor in self._entries():
            if _SUBJECT in descriptor.annotations:
                continue
            # Other tools may list one name twice; the first counts, the rest is kept until the name is given anew.
            if names.setdefault(descriptor.annotations.get(_REF_NAME, descriptor.digest), descriptor) != descriptor:
                names[descriptor.digest] = descriptor
        return names

    def resolve(self, reference: Reference) -> Descriptor:
        """What a reference stands for: by tag, or by digest among all that carry the same name."""
        names = self.names()
        if not reference.digest:
            for name in _aliases(reference):
                if name in names:
                    return names[name]
            raise _not_found(str(reference), list(names))
        for name, descriptor in names.items():
            if name.rpartition(":")[0] == reference.name:
                for candidate in (descriptor, *self.children(descriptor)):
                    if candidate.digest == reference.digest:
                        return candidate
        raise _not_found(str(reference), list(names))

    def fetch(self, descriptor: Descriptor) -> bytes:
        """Content, checked; never more than ``MAX_BLOB_BYTES``."""
        if descriptor.size > MAX_BLOB_BYTES:
            raise ManifestInvalid(
                f"{descriptor.digest} is announced with {descriptor.size} bytes, {MAX_BLOB_BYTES} are read",
                size=descriptor.size,
            )
        try:
            with self._blob(descriptor.digest).open("rb") as file:
                content = file.read(descriptor.size + 1)
        except OSError as error:
            raise _unreadable(descriptor, self.path, error) from error
        if len(content) > descriptor.size:
            raise DigestMismatch(
                f"content of {descriptor.digest} has more than its announced {descriptor.size} bytes",
                digest=descriptor.digest,
            )
        descriptor.check(content)
        return content

    def put(self, descriptor: Descriptor, content: bytes) -> None:
        """Store content; what is there and sound already is not written again."""
        descriptor.check(content)
        with store_errors(self.path):
            self._make()
            if not self.holds(descriptor):
                with self._partial(descriptor.digest) as file:
                    file.write(content)

    fetch_manifest, put_manifest = fetch, put

    def holds(self, descriptor: Descriptor) -> bool:
        """Whether content is there and sound."""
        try:
            writer = CheckedWriter(descriptor)
            self.pour(descriptor, writer)
            writer.finish()
        except ArtifactError:
            return False
        return True

    holds_manifest = holds

    def pour(self, descriptor: Descriptor, writer: CheckedWriter) -> None:
        """Send content to a writer, which checks it."""
        with self.opened(descriptor) as file:
            while chunk := file.read(CHUNK_BYTES):
                writer.write(chunk)

    @contextlib.contextmanager
    def opened(self, descriptor: Descriptor) -> Iterator[BinaryIO]:
        """Content as a file, not checked yet."""
        try:
            file = self._blob(descriptor.digest).open("rb", buffering=0)
        except OSError as error:
            raise _unreadable(descriptor, self.path, error) from error
        with file:
            yield file

    def put_from(self, descriptor: Descriptor, source: Transport, *, told: Told | None = None) -> None:
        """Store content that another place holds, once all of it came and is right."""
        if descriptor.size > MAX_BLOB_BYTES:
            raise LimitExceeded(
                f"{descriptor.digest} is announced with {descriptor.size} bytes, {MAX_BLOB_BYTES} are taken",
                size=descriptor.size,
            )
        with store_errors(self.path):
            self._make()
            with self._partial(descriptor.digest) as file:
                writer = CheckedWriter(descriptor, file, told=told)
                source.pour(descriptor, writer)
                writer.finish()

    def tag(self, reference: Reference, descriptor: Descriptor) -> None:
        """Let a name point to a manifest or index."""
        self.update(reference, lambda _: descriptor)

    def update(
        self,
        reference: Reference,
        change: Callable[[Descriptor | None], Descriptor | None],
        *,
        attached: Iterable[tuple[Descriptor, str]] = (),
    ) -> None:
        """Change what a name points to, with nobody in between: ``change`` sees the old and returns the new.

        ``attached`` are referrers, each with its subject's digest, that are listed in the same step.
        """
        with self._changing_index() as (names, referrers):
            aliases = _aliases(reference)
            old = next((names[alias] for alias in aliases if alias in names), None)
            new = change(old)
            for name in [k for k, v in names.items() if {k, v.annotations.get(_REF_NAME)} & set(aliases)]:
                del names[name]
            if new is not None:
                names[reference.tagged] = new
            _attach(referrers, attached)

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        """Manifests that are kept for this one."""
        found = [e for e in self._entries() if e.annotations.get(_SUBJECT, self._subject(e)) == digest]
        return tuple(replace(e, annotations={k: v for k, v in e.annotations.items() if k != _SUBJECT}) for e in found)

    def attach(self, descriptor: Descriptor, subject: str) -> None:
        """Keep a manifest that was put for as long as its subject is kept."""
        self.attach_all([(descriptor, subject)])

    def attach_all(self, attached: Iterable[tuple[Descriptor, str]]) -> None:
        """The same for several at once."""
        with self._changing_index() as (_, referrers):
            _attach(referrers, attached)

    @contextlib.contextmanager
    def session(self, *, writing: bool = False) -> Iterator[None]:
        """While this is held nothing is deleted, from ``put`` to ``tag`` or from ``resolve`` to ``fetch``."""
        if writing:
            with store_errors(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
        with self._locked("content", exclusive=False):
            yield

    def collect(self, *, wait: bool = True) -> int:
        """Delete what no name reaches, and what a killed process left half-written.

        Parameters
        ----------
        wait : bool
            Whether to wait for others that use the folder; without, nothing is deleted while they do.

        Returns
        -------
        int
            Bytes freed.
        """
        if not self.path.is_dir():
            return 0
        try:
            with store_errors(self.path), self._locked("content", exclusive=True, wait=wait):
                reachable = self._reachable()
                self._forget_referrers(reachable)
                blobs = self.path / "blobs" / "sha256"
                doomed = [p for p in blobs.glob("*") if f"sha256:{p.name}" not in reachable]
                return sum(_unlink(path) for path in [*doomed, *(self.path / "partial").glob("*")])
        except BlockingIOError:
            return 0

    def closure(self, descriptor: Descriptor, *, known: Known | None = None) -> dict[str, int]:
        """Every digest that a manifest or index reaches, itself included, with its size.

        Parameters
        ----------
        known : Known, optional
            Remembers between calls what points to what, so that shared content is read once.
        """
        known = {} if known is None else known
        found, waiting = {descriptor.digest: descriptor.size}, [descriptor]
        while waiting:
            for child in self.children(waiting.pop(), known=known):
                if child.digest not in found:
                    found[child.digest] = child.size
                    waiting.append(child)
        return found

    def children(self, descriptor: Descriptor, *, known: Known | None = None) -> tuple[Descriptor, ...]:
        """What a manifest or index points to; other content points to nothing."""
        if descriptor.media_type not in INDEX_TYPES + MANIFEST_TYPES:
            return ()
        if known is None or descriptor.digest not in known:
            pointers = parse_pointers(descriptor.media_type, self.fetch(descriptor))
            known = {} if known is None else known
            known[descriptor.digest] = pointers.manifests + pointers.blobs
        return known[descriptor.digest]

    def _reachable(self) -> set[str]:
        digests, known = set[str](), Known()
        for name, top in self.names().items():
            try:
                digests |= self.closure(top, known=known).keys()
            except ArtifactError as error:
                raise type(error)(f"{name} is damaged, nothing is deleted; remove it first ({error})") from error
        waiting = [entry for entry in self._entries() if _SUBJECT in entry.annotations]
        while found := [entry for entry in waiting if entry.annotations[_SUBJECT] in digests]:
            for entry in found:
                digests |= self.closure(entry, known=known).keys()
            waiting = [entry for entry in waiting if entry not in found]
        return digests

    def _forget_referrers(self, reachable: set[str]) -> None:
        if any(_SUBJECT in e.annotations and e.digest not in reachable for e in self._entries()):
            with self._changing_index(collecting=True) as (_, referrers):
                referrers[:] = [entry for entry in referrers if entry.annotations[_SUBJECT] in reachable]

    def _subject(self, descriptor: Descriptor) -> str:
        """Digest of the subject of an entry that another tool listed without a name; empty when it has none."""
        if _REF_NAME in descriptor.annotations or descriptor.media_type not in INDEX_TYPES + MANIFEST_TYPES:
            return ""
        try:
            subject = parse_pointers(descriptor.media_type, self.fetch(descriptor)).subject
        except ArtifactError:
            return ""
        return subject.digest if subject else ""

    def _entries(self) -> list[Descriptor]:
        place = self.path / "index.json"
        try:
            content = place.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ArtifactNotFound(
                f"store {self.path} cannot be read: {error.strerror}", path=str(self.path)
            ) from error
        entries = parse_json(content, f"{place}", most_bytes=_LARGEST_INDEX_BYTES).get("manifests")
        if not isinstance(entries, list):
            raise ManifestInvalid(f"{place} has no list of manifests")
        return [Descriptor.from_json(entry) for entry in entries]

    @contextlib.contextmanager
    def _changing_index(self, *, collecting: bool = False) -> Iterator[tuple[Named, list[Descriptor]]]:
        """Names and referrers to change in place; they are written when nothing failed."""
        with contextlib.ExitStack() as stack:
            if not collecting:
                stack.enter_context(self.session(writing=True))
            stack.enter_context(store_errors(self.path))
            stack.enter_context(self._locked("index", exclusive=True))
            self._make()
            names = self.names()
            referrers = [entry for entry in self._entries() if _SUBJECT in entry.annotations]
            yield names, referrers
            self._write(self.path / "index.json", _index_json(names, referrers))

    def _blob(self, digest: str) -> Path:
        return self.path / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def _make(self) -> None:
        (self.path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        if not (self.path / "oci-layout").exists():
            self._write(self.path / "oci-layout", _MARKER)

    def _write(self, place: Path, content: bytes) -> None:
        with becoming(place, self.path / "partial") as file:
            file.write(content)

    def _partial(self, digest: str) -> contextlib.AbstractContextManager[BinaryIO]:
        return becoming(self._blob(digest), self.path / "partial")

    def _locked(self, name: str, *, exclusive: bool, wait: bool = True) -> contextlib.AbstractContextManager[None]:
        return locked(self.path / f"{name}.lock", exclusive=exclusive, wait=wait)


def _index_json(names: Named, referrers: Iterable[Descriptor]) -> bytes:
    entries: list[dict[str, Any]] = []
    for name, descriptor in names.items():
        annotations = dict(descriptor.annotations)
        if name != descriptor.digest:
            annotations[_REF_NAME] = name
        entries.append({**descriptor.to_json(), "annotations": annotations})
    entries += [referrer.to_json() for referrer in referrers]
    return canonical_json({"schemaVersion": 2, "mediaType": media_types.INDEX, "manifests": entries})


def _attach(referrers: list[Descriptor], attached: Iterable[tuple[Descriptor, str]]) -> None:
    for descriptor, subject in attached:
        annotations = {k: v for k, v in descriptor.annotations.items() if k != _REF_NAME}
        entry = replace(descriptor, annotations={**annotations, _SUBJECT: subject})
        known = {(other.digest, other.annotations[_SUBJECT]) for other in referrers}
        if (entry.digest, subject) not in known:
            referrers.append(entry)


def _unreadable(descriptor: Descriptor, path: Path, error: OSError) -> ArtifactNotFound:
    return ArtifactNotFound(
        f"{descriptor.digest} cannot be read in {path}: {error.strerror}; fetch or build it again",
        digest=descriptor.digest,
    )


def _aliases(reference: Reference) -> list[str]:
    """Names under which an index may list a reference: its full one, and the bare one that other tools give."""
    return [reference.tagged, reference.name] if reference.tag == "latest" else [reference.tagged]


def _not_found(wanted: str, there: list[str]) -> ArtifactNotFound:
    known = f"there are {', '.join(sorted(there)[:8])}" if there else "it is empty"
    return ArtifactNotFound(f"no artifact {wanted} in the store; {known}", reference=wanted, known=sorted(there))


def _unlink(path: Path) -> int:
    size = path.stat().st_size
    path.unlink()
    return size
