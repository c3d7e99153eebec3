from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from firmwares import tiny_firmware

from gatesmith.artifact.descriptor import Descriptor, digest_of
from gatesmith.artifact.manifest import pack_firmware
from gatesmith.artifact.store import Store
from gatesmith.errors import ManifestInvalid

MODEL = b"onnx bytes"
FILE = {"model_file": ("my iris!.onnx", MODEL), "model_digest": digest_of(MODEL)}
ICE, ECP5 = tiny_firmware(**FILE), tiny_firmware(board="ulx3s", family="ecp5", **FILE)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def entries(store: Store, name: str = "iris:v1") -> list[dict[str, Any]]:
    data: dict[str, Any] = json.loads(store.layout.fetch(store.layout.names()[name]))
    manifests: list[dict[str, Any]] = data["manifests"]
    return manifests


def content(store: Store, entry: dict[str, Any]) -> bytes:
    """A blob as any OCI tool reads it: found by its digest, which is checked here and not by the store."""
    path = store.layout.path / "blobs" / "sha256" / entry["digest"].removeprefix("sha256:")
    data = path.read_bytes()
    assert "sha256:" + hashlib.sha256(data).hexdigest() == entry["digest"]
    assert len(data) == entry["size"]
    return data


def pulled(store: Store, processor: str) -> dict[str, bytes]:
    """What KServe's own pull takes: the entry of its platform, OCI tar layers, of these the files under models/."""
    wanted = {"os": "linux", "architecture": processor}
    manifest = json.loads(content(store, next(e for e in entries(store) if e.get("platform") == wanted)))
    config = json.loads(content(store, manifest["config"]))
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    assert (config["os"], config["architecture"]) == ("linux", processor)
    files: dict[str, bytes] = {}
    for layer in manifest["layers"]:
        assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar"
        with tarfile.open(fileobj=io.BytesIO(content(store, layer))) as tar:
            for member in tar:
                assert member.name.startswith("models/")
                source = tar.extractfile(member)
                files[member.name.removeprefix("models/")] = source.read() if source else b""
    return files


@pytest.mark.parametrize("processor", ["amd64", "arm64"])
def test_an_inference_platform_gets_the_files_of_every_board(store: Store, processor: str) -> None:
    store.save("iris:v1", [ICE])
    store.save("iris:v1", [ECP5])
    files = pulled(store, processor)
    for firmware in (ICE, ECP5):
        folder = f"firmware/{firmware.board}"
        assert files[f"{folder}/firmware.bin"] == firmware.bitstream
        assert files[f"{folder}/config.json"] == pack_firmware(firmware).blobs[0][1]
        assert {f"{folder}/hdl/{name}": files[f"{folder}/hdl/{name}"] for name in firmware.hdl} == {
            f"{folder}/hdl/{name}": text for name, text in firmware.hdl.items()
        }
        assert files[f"{folder}/vectors/inputs.bin"] == firmware.vectors[0]


def test_images_cost_no_layers(store: Store) -> None:
    store.save("iris:v1", [tiny_firmware()])
    blobs = {path.name for path in (store.layout.path / "blobs" / "sha256").iterdir()}
    own = {descriptor.digest.removeprefix("sha256:") for descriptor, _ in pack_firmware(tiny_firmware()).blobs}
    further = [store.layout.path / "blobs" / "sha256" / name for name in blobs - own]
    assert own < blobs
    assert max(path.stat().st_size for path in further) < 4096


def test_a_board_that_is_replaced_leaves_the_images(store: Store) -> None:
    store.save("iris:v1", [ICE, ECP5])
    newer = tiny_firmware(seed=1, **FILE)
    store.save("iris:v1", [newer])
    assert pulled(store, "amd64")["firmware/icebreaker/firmware.bin"] == newer.bitstream
    store.save("iris:v1", [ECP5], merge=False)
    assert {name.split("/")[1] for name in pulled(store, "amd64")} == {"ulx3s"}


def test_the_model_travels_as_model_pack(store: Store) -> None:
    store.save("iris:v1", [ICE, ECP5])
    found = [entry for entry in entries(store) if entry["annotations"].get("dev.gatesmith.kind") == "model"]
    assert [entry["platform"] for entry in found] == [{"os": "unknown", "architecture": "unknown"}]
    manifest = json.loads(content(store, found[0]))
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == "application/vnd.cncf.model.weight.v1.raw"
    assert layer["digest"] == ICE.model_digest
    assert layer["annotations"]["org.cncf.model.filepath"] == "my_iris_.onnx"
    assert content(store, layer) == MODEL
    config = json.loads(content(store, manifest["config"]))
    assert config == {  # the specification's schema allows no other keys
        "descriptor": {"name": "iris"},
        "modelfs": {"type": "layers", "diffIds": [ICE.model_digest]},
        "config": {"format": "onnx"},
    }
    assert all("artifactType" not in entry for entry in entries(store))


def test_the_model_is_read_when_asked_for_and_survives_a_merge(store: Store) -> None:
    store.save("iris:v1", [ICE])
    store.save("iris:v1", [tiny_firmware(board="ulx3s", model_digest=ICE.model_digest)])
    assert store.load("iris:v1", board="ulx3s").model_file == ("", b"")
    assert store.load("iris:v1", board="ulx3s", with_model=True).model_file == ("my_iris_.onnx", MODEL)
    other = tiny_firmware()  # of another model, whose file is not at hand
    store.save("iris:v1", [other], merge=False)
    assert store.load("iris:v1", with_model=True) == other


def test_the_model_of_another_firmware_is_refused(store: Store) -> None:
    with pytest.raises(ManifestInvalid, match=r"has digest .* the firmware was built from sha256:abab"):
        store.save("iris:v1", [tiny_firmware(model_file=("iris.onnx", MODEL))])


def test_keys_of_other_tools_survive(store: Store) -> None:
    from gatesmith.artifact.images import complete_index
    from gatesmith.artifact.manifest import index_content

    packed = pack_firmware(ICE)
    blobs = {descriptor.digest: data for descriptor, data in packed.blobs}
    index = json.loads(index_content([packed.descriptor]))
    index["annotations"] = {"org.example": "kept"}
    index["manifests"][0]["urls"] = ["https://example.org/"]

    def fetch(descriptor: Descriptor) -> bytes:
        return blobs[descriptor.digest]

    completed = complete_index(json.dumps(index).encode(), fetch)
    data = json.loads(completed.content)
    assert data["annotations"] == {"org.example": "kept"}
    assert [entry["urls"] for entry in data["manifests"] if "urls" in entry] == [["https://example.org/"]]
    assert complete_index(completed.content, fetch).content == completed.content
