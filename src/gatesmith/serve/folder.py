"""Models as plain files, as an inference platform mounts them from a container image or a storage initializer."""

# Ref: KServe storage initializer and modelcar: the content of models/ in an image lies in /mnt/models

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from gatesmith.artifact import media_types
from gatesmith.artifact.archive import MAX_FILES, pack_files
from gatesmith.artifact.manifest import BITSTREAM_FILE, CONFIG_FILE, folder_of, unpack_firmware
from gatesmith.artifact.policy import Mode, load_policy
from gatesmith.artifact.reference import Reference
from gatesmith.errors import ArtifactNotFound, ManifestInvalid, ModelNotFound, SignatureInvalid
from gatesmith.firmware import Firmware
from gatesmith.serve.source import Offer, is_version, unknown_model

__all__ = ["FolderSource", "read_folder"]

_LAYERS = {"hdl": media_types.HDL, "vectors": media_types.VECTORS, "reports": media_types.REPORTS}
_MAX_FILE_BYTES = 256 << 20


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
            raise unknown_model(name, self.names())
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
        if version and not any(is_version(offer.read(board), version) for board in boards):
            raise ModelNotFound(f"no version {version[:80]!r} of model {name} in {str(self._path)!r}", model=name)
        return offer


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
