"""Media types of an artifact, in one place, so that a reader and a writer cannot disagree.

The version in our own types grows when an old reader could no longer read the content.
"""

# Ref: OCI image-spec 1.1 media-types.md; manifest.md "Guidance for an Empty Descriptor"
# Ref: RFC 6838 section 3.2: the vendor tree, application/vnd.*
# Ref: CNCF ModelPack model-spec 0.0.7 docs/spec.md
# Ref: sigstore protobuf-specs, bundle v0.3; in-toto attestation "Media types"; CycloneDX 1.6 registered media types

from __future__ import annotations

from typing import Final

__all__ = ["BITSTREAM", "CONFIG", "FIRMWARE", "HDL", "INDEX", "MANIFEST", "REPORTS", "VECTORS"]
__all__ += ["BUNDLE", "CYCLONEDX", "EMPTY", "IMAGE_CONFIG", "IMAGE_LAYER", "IN_TOTO"]
__all__ += ["MODEL", "MODEL_CONFIG", "MODEL_DATASET", "MODEL_WEIGHT"]

INDEX: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
IMAGE_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
IMAGE_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
EMPTY: Final = "application/vnd.oci.empty.v1+json"

FIRMWARE: Final = "application/vnd.gatesmith.firmware.v1"
"""``artifactType`` of a firmware's manifest."""

CONFIG: Final = "application/vnd.gatesmith.firmware.config.v1+json"
BITSTREAM: Final = "application/vnd.gatesmith.bitstream.v1.tar"
HDL: Final = "application/vnd.gatesmith.hdl.v1.tar"
VECTORS: Final = "application/vnd.gatesmith.vectors.v1.tar"
REPORTS: Final = "application/vnd.gatesmith.reports.v1.tar"

MODEL: Final = "application/vnd.cncf.model.manifest.v1+json"
"""``artifactType`` of a ModelPack manifest."""

MODEL_CONFIG: Final = "application/vnd.cncf.model.config.v1+json"
MODEL_WEIGHT: Final = "application/vnd.cncf.model.weight.v1.raw"
MODEL_DATASET: Final = "application/vnd.cncf.model.dataset.v1.raw"

BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
IN_TOTO: Final = "application/vnd.in-toto+json"
CYCLONEDX: Final = "application/vnd.cyclonedx+json"
