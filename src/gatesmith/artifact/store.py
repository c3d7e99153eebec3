"""The local store: artifacts by reference, each with one firmware for every board it was built for.

It is a plain OCI layout folder (:mod:`~gatesmith.artifact.layout`), so other OCI tools read it as it is. Everything
that is read was checked against its digest before it is believed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gatesmith.artifact import media_types
from gatesmith.artifact.descriptor import Descriptor, parse_json
from gatesmith.artifact.images import KIND, complete_index, model_layer, pack_model, pack_model_file
from gatesmith.artifact.layout import Known, Layout
from gatesmith.artifact.manifest import (
    BOARD,
    index_content,
    pack_firmware,
    parse_index,
    parse_manifest,
    unpack_firmware,
)
from gatesmith.artifact.merge import merge_indexes
from gatesmith.artifact.policy import Policy, load_policy
from gatesmith.artifact.provenance import pack_claims
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.selection import choose
from gatesmith.errors import ArtifactError, ArtifactNotFound, ManifestInvalid, StoreWriteFailed
from gatesmith.firmware import Firmware
from gatesmith.tools import home_path

__all__ = ["Entry", "Store"]

_OURS = (media_types.BITSTREAM, media_types.HDL, media_types.VECTORS, media_types.REPORTS)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One line of a store's list; ``problem`` says why ``boards`` could not be read, if so.

    ``size_bytes`` is that of the artifact, without signatures and other documents about it.
    """

    reference: str
    digest: str
    boards: tuple[str, ...]
    size_bytes: int
    problem: str = ""


class Store:
    """Artifacts on this machine.

    Parameters
    ----------
    path : Path, optional
        A layout folder; ``GATESMITH_HOME/store`` without.
    policy : Policy, optional
        Whose signatures firmware needs to be loaded; the one in the home folder without.
    """

    def __init__(self, path: Path | None = None, *, policy: Policy | None = None) -> None:
        self.layout = Layout(path or home_path() / "store")
        self._policy = policy

    def save(self, reference: str, firmwares: Sequence[Firmware], *, merge: bool = True) -> str:
        """Store firmwares, one for each board, under a tag.

        Parameters
        ----------
        merge : bool
            Keep what the tag holds for other boards; without, the tag holds these firmwares alone.

        Returns
        -------
        str
            Digest of the artifact.

        Raises
        ------
        ManifestInvalid
            When the tag would hold firmware of different models, or a firmware cannot be written.
        StoreWriteFailed
        """
        name = _taggable(reference)
        _check_boards(firmwares)
        packed = [pack_firmware(firmware) for firmware in firmwares]
        models = [model for firmware in firmwares if (model := pack_model(firmware))][:1]
        new = index_content([each.descriptor for each in (*packed, *models)])
        saved: list[Descriptor] = []
        replaced: list[Descriptor] = []

        def change(old: Descriptor | None) -> Descriptor:
            replaced.extend([old] if old else [])
            there = self.layout.fetch(old) if merge and old and old.media_type == media_types.INDEX else None
            index = complete_index(merge_indexes(there, new), self.layout.fetch)
            saved.append(Descriptor.of(media_types.INDEX, index.content))
            for descriptor, content in (*index.blobs, (saved[-1], index.content)):
                self.layout.put(descriptor, content)
            return saved[-1]

        claims = [
            (one.descriptor, claim)
            for one, f in zip(packed, firmwares, strict=True)
            for claim in pack_claims(f, one.descriptor)
        ]
        attached = [(claim.descriptor, manifest.digest) for manifest, claim in claims]
        try:
            with self.layout.session(writing=True):
                for each in (*packed, *models, *(claim for _, claim in claims)):
                    for descriptor, content in each.blobs:
                        self.layout.put(descriptor, content)
                self.layout.update(name, change, attached=attached)
        except StoreWriteFailed:
            self._tidy()
            raise
        if replaced and replaced[0].digest != saved[-1].digest:
            self._tidy()
        return saved[-1].digest

    def save_model(
        self, reference: str, file_name: str, content: bytes, *, calibration: tuple[str, bytes] = ("", b"")
    ) -> str:
        """Store a trained model alone under a tag, as a ModelPack; firmware for boards may join it later.

        Parameters
        ----------
        calibration : tuple of str and bytes
            File name and content of data like the model's inputs, which building firmware may need.

        Returns
        -------
        str
            Digest of the artifact.

        Raises
        ------
        ManifestInvalid, StoreWriteFailed
        """
        name = _taggable(reference)
        packed = pack_model_file(name.repository.rpartition("/")[2], file_name, content, calibration)
        index = index_content([packed.descriptor])
        top = Descriptor.of(media_types.INDEX, index)
        with self.layout.session(writing=True):
            for descriptor, blob in (*packed.blobs, (top, index)):
                self.layout.put(descriptor, blob)
            self.layout.tag(name, top)
        return top.digest

    def model(self, reference: str) -> tuple[str, bytes]:
        """Name and content of the trained model's file that an artifact holds.

        Raises
        ------
        ArtifactNotFound
            When there is no such artifact, or no model in it.
        SignatureInvalid
            When the policy requires a signature and there is none that counts.
        DigestMismatch, ManifestInvalid
        """
        found = self._file(reference, media_types.MODEL_WEIGHT)
        if found is None:
            raise ArtifactNotFound(f"{reference} holds no trained model's file", reference=reference)
        return found

    def calibration(self, reference: str) -> tuple[str, bytes]:
        """Name and content of the data that an artifact's model is calibrated with; both empty when there is none.

        Raises
        ------
        ArtifactNotFound, SignatureInvalid, DigestMismatch, ManifestInvalid
        """
        return self._file(reference, media_types.MODEL_DATASET) or ("", b"")

    def _file(self, reference: str, kind: str) -> tuple[str, bytes] | None:
        name = Reference.parse(reference)
        with self.layout.session():
            top = self.layout.resolve(name)
            policy = load_policy() if self._policy is None else self._policy
            policy.check(self.layout, name, [top.digest])
            documents = [top] if top.media_type == media_types.MANIFEST else self.layout.children(top)
            for document in (one for one in documents if one.media_type == media_types.MANIFEST):
                if found := model_layer(self.layout.fetch(document), kind):
                    file_name, layer = found
                    return file_name, self.layout.fetch(layer)
        return None

    def load(self, reference: str, *, board: str | None = None, with_model: bool = False) -> Firmware:
        """Read the firmware for a board; without a board, the only one there is.

        Where there is none for this very board, one for the same part is taken when nothing says that its pins differ;
        that is told in a warning on the log.

        Parameters
        ----------
        with_model : bool
            Read the trained model's file too, if it is there.

        Raises
        ------
        ArtifactNotFound
            When there is no such artifact, or no firmware for the board; the message names the boards there are.
        SignatureInvalid
            When the policy requires a signature and there is none that counts.
        DigestMismatch, ManifestInvalid
        """
        name = Reference.parse(reference)
        with self.layout.session():
            top = self.layout.resolve(name)
            chosen = choose(reference, self.manifests(top), board)
            policy = load_policy() if self._policy is None else self._policy
            policy.check(self.layout, name, list(dict.fromkeys([chosen.descriptor.digest, top.digest])))
            firmware = self.read(chosen.descriptor)
            if with_model:
                firmware = replace(firmware, model_file=self._model(top, firmware.model_digest))
        if firmware.board != chosen.board and chosen.board:
            raise ManifestInvalid(
                f"{reference} announces firmware for {chosen.board} and holds one for {firmware.board}",
                board=firmware.board,
            )
        if chosen.warning:
            _log.warning("%s", chosen.warning)
        return firmware

    def list(self) -> list[Entry]:
        """All artifacts, by name; a damaged one is listed with its problem.

        Raises
        ------
        ManifestInvalid
            When the list itself is damaged.
        """
        with self.layout.session():
            known = Known()
            return [self._entry(name, top, known) for name, top in sorted(self.layout.names().items())]

    def inspect(self, reference: str) -> dict[str, Any]:
        """What an artifact holds: for each board its digest, layers and config, as plain data.

        Raises
        ------
        ArtifactNotFound, DigestMismatch, ManifestInvalid
        """
        with self.layout.session():
            top = self.layout.resolve(Reference.parse(reference))
            manifests = self.manifests(top)
            return {
                "reference": str(Reference.parse(reference)),
                "digest": top.digest,
                "boards": [m.annotations.get(BOARD, "") for m in manifests],
                "firmwares": [self._describe(manifest) for manifest in manifests],
            }

    def remove(self, reference: str) -> int:
        """Take a tag away and delete what nothing else reaches.

        Returns
        -------
        int
            Bytes freed.

        Raises
        ------
        ArtifactNotFound, ManifestInvalid, StoreWriteFailed
        """
        name = _taggable(reference)
        self.layout.resolve(name)
        self.layout.update(name, lambda _: None)
        return self.layout.collect()

    def resolve(self, reference: str) -> str:
        """The digest that a reference stands for.

        Raises
        ------
        ArtifactNotFound, ManifestInvalid
        """
        return self.layout.resolve(Reference.parse(reference)).digest

    def _tidy(self) -> None:
        """Delete leftovers if nobody else is at work; what fails here is told when it matters."""
        with contextlib.suppress(ArtifactError):
            self.layout.collect(wait=False)

    def manifests(self, top: Descriptor, *, known: Known | None = None) -> tuple[Descriptor, ...]:
        """The firmware manifests under a tag; entries for other tools carry no board and are left out."""
        if top.media_type == media_types.MANIFEST:
            return (top,)
        entries = self.layout.children(top, known=known)
        return tuple(e for e in entries if e.media_type == media_types.MANIFEST and BOARD in e.annotations)

    def read(self, descriptor: Descriptor) -> Firmware:
        """The firmware of a manifest, checked against its digests and no policy."""
        parts = parse_manifest(self.layout.fetch(descriptor))
        found = {kind: parts.layer(kind) for kind in _OURS}
        layers = {kind: self.layout.fetch(layer) for kind, layer in found.items() if layer}
        return unpack_firmware(self.layout.fetch(parts.config), layers, digest=descriptor.digest)

    def _model(self, top: Descriptor, digest: str) -> tuple[str, bytes]:
        """Name and content of the model's file, empty when it is not there."""
        entries = parse_index(self.layout.fetch(top)) if top.media_type == media_types.INDEX else ()
        for entry in entries:
            if entry.annotations.get(KIND) == "model" and (found := model_layer(self.layout.fetch(entry))):
                name, layer = found
                if layer.digest == digest:
                    return name, self.layout.fetch(layer)
        return "", b""

    def _entry(self, name: str, top: Descriptor, known: Known) -> Entry:
        try:
            size, problem = sum(self.layout.closure(top, known=known).values()), ""
            boards = tuple(m.annotations.get(BOARD, "") for m in self.manifests(top, known=known))
        except ArtifactError as error:
            boards, size, problem = (), 0, str(error)
        return Entry(reference=name, digest=top.digest, boards=boards, size_bytes=size, problem=problem)

    def _describe(self, descriptor: Descriptor) -> dict[str, Any]:
        parts = parse_manifest(self.layout.fetch(descriptor))
        return {
            "board": descriptor.annotations.get(BOARD, ""),
            "digest": descriptor.digest,
            "config": parse_json(self.layout.fetch(parts.config), "firmware config"),
            "layers": [
                {"media_type": layer.media_type, "digest": layer.digest, "size_bytes": layer.size}
                for layer in parts.layers
            ],
        }


def _taggable(reference: str) -> Reference:
    name = Reference.parse(reference)
    if name.digest:
        raise ManifestInvalid(
            f"{reference} names content by digest, which never changes; give a tag instead", reference=reference
        )
    return name


def _check_boards(firmwares: Sequence[Firmware]) -> None:
    boards = [firmware.board for firmware in firmwares]
    if not boards or len(set(boards)) != len(boards):
        raise ManifestInvalid(
            f"an artifact holds one firmware for each board, these are for {boards}", boards=sorted(boards)
        )
