"""Where models come from: artifacts by reference, folders, and a whole store or registry namespace.

A source knows names, finds a version of one, and reads its firmware for a board; it may block, so it is asked in
threads. What comes out was checked by :mod:`gatesmith.artifact` against digests and the policy on signatures.

A source that has a model and no firmware for any device says :class:`~gatesmith.errors.ArtifactNotFound`; that is
where a :class:`Builder` is asked, if there is one.
"""

# Ref: KServe storage initializer and modelcar: the content of models/ in an image lies in /mnt/models
# Ref: OCI distribution-spec 1.1: tags have no order; "latest" is a convention

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from gatesmith.artifact import media_types
from gatesmith.artifact.archive import MAX_FILES, pack_files
from gatesmith.artifact.connection import Access
from gatesmith.artifact.manifest import BITSTREAM_FILE, BOARD, CONFIG_FILE, folder_of, unpack_firmware
from gatesmith.artifact.policy import Mode, load_policy
from gatesmith.artifact.reference import TAG, Reference
from gatesmith.artifact.remote import list_tags, pull_artifact
from gatesmith.artifact.selection import choose
from gatesmith.artifact.store import Store
from gatesmith.errors import ArtifactError, ArtifactNotFound, ManifestInvalid, ModelNotFound, SignatureInvalid
from gatesmith.firmware import Firmware

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

_LAYERS = {"hdl": media_types.HDL, "vectors": media_types.VECTORS, "reports": media_types.REPORTS}
_MAX_FILE_BYTES = 256 << 20
_DIGITS = re.compile(r"[0-9a-f]{12,64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A version of a model that a source has.

    Parameters
    ----------
    tag : str
        What the version is called, or empty.
    reference : str
        Its name for people and builders.
    boards : tuple of str
        Boards that there is firmware for.
    read : callable
        The firmware for a board; may block.
    fits : callable
        Whether a board can run one of the firmwares, by name or because it has the same part and pins.
    """

    name: str
    tag: str
    reference: str
    boards: tuple[str, ...]
    read: Callable[[str], Firmware]
    fits: Callable[[str], bool]


class Source(Protocol):
    """A place that models come from."""

    def names(self) -> Sequence[str]:
        """Names of the models that it can list without a network; it may have others."""

    def find(self, name: str, version: str | None, *, fresh: bool) -> Offer:
        """A version of a model: a tag, a digest or its first digits; the newest without. May block.

        Parameters
        ----------
        fresh : bool
            Ask the registry again, even if the version is here.

        Raises
        ------
        ModelNotFound, ArtifactError
        """


class Builder(Protocol):
    """Makes firmware for a board when an artifact has none."""

    async def firmware(self, reference: str, board: str, progress: Callable[[float], None]) -> Firmware:
        """The firmware, once it is built; ``progress`` is told the share that is done.

        Raises
        ------
        GatesmithError
        """


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
            raise _unknown(name, self.names())
        if version and version != offer.tag and not _is_version(offer.read(""), version):
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
            raise _unknown(name, self.names())
        full = min(tags, key=lambda text: (text.count("/"), text))  # jets before lab/jets before registry/lab/jets
        return find_version(self.store, Reference.parse(full), tags[full], version)

    def _tags(self) -> dict[str, list[str]]:
        tags: dict[str, list[str]] = {}
        for text in self.store.layout.names():
            name, colon, tag = text.rpartition(":")
            if colon and TAG.fullmatch(tag) and not name.endswith("sha256"):
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
            raise _unknown(name, self.names())
        if version and TAG.fullmatch(version) and not _DIGITS.fullmatch(version):
            reference = replace(reference, tag=version, digest="")
        elif version and version.startswith("sha256:"):
            reference = replace(reference, tag="", digest=version)
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
            raise _unknown(name, ()) from error
        try:
            return self._find(reference, version, fresh)
        except ArtifactNotFound as error:
            raise ModelNotFound(f"no model {name!r} in {self._namespace}: {error}", model=name) from error

    def _find(self, reference: Reference, version: str | None, fresh: bool) -> Offer:
        if version and version.startswith("sha256:"):
            reference = replace(reference, tag="", digest=version)
        elif version and not _DIGITS.fullmatch(version):
            reference = replace(reference, tag=version)
        else:
            reference = replace(reference, tag=newest(list_tags(reference, self._access)))
        if fresh or not version or not _stored(self._store, reference):
            pull_artifact(self._store.layout, reference, self._access)
        known = [reference.tag] if reference.tag else []
        return find_version(self._store, reference, known, None if version in known else version)


class FolderSource:
    """Firmware as plain files, as an inference platform mounts it: one model, or a folder for each.

    A model is ``firmware/<board>/{config.json, firmware.bin, hdl/, vectors/, reports/}``, or the same below ``models``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._roots = dict(_roots(path))
        if not self._roots:
            raise ArtifactNotFound(
                f"folder {str(path)!r} holds no firmware: no firmware/<board>/{CONFIG_FILE} in it or in its folders",
                path=str(path),
            )

    def names(self) -> Sequence[str]:
        """See :class:`Source`."""
        return sorted(self._roots)

    def find(self, name: str, version: str | None, *, fresh: bool) -> Offer:
        """See :class:`Source`; what lies there now is the only version."""
        if fresh:
            self._roots = dict(_roots(self._path))
        root = self._roots.get(name)
        if root is None:
            raise _unknown(name, self.names())
        _check_policy(name, root)
        boards = tuple(sorted(path.parent.name for path in root.glob(f"*/{CONFIG_FILE}")))
        offer = Offer(
            name=name,
            tag="",
            reference=str(root),
            boards=boards,
            read=lambda board: read_folder(root / board, board),
            fits=lambda board: board in boards,
        )
        if version and not any(_is_version(offer.read(board), version) for board in boards):
            raise ModelNotFound(f"no version {version[:80]!r} of model {name} in {str(self._path)!r}", model=name)
        return offer


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


def read_folder(folder: Path, board: str) -> Firmware:
    """Firmware from plain files, checked as if it came in an artifact.

    Raises
    ------
    ArtifactNotFound, ManifestInvalid
    """
    try:
        config = _content(folder / CONFIG_FILE)
        files = {CONFIG_FILE: config, BITSTREAM_FILE: _content(folder / BITSTREAM_FILE)}
        packed = {media_types.BITSTREAM: pack_files(files, folder=folder_of(media_types.BITSTREAM, board))}
        for below, kind in _LAYERS.items():
            if found := _files(folder / below):
                packed[kind] = pack_files(found, folder=folder_of(kind, board))
    except OSError as error:
        raise ArtifactNotFound(
            f"firmware in {str(folder)!r} cannot be read: {error.strerror}", path=str(folder)
        ) from error
    return unpack_firmware(config, packed)


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
    )


def _check_policy(name: str, root: Path) -> None:
    """Plain files carry no signature: where one is required they are not loaded."""
    try:
        rule = load_policy().rule(Reference.parse(name))
    except ManifestInvalid:  # a folder's name need not be one for an artifact
        rule = load_policy().otherwise
    if rule.mode is Mode.REQUIRE:
        raise SignatureInvalid(
            f"firmware in {str(root)!r} lies in plain files, which carry no signature, and the policy requires one for "
            f"{name}; serve it by reference, or check it where it is fetched and set mode off for it",
            path=str(root),
        )


def _stored(store: Store, reference: Reference) -> bool:
    try:
        store.layout.resolve(reference)
    except ArtifactError:
        return False
    return True


def _roots(path: Path) -> Iterator[tuple[str, Path]]:
    """Model names and the folders that hold a folder for each board."""
    for root in (path / "firmware", path / "models" / "firmware"):
        for config in sorted(root.glob(f"*/{CONFIG_FILE}"))[:1]:
            yield read_folder(config.parent, config.parent.name).name, root
            return
    for below in sorted(path.iterdir()) if path.is_dir() else ():
        for root in (below / "firmware", below / "models" / "firmware"):
            if any(root.glob(f"*/{CONFIG_FILE}")):
                yield below.name, root


def _files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()] if folder.is_dir() else []
    if len(paths) > MAX_FILES:
        raise ManifestInvalid(f"folder {str(folder)!r} holds {len(paths)} files, {MAX_FILES} are possible")
    return {path.relative_to(folder).as_posix(): _content(path) for path in paths}


def _content(path: Path) -> bytes:
    size = path.stat().st_size
    if size > _MAX_FILE_BYTES:
        raise ManifestInvalid(f"file {str(path)!r} has {size} bytes, {_MAX_FILE_BYTES} are read", size=size)
    return path.read_bytes()


def _parts(tag: str) -> list[str]:
    return re.findall(r"\d+|\D+", tag)


def _is_version(firmware: Firmware, version: str) -> bool:
    from gatesmith.artifact.manifest import firmware_digest

    return firmware_digest(firmware).removeprefix("sha256:").startswith(version.removeprefix("sha256:"))


def _unknown(name: str, names: Sequence[str]) -> ModelNotFound:
    return ModelNotFound(f"no model {name[:80]!r} is served here; the models are {list(names)}", model=name)
