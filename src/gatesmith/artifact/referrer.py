"""A document about a manifest, as a manifest of its own that names the first as its subject."""

# Ref: OCI image-spec 1.1 manifest.md: subject, "Guidance for an Empty Descriptor"

from __future__ import annotations

from collections.abc import Mapping

from gatesmith.artifact import media_types
from gatesmith.artifact.descriptor import Descriptor, canonical_json
from gatesmith.artifact.manifest import Packed

__all__ = ["pack_referrer"]

_EMPTY = b"{}"


def pack_referrer(
    subject: Descriptor, media_type: str, content: bytes, *, annotations: Mapping[str, str] | None = None
) -> Packed:
    """Write a document of a media type as a referrer of a manifest."""
    config, layer = Descriptor.of(media_types.EMPTY, _EMPTY), Descriptor.of(media_type, content)
    about = Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size)
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.MANIFEST,
        "artifactType": media_type,
        "config": config.to_json(),
        "layers": [layer.to_json()],
        "subject": about.to_json(),
    }
    content_of_manifest = canonical_json(manifest | ({"annotations": dict(annotations)} if annotations else {}))
    descriptor = Descriptor.of(media_types.MANIFEST, content_of_manifest, annotations=annotations)
    return Packed(descriptor=descriptor, blobs=((config, _EMPTY), (layer, content), (descriptor, content_of_manifest)))
