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
import errno
import fcntl
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gatesmith.artifact import media_types
from gatesmith.artifact.descriptor import Descriptor, canonical_json, parse_json
from gatesmith.artifact.manifest import parse_index
from gatesmith.artifact.reference import Reference
from gatesmith.errors import ArtifactError, ArtifactNotFound, DigestMismatch, ManifestInvalid, StoreWriteFailed

__all__ = ["MAX_BLOB_BYTES", "Layout", "Named"]

MAX_BLOB_BYTES = 256 << 20
_REF_NAME = "org.opencontainers.image.ref.name"
_MARKER = canonical_json({"imageLayoutVersion": "1.0.0"})
Named = dict[str, Descriptor]
"""Reference name to what it points to, in the order of ``index.json``."""


class Layout:
    """One image-layout folder; it is made at the first write. Implements :class:`~.transport.Transport`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> Named:
        """All names and what they point to.

        Raises
        ------
        ManifestInvalid
            When ``index.json`` is damaged.
        """
        try:
            content = (self.path / "index.json").read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ArtifactNotFound(
                f"store {self.path} cannot be read: {error.strerror}", path=str(self.path)
            ) from error
        entries = parse_json(content, f"{self.path / 'index.json'}").get("manifests")
        if not isinstance(entries, list):
            raise ManifestInvalid(f"{self.path / 'index.json'} has no list of manifests")
        descriptors = [Descriptor.from_json(entry) for entry in entries]
        names: Named = {}
        for descriptor in descriptors:
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
                for candidate in (descriptor, *self._children(descriptor)):
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
            raise ArtifactNotFound(
                f"{descriptor.digest} cannot be read in {self.path}: {error.strerror}; fetch or build it again",
                digest=descriptor.digest,
            ) from error
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
        with _store_errors(self.path):
            self._make()
            if not self._holds(descriptor):
                self._write(self._blob(descriptor.digest), content)

    def tag(self, reference: Reference, descriptor: Descriptor) -> None:
        """Let a name point to a manifest or index."""
        self.update(reference, lambda _: descriptor)

    def update(self, reference: Reference, change: Callable[[Descriptor | None], Descriptor | None]) -> None:
        """Change what a name points to, with nobody in between: ``change`` sees the old and returns the new."""
        with self.session(writing=True), _store_errors(self.path), self._locked("index", exclusive=True):
            self._make()
            names, aliases = self.names(), _aliases(reference)
            old = next((names[alias] for alias in aliases if alias in names), None)
            new = change(old)
            names = {k: v for k, v in names.items() if not {k, v.annotations.get(_REF_NAME)} & set(aliases)}
            if new is not None:
                names[reference.tagged] = new
            self._write(self.path / "index.json", _index_json(names))

    @contextlib.contextmanager
    def session(self, *, writing: bool = False) -> Iterator[None]:
        """While this is held nothing is deleted, from ``put`` to ``tag`` or from ``resolve`` to ``fetch``."""
        if writing:
            with _store_errors(self.path):
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
            with _store_errors(self.path), self._locked("content", exclusive=True, wait=wait):
                reachable = self._reachable()
                blobs = self.path / "blobs" / "sha256"
                doomed = [p for p in blobs.glob("*") if f"sha256:{p.name}" not in reachable]
                return sum(_unlink(path) for path in [*doomed, *(self.path / "partial").glob("*")])
        except BlockingIOError:
            return 0

    def closure(self, descriptor: Descriptor) -> dict[str, int]:
        """Every digest that a manifest or index reaches, itself included, with its size."""
        found = {descriptor.digest: descriptor.size}
        for child in self._children(descriptor):
            if child.digest not in found:
                found |= self.closure(child)
        return found

    def _reachable(self) -> set[str]:
        digests: set[str] = set()
        for name, top in self.names().items():
            try:
                digests |= self.closure(top).keys()
            except ArtifactError as error:
                raise type(error)(f"{name} is damaged, nothing is deleted; remove it first ({error})") from error
        return digests

    def _children(self, descriptor: Descriptor) -> tuple[Descriptor, ...]:
        if descriptor.media_type == media_types.INDEX:
            return parse_index(self.fetch(descriptor))
        if descriptor.media_type != media_types.MANIFEST:
            return ()
        data = parse_json(self.fetch(descriptor), "manifest")
        return tuple(Descriptor.from_json(entry) for entry in [data.get("config"), *(data.get("layers") or [])])

    def _holds(self, descriptor: Descriptor) -> bool:
        try:
            self.fetch(descriptor)
        except ArtifactError:
            return False
        return True

    def _blob(self, digest: str) -> Path:
        return self.path / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def _make(self) -> None:
        (self.path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        if not (self.path / "oci-layout").exists():
            self._write(self.path / "oci-layout", _MARKER)

    def _write(self, place: Path, content: bytes) -> None:
        partial = self.path / "partial" / uuid.uuid4().hex
        partial.parent.mkdir(exist_ok=True)
        try:
            with partial.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(place)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        _flush_folder(place.parent)

    @contextlib.contextmanager
    def _locked(self, name: str, *, exclusive: bool, wait: bool = True) -> Iterator[None]:
        descriptor = self._open_lock(name, exclusive=exclusive)
        if descriptor is None:
            yield
            return
        try:
            kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
            fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
            yield
        finally:
            os.close(descriptor)

    def _open_lock(self, name: str, *, exclusive: bool) -> int | None:
        path = self.path / f"{name}.lock"
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            # A folder that cannot be written (a mounted, read-only one) or is not there has no writers to keep out.
            if exclusive or error.errno not in {errno.EROFS, errno.EACCES, errno.ENOENT, errno.ENOTDIR}:
                raise
        with contextlib.suppress(OSError):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return None


def _index_json(names: Named) -> bytes:
    entries: list[dict[str, Any]] = []
    for name, descriptor in names.items():
        annotations = dict(descriptor.annotations)
        if name != descriptor.digest:
            annotations[_REF_NAME] = name
        entries.append({**descriptor.to_json(), "annotations": annotations})
    return canonical_json({"schemaVersion": 2, "mediaType": media_types.INDEX, "manifests": entries})


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


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _store_errors(path: Path) -> Iterator[None]:
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
