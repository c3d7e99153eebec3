"""Media types of an artifact, in one place, so that a reader and a writer cannot disagree.

The version in our own types grows when an old reader could no longer read the content.
"""

# Ref: OCI image-spec 1.1 media-types.md
# Ref: RFC 6838 section 3.2: the vendor tree, application/vnd.*

from __future__ import annotations

from typing import Final

__all__ = ["BITSTREAM", "CONFIG", "FIRMWARE", "HDL", "INDEX", "MANIFEST", "REPORTS", "VECTORS"]

INDEX: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"

FIRMWARE: Final = "application/vnd.gatesmith.firmware.v1"
"""``artifactType`` of a firmware's manifest."""

CONFIG: Final = "application/vnd.gatesmith.firmware.config.v1+json"
BITSTREAM: Final = "application/vnd.gatesmith.bitstream.v1"
HDL: Final = "application/vnd.gatesmith.hdl.v1.tar+gzip"
VECTORS: Final = "application/vnd.gatesmith.vectors.v1.tar+gzip"
REPORTS: Final = "application/vnd.gatesmith.reports.v1.tar+gzip"
