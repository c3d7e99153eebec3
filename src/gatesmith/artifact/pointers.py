"""What a manifest or index points to, for every kind that a registry may hold, ours or not.

Copying, clean-up and merging see artifacts as no more than this: manifests that name manifests and blobs, and
referrers that name their subject. A document that could be read as two kinds is refused here, once for all.
"""

# Ref: OCI image-spec 1.1 manifest.md, image-index.md; Docker "Image Manifest Version 2, Schema 2"
# Ref: CVE-2021-41190: one document read as an index by one tool and as a manifest by another

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from gatesmith.artifact import media_types
from gatesmith.artifact.descriptor import Descriptor, parse_json
from gatesmith.errors import LimitExceeded, ManifestInvalid

__all__ = ["INDEX_TYPES", "MANIFEST_TYPES", "Pointers", "parse_bounded", "parse_pointers"]

INDEX_TYPES: Final = (media_types.INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFEST_TYPES: Final = (media_types.MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
MAX_POINTERS = 4096
_MAX_VALUES = 150_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Pointers:
    """``manifests`` and ``blobs`` that must be there before the document; ``subject`` need not be."""

    manifests: tuple[Descriptor, ...] = ()
    blobs: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    artifact_type: str = ""


def parse_pointers(media_type: str, content: bytes) -> Pointers:
    """Read the pointers of a document; one of an unknown media type has none.

    Raises
    ------
    ManifestInvalid
        When the content is not what ``media_type`` says, or could be read as another kind as well.
    LimitExceeded
        When it has more than 150,000 values or 4,096 pointers.
    """
    if media_type not in INDEX_TYPES + MANIFEST_TYPES:
        return Pointers()
    data = parse_bounded(content)
    is_index = media_type in INDEX_TYPES
    forbidden = {"layers", "config", "fsLayers"} if is_index else {"manifests", "fsLayers"}
    confused = data.get("schemaVersion") != 2 or data.get("mediaType", media_type) != media_type
    if confused or forbidden & data.keys():
        raise ManifestInvalid(f"content announced as {media_type} is something else", media_type=media_type)
    children = _descriptors(data, "manifests" if is_index else "layers")
    config = () if is_index else (Descriptor.from_json(data.get("config")),)
    subject, artifact_type = data.get("subject"), data.get("artifactType")
    return Pointers(
        manifests=children if is_index else (),
        blobs=() if is_index else (*config, *children),
        subject=Descriptor.from_json(subject) if subject is not None else None,
        artifact_type=artifact_type if isinstance(artifact_type, str) else config[0].media_type if config else "",
    )


def parse_bounded(content: bytes) -> dict[str, Any]:
    """A document from elsewhere as JSON; what it takes in memory is bounded.

    Raises
    ------
    LimitExceeded, ManifestInvalid
    """
    # A small value takes forty times its text in memory, so values are bounded before anything is made of them.
    values = content.count(b",") + content.count(b"[") + content.count(b"{")
    if values > _MAX_VALUES:
        raise LimitExceeded(f"manifest holds about {values} values, {_MAX_VALUES} are read", values=values)
    return parse_json(content, "manifest")


def _descriptors(data: dict[str, Any], key: str) -> tuple[Descriptor, ...]:
    entries = data.get(key)
    if not isinstance(entries, list):
        raise ManifestInvalid(f"manifest has no list of {key}", key=key)
    if len(entries) > MAX_POINTERS:
        raise LimitExceeded(f"manifest has {len(entries)} {key}, {MAX_POINTERS} are read", entries=len(entries))
    return tuple(Descriptor.from_json(entry) for entry in entries)
