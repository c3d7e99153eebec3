"""A firmware as an OCI image manifest, and firmwares for several boards as an image index.

The config is the firmware's metadata and the authority; annotations repeat what is needed to choose a board without
fetching anything, and ``platform`` is a coarse hint for tools that know nothing else. ``artifactType`` is written in
manifests only: older copying tools drop it from an index and so change the index's digest.

Every layer is a plain tar whose files lie where an inference platform mounts a model, so a container image can be made
of the same blobs (:mod:`~gatesmith.artifact.images`).
"""

# Ref: OCI image-spec 1.1 manifest.md "Guidelines for Artifact Usage", image-index.md
# Ref: skopeo 1.9.3 "copy --all" rewrites an index that holds artifactType

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from gatesmith.artifact import media_types
from gatesmith.artifact.archive import pack_files, unpack_files
from gatesmith.artifact.descriptor import Descriptor, canonical_json, parse_json
from gatesmith.errors import ManifestInvalid
from gatesmith.firmware import Firmware

__all__ = ["BOARD", "MODEL_DIGEST", "PART", "SCHEMA_VERSION", "Packed", "Parts"]
__all__ += ["firmware_digest", "folder_of", "index_content", "pack_firmware", "parse_index", "parse_manifest"]
__all__ += ["unpack_firmware"]

SCHEMA_VERSION: Final = 1
"""Version of the config; ``firmware.config.v1.schema.json`` describes it."""

BOARD: Final = "dev.gatesmith.board"
PART: Final = "dev.gatesmith.part"
MODEL_DIGEST: Final = "dev.gatesmith.model-digest"
CONFIG_FILE: Final = "config.json"
BITSTREAM_FILE: Final = "firmware.bin"
_BOARD_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_LONGEST_BOARD_NAME = 64
_TITLE = "org.opencontainers.image.title"  # Ref: OCI image-spec 1.1 annotations.md
_VENDORS = {"ice40": "lattice", "ecp5": "lattice", "gowin": "gowin", "gatemate": "colognechip"}
_VENDORS |= dict.fromkeys(("zynq", "zynqmp", "artix7", "kintex7", "virtex7", "spartan7", "virtexuplus"), "xilinx")
_VENDORS |= dict.fromkeys(("cyclone5", "cyclone10", "max10", "arria10", "stratix10", "agilex"), "intel")
_TOOLCHAINS = ("yosys", "vivado", "vitis", "quartus", "radiant", "diamond", "gowin")


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """A firmware as content: ``descriptor`` is that of the manifest, ``blobs`` are all pieces, the manifest last."""

    descriptor: Descriptor
    blobs: tuple[tuple[Descriptor, bytes], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a manifest points to."""

    config: Descriptor
    layers: tuple[Descriptor, ...]

    def layer(self, media_type: str) -> Descriptor | None:
        """The only layer of that type, or nothing.

        Raises
        ------
        ManifestInvalid
            When there are two.
        """
        found = [layer for layer in self.layers if layer.media_type == media_type]
        if len(found) > 1:
            raise ManifestInvalid(f"manifest has {len(found)} layers of type {media_type}, one is possible")
        return found[0] if found else None


def pack_firmware(firmware: Firmware) -> Packed:
    """Write a firmware as manifest, config and layers.

    Raises
    ------
    ManifestInvalid
        When the metadata is not JSON or a file name is not allowed.
    """
    if len(firmware.board) > _LONGEST_BOARD_NAME or not _BOARD_NAME.fullmatch(firmware.board):
        raise ManifestInvalid(f"board name {firmware.board!r} is not of lower-case letters, digits, '-', '_' and '.'")
    config = canonical_json({"schema_version": SCHEMA_VERSION, **firmware.metadata()})
    config_descriptor = Descriptor.of(media_types.CONFIG, config)
    layers = [
        _layer(media_types.BITSTREAM, firmware.board, {CONFIG_FILE: config, BITSTREAM_FILE: firmware.bitstream}),
        *[_layer(kind, firmware.board, files) for kind, files in _further_files(firmware) if files],
    ]
    annotations = _annotations(firmware)
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": media_types.MANIFEST,
            "artifactType": media_types.FIRMWARE,
            "config": config_descriptor.to_json(),
            "layers": [descriptor.to_json() for descriptor, _ in layers],
            "annotations": annotations,
        }
    )
    plain = Descriptor.of(media_types.MANIFEST, manifest)
    descriptor = Descriptor(
        media_type=plain.media_type,
        digest=plain.digest,
        size=plain.size,
        annotations=annotations,
        platform=_platform(firmware),
    )
    return Packed(descriptor=descriptor, blobs=((config_descriptor, config), *layers, (descriptor, manifest)))


def firmware_digest(firmware: Firmware) -> str:
    """The digest of the manifest that a firmware was read from, or that it has once it is written."""
    return firmware.digest or pack_firmware(firmware).descriptor.digest


def folder_of(media_type: str, board: str) -> str:
    """Where the files of a layer lie in its tar, without a slash at the end."""
    return "/".join(part for part in ("models/firmware", board, _FOLDERS[media_type]) if part)


def unpack_firmware(config: bytes, layers: Mapping[str, bytes], *, digest: str = "") -> Firmware:
    """Read a firmware back.

    Parameters
    ----------
    layers : mapping of str to bytes
        Media type to content, of the layers in our own types.
    digest : str
        The manifest's, for :func:`firmware_digest`.

    Raises
    ------
    ManifestInvalid
    """
    data = parse_json(config, "firmware config")
    version = data.pop("schema_version", None)
    if version != SCHEMA_VERSION:
        raise ManifestInvalid(
            f"firmware config has schema version {version!r}, {SCHEMA_VERSION} is read; use a matching gatesmith",
            schema_version=str(version),
        )
    board = str(data.get("board"))
    files = {kind: unpack_files(content, folder=folder_of(kind, board)) for kind, content in layers.items()}
    main = files.get(media_types.BITSTREAM, {})
    if BITSTREAM_FILE not in main:
        raise ManifestInvalid(f"manifest has no layer of type {media_types.BITSTREAM} with a {BITSTREAM_FILE}")
    if main.get(CONFIG_FILE, config) != config:
        raise ManifestInvalid(f"the {CONFIG_FILE} beside the bitstream is not the manifest's config")
    vectors = files.get(media_types.VECTORS, {})
    firmware = Firmware.from_metadata(
        data,
        bitstream=main[BITSTREAM_FILE],
        hdl=files.get(media_types.HDL, {}),
        vectors=(vectors.get(_VECTOR_FILES[0], b""), vectors.get(_VECTOR_FILES[1], b"")),
        reports=files.get(media_types.REPORTS, {}),
    )
    return replace(firmware, digest=digest)


def parse_manifest(content: bytes) -> Parts:
    """Read a manifest of ours.

    Raises
    ------
    ManifestInvalid
        When it is not an image manifest, or not one that holds firmware.
    """
    data = _parse_typed(content, media_types.MANIFEST, forbidden="manifests")
    config = Descriptor.from_json(data.get("config"))
    layers = data.get("layers")
    if config.media_type != media_types.CONFIG or not isinstance(layers, list):
        raise ManifestInvalid(
            f"manifest holds {config.media_type}, not firmware; it was not made by gatesmith, or one entry of an index "
            "was copied without the others",
            media_type=config.media_type,
        )
    return Parts(config=config, layers=tuple(Descriptor.from_json(layer) for layer in layers))


def index_content(manifests: Iterable[Descriptor]) -> bytes:
    """An image index over manifests, in board order; entries that name no board come first."""
    ordered = sorted(manifests, key=lambda descriptor: (descriptor.annotations.get(BOARD, ""), descriptor.digest))
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": media_types.INDEX,
            "manifests": [descriptor.to_json() for descriptor in ordered],
        }
    )


def parse_index(content: bytes) -> tuple[Descriptor, ...]:
    """The entries of an image index.

    Raises
    ------
    ManifestInvalid
    """
    data = _parse_typed(content, media_types.INDEX, forbidden="layers")
    manifests = data.get("manifests")
    if not isinstance(manifests, list):
        raise ManifestInvalid("image index has no list of manifests")
    return tuple(Descriptor.from_json(entry) for entry in manifests)


_VECTOR_FILES = ("inputs.bin", "outputs.bin")


_FOLDERS = {
    media_types.BITSTREAM: "",
    media_types.HDL: "hdl",
    media_types.VECTORS: "vectors",
    media_types.REPORTS: "reports",
}


def _further_files(firmware: Firmware) -> list[tuple[str, Mapping[str, bytes]]]:
    vectors = dict(zip(_VECTOR_FILES, firmware.vectors, strict=True)) if any(firmware.vectors) else {}
    return [
        (media_types.HDL, firmware.hdl),
        (media_types.VECTORS, vectors),
        (media_types.REPORTS, firmware.reports),
    ]


def _layer(media_type: str, board: str, files: Mapping[str, bytes]) -> tuple[Descriptor, bytes]:
    content = pack_files(files, folder=folder_of(media_type, board))
    title = f"{_FOLDERS[media_type] or 'bitstream'}.tar"
    return Descriptor.of(media_type, content, annotations={_TITLE: title}), content


def _annotations(firmware: Firmware) -> dict[str, str]:
    return {
        BOARD: firmware.board,
        PART: firmware.part,
        "dev.gatesmith.family": firmware.family,
        "dev.gatesmith.engine": firmware.engine,
        "dev.gatesmith.model": firmware.name,
        MODEL_DIGEST: firmware.model_digest,
    }


def _platform(firmware: Firmware) -> dict[str, str]:
    vendor = _VENDORS.get(firmware.family, "unknown")
    tools = " ".join(firmware.toolchain)
    toolchain = next((name for name in _TOOLCHAINS if name in tools), "unknown")
    return {"os": vendor, "architecture": firmware.family, "variant": toolchain}


def _parse_typed(content: bytes, media_type: str, *, forbidden: str) -> dict[str, Any]:
    # Ref: CVE-2021-41190: one document read as an index by one tool and as a manifest by another
    data = parse_json(content, media_type)
    if data.get("schemaVersion") != 2 or data.get("mediaType", media_type) != media_type or forbidden in data:
        raise ManifestInvalid(f"content announced as {media_type} is something else", media_type=media_type)
    return data
