"""Another OCI tool reads and copies what the store wrote, and the store reads what that tool wrote."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from firmwares import tiny_firmware
from requirements import require

from gatesmith.artifact.store import Store
from gatesmith.errors import ArtifactNotFound

ICE, ECP5 = tiny_firmware(), tiny_firmware(board="ulx3s", family="ecp5")
NAMES = ["iris:v1", "lab/jets:v3", "localhost:5000/lab/jets:v3"]


def skopeo(*arguments: str) -> bytes:
    require("skopeo")
    done = subprocess.run(["skopeo", "--insecure-policy", *arguments], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.mark.parametrize("name", NAMES)
def test_skopeo_finds_the_same_bytes_under_the_full_name(store: Store, name: str) -> None:
    store.save("other:v1", [tiny_firmware(seed=9)])
    digest = store.save(name, [ICE, ECP5])
    raw = skopeo("inspect", "--raw", f"oci:{store.layout.path}:{name}")
    assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == digest
    boards = [entry["annotations"].get("dev.gatesmith.board", "") for entry in json.loads(raw)["manifests"]]
    assert [board for board in boards if board] == ["icebreaker", "ulx3s"]


def test_a_copy_keeps_digests_and_loads(store: Store, tmp_path: Path) -> None:
    digest = store.save("iris:v1", [ICE, ECP5])
    source, target = f"oci:{store.layout.path}:iris:v1", f"oci:{tmp_path / 'other'}:iris:v1"
    skopeo("copy", "--all", "--preserve-digests", source, target)
    other = Store(tmp_path / "other")
    assert other.resolve("iris:v1") == digest
    assert other.load("iris:v1", board="ulx3s") == ECP5
    other.save("iris:v2", [ICE])
    assert other.load("iris:v1", board="icebreaker") == ICE


@pytest.mark.parametrize("processor", ["amd64", "arm64"])
def test_without_all_the_image_for_this_machine_is_copied(store: Store, tmp_path: Path, processor: str) -> None:
    store.save("iris:v1", [ICE, ECP5])
    source, target = f"oci:{store.layout.path}:iris:v1", f"oci:{tmp_path / 'image'}:iris"
    skopeo("--override-arch", processor, "copy", source, target)
    seen = json.loads(skopeo("--override-arch", processor, "inspect", target))
    assert (seen["Os"], seen["Architecture"]) == ("linux", processor)
    assert len(seen["Layers"]) == 8


def test_one_board_can_be_chosen_by_platform(store: Store, tmp_path: Path) -> None:
    store.save("iris:v1", [ICE, ECP5])
    choice = ["--override-os", "lattice", "--override-arch", "ecp5", "--override-variant", "yosys"]
    skopeo(*choice, "copy", f"oci:{store.layout.path}:iris:v1", f"oci:{tmp_path / 'one'}:iris:v1")
    assert Store(tmp_path / "one").load("iris:v1") == ECP5


def test_a_layout_with_a_bare_name_can_be_read(store: Store, tmp_path: Path) -> None:
    store.save("iris:v1", [ICE])
    skopeo("copy", "--all", f"oci:{store.layout.path}:iris:v1", f"oci:{tmp_path / 'bare'}:iris")
    assert Store(tmp_path / "bare").load("iris") == ICE
    with pytest.raises(ArtifactNotFound):
        Store(tmp_path / "bare").load("iris:v2")


def test_skopeo_and_the_store_both_refuse_a_tampered_blob(store: Store, tmp_path: Path) -> None:
    store.save("iris:v1", [ICE])
    layers = store.inspect("iris:v1")["firmwares"][0]["layers"]
    path = store.layout.path / "blobs" / "sha256" / layers[0]["digest"].removeprefix("sha256:")
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(AssertionError, match="Digest did not match"):
        skopeo("copy", "--all", f"oci:{store.layout.path}:iris:v1", f"oci:{tmp_path / 'x'}:iris:v1")
