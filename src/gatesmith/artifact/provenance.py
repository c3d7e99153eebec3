"""Where firmware comes from: provenance (SLSA) and a bill of materials (CycloneDX), both made from the firmware alone.

They say what the config says, in words that other tools read, and are the same bytes for the same firmware: nothing of
when or where it was built is in them. As they stand they are claims; signed they are attestations.
"""

# Ref: SLSA 1.0 provenance.md: buildDefinition, runDetails; in-toto ResourceDescriptor
# Ref: CycloneDX 1.6 JSON schema: component types application, file, firmware, machine-learning-model
# Ref: Package URL specification: pkg:generic/name@version

from __future__ import annotations

import hashlib
from typing import Any, Final
from urllib.parse import quote

from gatesmith.artifact import media_types
from gatesmith.artifact.descriptor import Descriptor, canonical_json
from gatesmith.artifact.dsse import statement_of
from gatesmith.artifact.manifest import Packed
from gatesmith.artifact.referrer import pack_referrer
from gatesmith.firmware import Firmware

__all__ = ["BILL_OF_MATERIALS", "PROVENANCE", "bill_of_materials", "pack_claims", "provenance"]

PROVENANCE: Final = "https://slsa.dev/provenance/v1"
BILL_OF_MATERIALS: Final = "https://cyclonedx.org/bom"
_BUILT, _PACKED = "https://gatesmith.dev/build/v1", "https://gatesmith.dev/package/v1"
_PREDICATE_TYPE = "in-toto.io/predicate-type"  # Ref: docker buildx attestation storage: the layer annotation's name


def pack_claims(firmware: Firmware, manifest: Descriptor) -> tuple[Packed, ...]:
    """Provenance and bill of materials as referrers of the firmware's manifest."""
    statement = statement_of(
        manifest.digest, predicate_type=PROVENANCE, predicate=provenance(firmware), name=firmware.board
    )
    parts = canonical_json(bill_of_materials(firmware, manifest.digest))
    return (
        pack_referrer(manifest, media_types.IN_TOTO, statement, annotations={_PREDICATE_TYPE: PROVENANCE}),
        pack_referrer(manifest, media_types.CYCLONEDX, parts),
    )


def provenance(firmware: Firmware) -> dict[str, Any]:
    """The predicate of an SLSA provenance statement."""
    built = "gatesmith" in firmware.toolchain
    tools = [{"name": name, "uri": _purl(name, version)} for name, version in sorted(firmware.toolchain.items())]
    model = [{"name": "model", "digest": _digest_set(firmware.model_digest)}] if firmware.model_digest else []
    hdl = [{"name": name, "digest": {"sha256": _sha256(text)}} for name, text in sorted(firmware.hdl.items())]
    return {
        "buildDefinition": {
            "buildType": _BUILT if built else _PACKED,
            "externalParameters": {
                "model": firmware.model_digest,
                "board": firmware.board,
                "part": firmware.part,
                "engine": firmware.engine,
                "clock_hz": firmware.clock_hz,
                "parameters": dict(firmware.parameters),
            },
            "resolvedDependencies": [*model, *tools],
        },
        "runDetails": {
            "builder": {"id": "https://gatesmith.dev/cli", "version": {"gatesmith": _version(firmware)}},
            "byproducts": [*hdl, {"name": "firmware.bin", "digest": {"sha256": _sha256(firmware.bitstream)}}],
        },
    }


def bill_of_materials(firmware: Firmware, digest: str) -> dict[str, Any]:
    """A CycloneDX document: the model, the tools and the sources of a firmware."""
    model: dict[str, Any] = {"type": "machine-learning-model", "bom-ref": "model", "name": firmware.name}
    if firmware.model_digest:
        model["hashes"] = _hashes(firmware.model_digest.removeprefix("sha256:"))
    tools = [
        {
            "type": "application",
            "bom-ref": f"tool:{name}",
            "name": name,
            "version": version,
            "purl": _purl(name, version),
        }
        for name, version in sorted(firmware.toolchain.items())
    ]
    files = [
        {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": _hashes(_sha256(text))}
        for name, text in sorted({**firmware.hdl, "firmware.bin": firmware.bitstream}.items())
    ]
    about = {
        "type": "firmware",
        "bom-ref": "firmware",
        "name": f"{firmware.name}-{firmware.board}",
        "version": firmware.build_id,
        "hashes": _hashes(digest.removeprefix("sha256:")),
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": about},
        "components": [model, *tools, *files],
        "dependencies": [{"ref": "firmware", "dependsOn": [one["bom-ref"] for one in (model, *tools, *files)]}],
    }


def _version(firmware: Firmware) -> str:
    from importlib.metadata import version

    return firmware.toolchain.get("gatesmith") or version("gatesmith")


def _purl(name: str, version: str) -> str:
    return f"pkg:generic/{quote(name, safe='')}@{quote(version, safe='')}"


def _digest_set(digest: str) -> dict[str, str]:
    return {"sha256": digest.removeprefix("sha256:")}


def _hashes(sha256: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": sha256}]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
