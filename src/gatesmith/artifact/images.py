"""What an index holds beside firmware: the trained model for model tools, and container images for inference platforms.

The model is a ModelPack manifest whose layer is the model's file as it is. The images, one for each processor that
hosts have, are made of the very layers that the firmwares have, so they cost a few hundred bytes. Both follow from the
firmware entries: whoever changes those calls :func:`complete_index`.
"""

# Ref: CNCF ModelPack model-spec 0.0.7 docs/config.md (its schema is closed), docs/annotations.md
# Ref: OCI image-spec 1.1 config.md: rootfs.diff_ids are digests of uncompressed tars
# Ref: KServe storage initializer, oci+fetch (2026-08): takes the entry of linux/<its processor>, layers of OCI tar
#      types, and of these the files in models/
# Ref: docker buildx gives entries that are not to be run the platform unknown/unknown

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, Final

from gatesmith.artifact import media_types
from gatesmith.artifact.descriptor import Descriptor, canonical_json, digest_of
from gatesmith.artifact.manifest import BOARD, MODEL_DIGEST, Packed, parse_index, parse_manifest
from gatesmith.artifact.pointers import parse_pointers
from gatesmith.errors import ManifestInvalid
from gatesmith.firmware import Firmware

__all__ = ["KIND", "Completed", "complete_index", "model_layer", "pack_model"]
__all__ += ["pack_model_file"]

KIND: Final = "dev.gatesmith.kind"
"""On an entry that is not firmware: ``model`` or ``image``."""

PROCESSORS: Final = ("amd64", "arm64")
_FILE_PATH = "org.cncf.model.filepath"
_TITLE = "org.opencontainers.image.title"
_NOT_RUN = {"os": "unknown", "architecture": "unknown"}
_LAYERS = (media_types.BITSTREAM, media_types.HDL, media_types.VECTORS, media_types.REPORTS)
Fetch = Callable[[Descriptor], bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """An index and what it needs beside the firmwares, to be stored before it."""

    content: bytes
    blobs: tuple[tuple[Descriptor, bytes], ...]


def pack_model(firmware: Firmware) -> Packed | None:
    """The model that a firmware was built from, as a ModelPack manifest; nothing when its file is not at hand.

    Raises
    ------
    ManifestInvalid
        When the file is not the one that the firmware names.
    """
    name, content = firmware.model_file
    if not name:
        return None
    if digest_of(content) != firmware.model_digest:
        raise ManifestInvalid(
            f"model file {name!r} has digest {digest_of(content)}, the firmware was built from {firmware.model_digest}",
            digest=firmware.model_digest,
        )
    return pack_model_file(firmware.name, name, content)


def pack_model_file(model: str, name: str, content: bytes, calibration: tuple[str, bytes] = ("", b"")) -> Packed:
    """A model's file, and the data that it is calibrated with if that is given, as a ModelPack manifest."""
    safe = _safe(name)
    layer = _file_layer(media_types.MODEL_WEIGHT, safe, content)
    files = [(layer, content)]
    if calibration[0]:
        data = calibration[1]
        files.append((_file_layer(media_types.MODEL_DATASET, _safe(calibration[0]), data), data))
    config = canonical_json(
        {
            "descriptor": {"name": model},
            "modelfs": {"type": "layers", "diffIds": [one.digest for one, _ in files]},
            "config": {"format": PurePath(safe).suffix.lstrip(".") or "unknown"},
        }
    )
    config_descriptor = Descriptor.of(media_types.MODEL_CONFIG, config)
    annotations = {KIND: "model", MODEL_DIGEST: layer.digest}
    manifest = _manifest(config_descriptor, [one for one, _ in files], annotations, artifact_type=media_types.MODEL)
    descriptor = replace(
        Descriptor.of(media_types.MANIFEST, manifest, annotations=annotations), platform=dict(_NOT_RUN)
    )
    return Packed(descriptor=descriptor, blobs=((config_descriptor, config), *files, (descriptor, manifest)))


def model_layer(manifest: bytes, kind: str = media_types.MODEL_WEIGHT) -> tuple[str, Descriptor] | None:
    """File name and layer of the model in a ModelPack manifest; nothing when it holds no raw file.

    Parameters
    ----------
    kind : str
        Media type of the layer; that of a data set gives the data that the model is calibrated with.

    Raises
    ------
    LimitExceeded, ManifestInvalid
        When it is no manifest.
    """
    for layer in parse_pointers(media_types.MANIFEST, manifest).blobs:
        if layer.media_type == kind:
            return PurePath(layer.annotations.get(_FILE_PATH, "model")).name, layer
    return None


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", PurePath(name).name).lstrip(".") or "model"


def _file_layer(kind: str, name: str, content: bytes) -> Descriptor:
    return Descriptor.of(kind, content, annotations={_FILE_PATH: name, _TITLE: name})


def complete_index(content: bytes, fetch: Fetch) -> Completed:
    """An index whose images hold its firmwares, and whose model is that of its firmwares.

    Parameters
    ----------
    content : bytes
        An index, after entries were added or taken away; keys that are not known here are kept.
    fetch : callable
        Gives the content of the firmware manifests in it.

    Raises
    ------
    ManifestInvalid
        When firmwares in it were built from different models.
    """
    entries = {entry.digest: entry for entry in parse_index(content)}
    firmwares = [entry for entry in entries.values() if BOARD in entry.annotations]
    model_digest = _one_model(firmwares)
    data = json.loads(content)
    kept = [entry for entry in data["manifests"] if _stays(entries[entry["digest"]], model_digest)]
    images = _images(firmwares, fetch)
    kept += [image.descriptor.to_json() for image in images]
    kept.sort(key=lambda entry: ((entry.get("annotations") or {}).get(BOARD, ""), entry["digest"]))
    blobs = tuple(blob for image in images for blob in image.blobs)
    return Completed(content=canonical_json({**data, "manifests": kept}), blobs=blobs)


def _one_model(firmwares: Sequence[Descriptor]) -> str:
    models: dict[str, list[str]] = {}
    for entry in firmwares:
        if digest := entry.annotations.get(MODEL_DIGEST):
            models.setdefault(digest, []).append(entry.annotations[BOARD])
    if len(models) > 1:
        said = "; ".join(f"{digest[:19]} for {', '.join(sorted(boards))}" for digest, boards in sorted(models.items()))
        raise ManifestInvalid(
            f"one artifact would hold firmware of {len(models)} models ({said}); use another tag, or remove this one "
            "first",
            models=sorted(models),
        )
    return next(iter(models), "")


def _stays(entry: Descriptor, model_digest: str) -> bool:
    kind = entry.annotations.get(KIND)
    return kind != "image" and not (kind == "model" and entry.annotations.get(MODEL_DIGEST) != model_digest)


def _images(firmwares: Sequence[Descriptor], fetch: Fetch) -> list[Packed]:
    ordered = sorted(firmwares, key=lambda entry: (entry.annotations[BOARD], entry.digest))
    layers = [layer for entry in ordered for layer in parse_manifest(fetch(entry)).layers]
    plain = [replace(one, media_type=media_types.IMAGE_LAYER) for one in layers if one.media_type in _LAYERS]
    unique = list({layer.digest: layer for layer in plain}.values())
    return [_image(unique, processor) for processor in PROCESSORS] if unique else []


def _image(layers: Sequence[Descriptor], processor: str) -> Packed:
    config = canonical_json(
        {
            "architecture": processor,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        }
    )
    config_descriptor = Descriptor.of(media_types.IMAGE_CONFIG, config)
    manifest = _manifest(config_descriptor, layers, {KIND: "image"})
    plain = Descriptor.of(media_types.MANIFEST, manifest, annotations={KIND: "image"})
    descriptor = replace(plain, platform={"os": "linux", "architecture": processor})
    return Packed(descriptor=descriptor, blobs=((config_descriptor, config), (descriptor, manifest)))


def _manifest(
    config: Descriptor, layers: Sequence[Descriptor], annotations: Mapping[str, str], *, artifact_type: str = ""
) -> bytes:
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_types.MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
        "annotations": dict(annotations),
    }
    return canonical_json(manifest | ({"artifactType": artifact_type} if artifact_type else {}))
