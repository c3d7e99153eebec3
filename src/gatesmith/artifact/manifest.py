"""A firmware as an OCI image manifest, and firmwares for several boards as an image index.

The config is the firmware's metadata and the authority; annotations repeat what is needed to choose a board without
fetching anything, and ``platform`` is a coarse hint for tools that know nothing else. ``artifactType`` is written in
manifests only: older copying tools drop it from an index and so change the index's digest.
"""

# Ref: OCI image-spec 1.1 manifest.md "Guidelines for Artifact Usage", image-index.md
# Ref: skopeo 1.9.3 "copy --all" rewrites an index that holds artifactType

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gatesmith.artifact import media_types
from gatesmith.artifact.archive import pack_files, unpack_files
from gatesmith.artifact.descriptor import Descriptor, canonical_json, parse_json
from gatesmith.errors import ManifestInvalid
from gatesmith.firmware import Firmware

__all__ = ["BOARD", "SCHEMA_VERSION", "Packed", "Parts", "firmware_digest", "pack_firmware", "unpack_firmware"]
__all__ += ["index_content", "parse_index", "parse_manifest"]

SCHEMA_VERSION: Final = 1
"""Version of the config; ``firmware.config.v1.schema.json`` describes it."""

BOARD: Final = "dev.gatesmith.board"
_TITLE = "org.opencontainers.image.title"  # Ref: OCI image-spec 1.1 annotations.md
_VENDORS = {"ice40": "lattice", "ecp5": "lattice", "gowin": "gowin", "gatemate": "colognechip"}
_TOOLCHAIN = "yosys"


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
    config = canonical_json({"schema_version": SCHEMA_VERSION, **firmware.metadata()})
    config_descriptor = Descriptor.of(media_types.CONFIG, config)
    layers = [_layer(media_types.BITSTREAM, firmware.bitstream, f"{firmware.board}.bit")]
    layers.append(_layer(media_types.HDL, pack_files(firmware.hdl), "hdl.tar.gz"))
    if any(firmware.vectors):
        vectors = dict(zip(_VECTOR_FILES, firmware.vectors, strict=True))
        layers.append(_layer(media_types.VECTORS, pack_files(vectors), "vectors.tar.gz"))
    if firmware.reports:
        layers.append(_layer(media_types.REPORTS, pack_files(firmware.reports), "reports.tar.gz"))
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
    """The digest of the firmware's manifest: its identity everywhere."""
    return pack_firmware(firmware).descriptor.digest


def unpack_firmware(config: bytes, layers: Mapping[str, bytes]) -> Firmware:
    """Read a firmware back.

    Parameters
    ----------
    layers : mapping of str to bytes
        Media type to content, of the layers in our own types.

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
    for needed in (media_types.BITSTREAM, media_types.HDL):
        if needed not in layers:
            raise ManifestInvalid(f"manifest has no layer of type {needed}")
    vectors = unpack_files(layers[media_types.VECTORS]) if media_types.VECTORS in layers else {}
    reports = unpack_files(layers[media_types.REPORTS]) if media_types.REPORTS in layers else {}
    return Firmware.from_metadata(
        data,
        bitstream=layers[media_types.BITSTREAM],
        hdl=unpack_files(layers[media_types.HDL]),
        vectors=(vectors.get(_VECTOR_FILES[0], b""), vectors.get(_VECTOR_FILES[1], b"")),
        reports=reports,
    )


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
            f"manifest holds {config.media_type}, not firmware; it was not made by gatesmith",
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


def _layer(media_type: str, content: bytes, title: str) -> tuple[Descriptor, bytes]:
    return Descriptor.of(media_type, content, annotations={_TITLE: title}), content


def _annotations(firmware: Firmware) -> dict[str, str]:
    return {
        BOARD: firmware.board,
        "dev.gatesmith.part": firmware.part,
        "dev.gatesmith.family": firmware.family,
        "dev.gatesmith.engine": firmware.engine,
        "dev.gatesmith.model": firmware.name,
        "dev.gatesmith.model-digest": firmware.model_digest,
    }


def _platform(firmware: Firmware) -> dict[str, str]:
    vendor = _VENDORS.get(firmware.family, "unknown")
    return {"os": vendor, "architecture": firmware.family, "variant": _TOOLCHAIN}


def _parse_typed(content: bytes, media_type: str, *, forbidden: str) -> dict[str, Any]:
    # Ref: CVE-2021-41190: one document read as an index by one tool and as a manifest by another
    data = parse_json(content, media_type)
    if data.get("schemaVersion") != 2 or data.get("mediaType", media_type) != media_type or forbidden in data:
        raise ManifestInvalid(f"content announced as {media_type} is something else", media_type=media_type)
    return data
