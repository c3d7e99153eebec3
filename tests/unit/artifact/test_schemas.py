"""The schemas of manifest and index hold for what is written, and refuse what the specification forbids."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from firmwares import tiny_firmware

from gatesmith.artifact.descriptor import digest_of
from gatesmith.artifact.manifest import pack_firmware
from gatesmith.artifact.store import Store

MODEL = b"onnx bytes"


def schema(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(files("gatesmith.artifact").joinpath(f"{name}.v1.schema.json").read_text())
    return data


@pytest.fixture
def index(tmp_path: Path) -> dict[str, Any]:
    store = Store(tmp_path)
    fields = {"model_file": ("iris.onnx", MODEL), "model_digest": digest_of(MODEL)}
    store.save("iris:v1", [tiny_firmware(**fields), tiny_firmware(board="ulx3s-85f", family="ecp5", **fields)])
    data: dict[str, Any] = json.loads(store.layout.fetch(store.layout.names()["iris:v1"]))
    return data


@pytest.mark.parametrize("name", ["firmware.config", "firmware.manifest", "artifact.index"])
def test_schemas_are_schemas(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))


def test_what_is_written_follows_them(index: dict[str, Any]) -> None:
    jsonschema.validate(index, schema("artifact.index"))
    assert len(index["manifests"]) == 5
    for firmware in (tiny_firmware(), tiny_firmware(hdl={}, vectors=(b"", b""), reports={})):
        jsonschema.validate(json.loads(pack_firmware(firmware).blobs[-1][1]), schema("firmware.manifest"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schemaVersion",), 1),
        (("artifactType",), "application/vnd.gatesmith.firmware.v1"),
        (("layers",), []),
        (("manifests",), []),
        (("manifests", -1, "digest"), "sha512:" + "0" * 128),
        (("manifests", -1, "artifactType"), "x"),
        (("manifests", -1, "size"), -1),
        (("manifests", -1, "annotations", "dev.gatesmith.board"), "../x"),
        (("manifests", -1, "platform"), {"os": "lattice", "architecture": "ice40"}),
        (("manifests", 0, "platform", "features"), ["fpga"]),
    ],
)
def test_what_an_index_must_not_hold(index: dict[str, Any], path: tuple[str | int, ...], value: object) -> None:
    refused(index, path, value, "artifact.index")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("artifactType",), "application/vnd.gatesmith.firmware.v2"),
        (("manifests",), []),
        (("config", "mediaType"), "application/vnd.oci.empty.v1+json"),
        (("layers",), []),
        (("layers", 0, "mediaType"), "application/vnd.gatesmith.hdl.v1.tar"),
        (("layers", 1, "mediaType"), "application/vnd.gatesmith.bitstream.v1.tar"),
        (("layers", 2, "mediaType"), "application/vnd.gatesmith.reports.v1.tar"),
        (("annotations", "dev.gatesmith.board"), "A b"),
        (("annotations",), {}),
    ],
)
def test_what_a_manifest_must_not_hold(path: tuple[str | int, ...], value: object) -> None:
    refused(json.loads(pack_firmware(tiny_firmware()).blobs[-1][1]), path, value, "firmware.manifest")


def refused(data: dict[str, Any], path: tuple[str | int, ...], value: object, name: str) -> None:
    changed: Any = copy.deepcopy(data)
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    jsonschema.validate(data, schema(name))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed, schema(name))
