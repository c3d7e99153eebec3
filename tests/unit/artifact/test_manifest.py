from __future__ import annotations

import copy
import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from firmwares import tiny_firmware, two_port_firmware

from gatesmith.artifact import media_types
from gatesmith.artifact.descriptor import canonical_json, digest_of
from gatesmith.artifact.manifest import (
    index_content,
    pack_firmware,
    parse_index,
    parse_manifest,
    unpack_firmware,
)
from gatesmith.errors import ManifestInvalid
from gatesmith.firmware import Firmware

SCHEMA = json.loads(files("gatesmith.artifact").joinpath("firmware.config.v1.schema.json").read_text())


def config_of(firmware: Firmware) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(pack_firmware(firmware).blobs[0][1])
    return data


def test_a_firmware_comes_back() -> None:
    firmware = tiny_firmware()
    blobs = {descriptor.media_type: content for descriptor, content in pack_firmware(firmware).blobs}
    config, manifest = blobs.pop(media_types.CONFIG), blobs.pop(media_types.MANIFEST)
    assert parse_manifest(manifest).config.digest == digest_of(config)
    assert unpack_firmware(config, blobs) == firmware


@pytest.mark.parametrize("missing", [media_types.HDL, media_types.VECTORS, media_types.REPORTS])
def test_what_a_firmware_lacks_is_no_layer(missing: str) -> None:
    fields: dict[str, Any] = {
        media_types.HDL: {"hdl": {}},
        media_types.VECTORS: {"vectors": (b"", b"")},
        media_types.REPORTS: {"reports": {}},
    }
    firmware = tiny_firmware(**fields[missing])
    packed = pack_firmware(firmware)
    layers = {descriptor.media_type: content for descriptor, content in packed.blobs[1:-1]}
    assert missing not in layers
    assert unpack_firmware(packed.blobs[0][1], layers) == firmware


def test_the_config_beside_the_bitstream_is_the_manifests() -> None:
    """Two copies that differ would let one reader trust what another never saw."""
    packed = pack_firmware(tiny_firmware())
    layers = {descriptor.media_type: content for descriptor, content in packed.blobs[1:-1]}
    other = packed.blobs[0][1].replace(b'"latency_cycles":9', b'"latency_cycles":8')
    with pytest.raises(ManifestInvalid, match=r"config\.json beside the bitstream is not the manifest's config"):
        unpack_firmware(other, layers)


@pytest.mark.parametrize("board", ["", "../up", "a/b", "A", "-a", "a" * 65])
def test_board_names_make_paths(board: str) -> None:
    with pytest.raises(ManifestInvalid, match="board name"):
        pack_firmware(tiny_firmware(board=board))


def test_the_digest_depends_on_the_content_alone() -> None:
    again = tiny_firmware(hdl=dict(reversed(tiny_firmware().hdl.items())))
    assert pack_firmware(tiny_firmware()).descriptor == pack_firmware(again).descriptor
    assert pack_firmware(tiny_firmware(seed=1)).descriptor != pack_firmware(again).descriptor


def test_shape_of_manifest_and_index() -> None:
    packed = pack_firmware(tiny_firmware())
    manifest = json.loads(packed.blobs[-1][1])
    index = json.loads(index_content([packed.descriptor]))
    assert manifest["artifactType"] == media_types.FIRMWARE
    assert "artifactType" not in index
    assert "artifactType" not in index["manifests"][0]
    assert index["manifests"][0]["annotations"]["dev.gatesmith.board"] == "icebreaker"
    assert index["manifests"][0]["platform"] == {"os": "lattice", "architecture": "ice40", "variant": "yosys"}
    assert [layer["mediaType"] for layer in manifest["layers"]] == [
        media_types.BITSTREAM, media_types.HDL, media_types.VECTORS, media_types.REPORTS,
    ]  # fmt: skip


@pytest.mark.parametrize("firmware", [tiny_firmware(), two_port_firmware()], ids=["one port", "two ports"])
def test_configs_follow_the_schema(firmware: Firmware) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(config_of(firmware), SCHEMA)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema_version",), 2),
        (("build_id",), "xyz"),
        (("contract", "inputs"), []),
        (("contract", "inputs", 0, "datatype"), "FLOAT"),
        (("contract", "inputs", 0, "shape"), [1, 4]),
        (("contract", "inputs", 0, "host_operations", 0, "kind"), "relu"),
        (("link", "divisor"), 0),
        (("report", "utilization", "ICESTORM_LC", "used"), -1),
        (("toolchain", "yosys"), 57),
    ],
)
def test_the_schema_refuses(path: tuple[str | int, ...], value: object) -> None:
    config: Any = copy.deepcopy(config_of(tiny_firmware()))
    place = config
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, SCHEMA)


def test_unknown_schema_version_is_refused() -> None:
    config = canonical_json({**config_of(tiny_firmware()), "schema_version": 2})
    with pytest.raises(ManifestInvalid, match="schema version 2, 1 is read"):
        unpack_firmware(config, {})


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(ManifestInvalid, match="cannot be written as JSON"):
        pack_firmware(tiny_firmware(quantization={"max_abs_error": float("nan")}))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{", b'{"schemaVersion":1,"manifests":[]}', b'{"schemaVersion":2,"manifests":[],"layers":[]}',
        b'{"schemaVersion":2}', b'{"schemaVersion":2,"manifests":[{}]}', b"[" * 100_000,
        b'{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"sha256:../x","size":1}]}',
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}',
        b" " * (4 << 20) + b"{}",
    ],
)  # fmt: skip
def test_hostile_indexes_are_refused(content: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        parse_index(content)


@pytest.mark.parametrize(
    "content",
    [
        b'{"schemaVersion":2,"config":null,"layers":[]}',
        b'{"schemaVersion":2,"layers":[],"manifests":[]}',
        b'{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:'
        + b"a" * 64
        + b'","size":2},"layers":[]}',
    ],
)
def test_foreign_manifests_are_refused(content: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        parse_manifest(content)
