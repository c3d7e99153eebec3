"""Where models come from: artifacts by reference, folders, and a whole store or registry namespace.

What comes out was checked by :mod:`gatesmith.artifact` against digests and the policy on signatures.
"""

# Ref: OCI distribution-spec 1.1: tags have no order; "latest" is a convention

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gatesmith.artifact.connection import Access
from gatesmith.artifact.manifest import BOARD
from gatesmith.artifact.reference import TAG, Reference
from gatesmith.artifact.remote import list_tags, pull_artifact
from gatesmith.artifact.selection import choose
from gatesmith.artifact.store import Store
from gatesmith.errors import ArtifactError, ArtifactNotFound, ManifestInvalid, ModelNotFound
from gatesmith.firmware import Firmware
from gatesmith.serve.folder import FolderSource
from gatesmith.serve.source import Builder, Offer, Source, is_version, unknown_model

__all__ = [
    "Builder",
    "FixedSource",
    "FolderSource",
    "Offer",
    "ReferenceSource",
    "RegistrySource",
    "Source",
    "StoreSource",
]
__all__ += ["model_name", "newest", "source_of"]

_DIGITS = re.compile(r"[0-9a-f]{12,64}")


class FixedSource:
    """Firmware that the caller had in hand."""

    def __init__(self) -> None:
        self._offers: dict[str, Offer] = {}

    def add(self, name: str, tag: str, firmware: Firmware) -> None:
        """One more model."""
        self._offers[name] = Offer(
            name=name,
            tag=tag,
            reference=f"{name}:{tag}" if tag else name,
            boards=(firmware.board,),
            read=lambda _board: firmware,
            fits=lambda _board: True,
        )

    def names(self) -> Sequence[str]:
        """See :class:`Source`."""
        return sorted(self._offers)

    def find(self, name: str, version: str | None, *, fresh: bool) -> Offer:
        """See :class:`Source`."""
        del fresh  # it is all there is
        offer = self._offers.get(name)
        if offer is None:
            raise unknown_model(name, self.names())
        if version and version != offer.tag and not is_version(offer.read(""), version):
            raise ModelNotFound(f"model {name} has no version {version[:80]!r}", model=name)
        return offer


class StoreSource:
    """All artifacts of a store, by the last part of their name; all their tags are versions."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = store or Store()

    def names(self) -> Sequence[str]:
        """See :class:`Source`."""
        return sorted({model_name(name) for name in self._tags()})

    def find(self, name: str, version: str | None, *, fresh: bool) -> Offer:
        """See :class:`Source`."""
        del fresh  # it is looked at anyway
        tags = {name_: tags for name_, tags in self._tags().items() if model_name(name_) == name}
        if not tags:
            raise unknown_model(name, self.names())
        full = min(tags, key=lambda text: (text.count("/"), text))  # jets before lab/jets before registry/lab/jets
        return find_version(self.store, Reference.parse(full), tags[full], version)

    def _tags(self) -> dict[str, list[str]]:
        tags: dict[str, list[str]] = {}
        for text in self.store.layout.names():
            name, colon, tag = text.rpartition(":")
            if colon and TAG.fullmatch(tag) and not name.endswith("@sha256"):
                tags.setdefault(name, []).append(tag)
        return tags


class ReferenceSource:
    """Artifacts that were named one by one; those with a registry in their name are fetched when they are not here.

    Parameters
    ----------
    references : mapping of str to Reference
        By model name.
    """

    def __init__(self, references: Mapping[str, Reference], access: Access, store: Store | None = None) -> None:
        self._references, self._access, self._store = references, access, store or Store()

    def names(self) -> Sequence[str]:
        """See :class:`Source`."""
        return sorted(self._references)

    def find(self, name: str, version: str | None, *, fresh: bool) -> Offer:
        """See :class:`Source`."""
        reference = self._references.get(name)
        if reference is None:
            raise unknown_model(name, self.names())
        if version and TAG.fullmatch(version) and not _DIGITS.fullmatch(version):
            reference = _at(reference, tag=version)
        elif version and version.startswith("sha256:"):
            reference = _at(reference, digest=version)
        if reference.registry and (fresh or not _stored(self._store, reference)):
            pull_artifact(self._store.layout, reference, self._access)
        known = [reference.tag] if reference.tag else []
        return find_version(self._store, reference, known, None if version in known else version)


class RegistrySource:
    """A namespace of a registry: model ``NAME`` is the repository ``NAME`` in it."""

    def __init__(self, namespace: str, access: Access, store: Store | None = None) -> None:
        self._namespace, self._access, self._store = namespace.rstrip("/"), access, store or Store()
        Reference.parse(f"{self._namespace}/name")  # a namespace that is none is told at the start

    def names(self) -> Sequence[str]:
        """See :class:`Source`; registries have no portable way to list repositories."""
        return ()

    def find(self, name: str, version: str | None, *, fresh: bool) -> Offer:
        """See :class:`Source`."""
        try:
            reference = Reference.parse(f"{self._namespace}/{name}")
        except ManifestInvalid as error:
            raise unknown_model(name, ()) from error
        try:
            return self._find(reference, version, fresh)
        except ArtifactNotFound as error:
            raise ModelNotFound(f"no model {name!r} in {self._namespace}: {error}", model=name) from error

    def _find(self, reference: Reference, version: str | None, fresh: bool) -> Offer:
        if version and version.startswith("sha256:"):
            reference = _at(reference, digest=version)
        elif version and not _DIGITS.fullmatch(version):
            reference = _at(reference, tag=version)
        else:
            reference = replace(reference, tag=newest(list_tags(reference, self._access)))
        if fresh or not version or not _stored(self._store, reference):
            pull_artifact(self._store.layout, reference, self._access)
        known = [reference.tag] if reference.tag else []
        return find_version(self._store, reference, known, None if version in known else version)


def source_of(repository: str, access: Access) -> Source:
    """What ``--repository`` names: the word ``store``, a folder, or a namespace ``registry/path``."""
    if repository == "store":
        return StoreSource()
    folder = Path(repository)
    if folder.is_dir():
        return StoreSource(Store(folder)) if (folder / "index.json").is_file() else FolderSource(folder)
    if "/" not in repository or repository.startswith((".", "/", "~")):
        raise ArtifactNotFound(
            f"repository {repository!r} is no folder and no namespace of a registry; write 'store', a folder, or "
            "registry.example/path",
            path=repository,
        )
    return RegistrySource(repository, access)


def model_name(reference: str) -> str:
    """The name that a model is called by: the last part of its artifact's name."""
    return reference.partition("@")[0].rpartition("/")[2].partition(":")[0]


def newest(tags: Sequence[str]) -> str:
    """``latest`` if there is one, else the highest: numbers in a tag count as numbers.

    Raises
    ------
    ArtifactNotFound
        When there is no tag.
    """
    if not tags:
        raise ArtifactNotFound("there is no tag")
    if "latest" in tags:
        return "latest"
    return max(
        tags, key=lambda tag: [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in _parts(tag)]
    )


def find_version(store: Store, name: Reference, tags: Sequence[str], version: str | None) -> Offer:
    """A version of an artifact in a store: by tag, by digest of artifact or firmware, or the newest."""
    if version is None:
        return _offer(store, replace(name, tag=newest(tags), digest="") if tags else name)
    if version in tags:
        return _offer(store, replace(name, tag=version, digest=""))
    digits = version.removeprefix("sha256:")
    for tag in tags if _DIGITS.fullmatch(digits) else ():
        reference = replace(name, tag=tag, digest="")
        top = store.layout.resolve(reference)
        found = [top.digest, *(manifest.digest for manifest in store.manifests(top))]
        if any(digest.removeprefix("sha256:").startswith(digits) for digest in found):
            return _offer(store, reference)
    raise ModelNotFound(
        f"model {model_name(str(name))} has no version {version[:80]!r}; the versions are {list(tags)}",
        model=model_name(str(name)),
    )


def _offer(store: Store, reference: Reference) -> Offer:
    text = str(reference)
    manifests = store.manifests(store.layout.resolve(reference))

    def fits(board: str) -> bool:
        try:
            choose(text, manifests, board)
        except ArtifactNotFound:
            return False
        return True

    return Offer(
        name=model_name(text),
        tag=reference.tag,
        reference=text,
        boards=tuple(manifest.annotations.get(BOARD, "") for manifest in manifests),
        read=lambda board: store.load(text, board=board or None),
        fits=fits,
        model=lambda: store.model(text),
        calibration=lambda: store.calibration(text),
    )


def _at(name: Reference, *, tag: str = "", digest: str = "") -> Reference:
    """An artifact's version that a client asks for, which may be no tag and no digest at all."""
    try:
        return replace(name, tag=tag, digest=digest)
    except ManifestInvalid as error:
        model = model_name(str(name))
        raise ModelNotFound(f"model {model} has no version {(tag or digest)[:80]!r}", model=model) from error


def _stored(store: Store, reference: Reference) -> bool:
    try:
        store.layout.resolve(reference)
    except ArtifactError:
        return False
    return True


def _parts(tag: str) -> list[str]:
    return re.findall(r"\d+|\D+", tag)
