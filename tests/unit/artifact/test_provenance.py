from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from firmwares import tiny_firmware

from gatesmith.artifact.manifest import pack_firmware
from gatesmith.artifact.provenance import pack_claims

FIRMWARE = tiny_firmware(toolchain={"gatesmith": "0.1.0", "pyosys": "0.70"}, parameters={"precision": 6, "seed": 3})


def claims(firmware: Any = FIRMWARE) -> tuple[dict[str, Any], dict[str, Any], str]:
    manifest = pack_firmware(firmware).descriptor
    statement, parts = [json.loads(packed.blobs[1][1]) for packed in pack_claims(firmware, manifest)]
    return statement, parts, manifest.digest


def test_provenance_names_what_went_in_and_what_came_out() -> None:
    statement, _, digest = claims()
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [{"name": "icebreaker", "digest": {"sha256": digest.removeprefix("sha256:")}}]
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["parameters"] == {"precision": 6, "seed": 3}
    assert definition["externalParameters"]["model"] == FIRMWARE.model_digest
    assert {"name": "model", "digest": {"sha256": "ab" * 32}} in definition["resolvedDependencies"]
    assert {"name": "pyosys", "uri": "pkg:generic/pyosys@0.70"} in definition["resolvedDependencies"]
    products = {one["name"]: one["digest"]["sha256"] for one in statement["predicate"]["runDetails"]["byproducts"]}
    assert products["firmware.bin"] == hashlib.sha256(FIRMWARE.bitstream).hexdigest()
    assert products["top.v"] == hashlib.sha256(FIRMWARE.hdl["top.v"]).hexdigest()
    assert all({"digest", "uri", "content"} & one.keys() for one in definition["resolvedDependencies"])


def test_the_bill_of_materials_lists_model_tools_and_files() -> None:
    _, parts, digest = claims()
    assert (parts["bomFormat"], parts["specVersion"]) == ("CycloneDX", "1.6")
    kinds = {one["name"]: one["type"] for one in parts["components"]}
    assert kinds == {
        "iris": "machine-learning-model", "gatesmith": "application", "pyosys": "application",
        "top.v": "file", "table.mem": "file", "firmware.bin": "file",
    }  # fmt: skip
    references = [one["bom-ref"] for one in parts["components"]]
    assert parts["dependencies"] == [{"ref": "firmware", "dependsOn": references}]
    assert len(set(references)) == len(references)
    assert parts["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}]


def test_claims_are_the_same_bytes_again() -> None:
    manifest = pack_firmware(FIRMWARE).descriptor
    again = replace(FIRMWARE, toolchain=dict(reversed(FIRMWARE.toolchain.items())))
    assert pack_claims(FIRMWARE, manifest) == pack_claims(again, manifest)


@pytest.mark.parametrize(("toolchain", "kind"), [({"gatesmith": "1"}, "build"), ({"vivado": "2020.1"}, "package")])
def test_what_was_built_elsewhere_is_not_claimed_as_built(toolchain: dict[str, str], kind: str) -> None:
    statement, _, _ = claims(tiny_firmware(toolchain=toolchain))
    assert statement["predicate"]["buildDefinition"]["buildType"] == f"https://gatesmith.dev/{kind}/v1"
