"""Where models come from: names, versions, folders."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from firmwares import tiny_firmware

from gatesmith.artifact import media_types
from gatesmith.artifact.connection import Access
from gatesmith.artifact.manifest import firmware_digest, parse_manifest
from gatesmith.artifact.policy import UNCHECKED, Mode, Policy, Rule
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.store import Store
from gatesmith.errors import ArtifactNotFound, DigestMismatch, ManifestInvalid, ModelNotFound, SignatureInvalid
from gatesmith.firmware import Firmware
from gatesmith.serve.repository import FolderSource, ReferenceSource, RegistrySource, StoreSource, newest, source_of

OLD, NEW, OTHER = tiny_firmware(seed=1), tiny_firmware(seed=2), tiny_firmware(seed=3, board="ulx3s-85f")
ACCESS = Access()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store", policy=UNCHECKED)
    made.save("iris:v9", [OLD])
    made.save("iris:v10", [NEW, OTHER])
    made.save("lab/iris:v11", [OLD])
    made.save("registry.example/lab/jets:v1", [OLD])
    return made


def unpacked(store: Store, reference: str, to: Path) -> Path:
    """The files of an artifact's layers, as a container platform lays them out."""
    for manifest in store.manifests(store.layout.resolve(Reference.parse(reference))):
        for layer in parse_manifest(store.layout.fetch(manifest)).layers:
            with tarfile.open(fileobj=io.BytesIO(store.layout.fetch(layer))) as archive:
                archive.extractall(to, filter="data")
    return to


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        (["v1"], "v1"),
        (["v9", "v10", "v2"], "v10"),
        (["1.9.0", "1.10.0", "1.2.0"], "1.10.0"),
        (["v10", "latest", "v11"], "latest"),
        (["2026-01-31", "2026-02-01"], "2026-02-01"),
    ],
)
def test_the_newest_tag(tags: Sequence[str], wanted: str) -> None:
    assert newest(tags) == newest(list(reversed(tags))) == wanted


def test_a_store_has_its_artifacts_by_their_last_name(store: Store) -> None:
    source = StoreSource(store)
    assert source.names() == ["iris", "jets"]
    offer = source.find("iris", None, fresh=False)
    assert (offer.tag, offer.reference) == ("v10", "iris:v10")  # and not lab/iris, whose name is longer
    assert offer.boards == ("icebreaker", "ulx3s-85f")
    assert offer.fits("ulx3s-85f")
    assert not offer.fits("tangnano9k")
    assert offer.read("ulx3s-85f") == OTHER
    assert source.find("jets", None, fresh=False).reference == "registry.example/lab/jets:v1"


def test_versions_by_tag_and_digest(store: Store) -> None:
    source = StoreSource(store)
    digest = firmware_digest(OLD)
    for version in ("v9", digest, digest.removeprefix("sha256:")[:12], store.resolve("iris:v9")):
        assert source.find("iris", version, fresh=False).read("icebreaker") == OLD
    with pytest.raises(ModelNotFound, match=r"model iris has no version 'v8'; the versions are \['v9', 'v10'\]"):
        source.find("iris", "v8", fresh=False)
    with pytest.raises(ModelNotFound, match="no version '000000000000'"):
        source.find("iris", "0" * 12, fresh=False)
    with pytest.raises(ModelNotFound, match=r"no model 'z' is served here; the models are \['iris', 'jets'\]"):
        source.find("z", None, fresh=False)


def test_references_by_name(store: Store) -> None:
    source = ReferenceSource({"iris": Reference.parse("iris:v9")}, ACCESS, store)
    assert source.names() == ["iris"]
    assert source.find("iris", None, fresh=True).read("") == OLD
    assert source.find("iris", "v10", fresh=True).tag == "v10"
    short = firmware_digest(OLD).removeprefix("sha256:")[:12]
    assert source.find("iris", short, fresh=False).tag == "v9"
    with pytest.raises(ModelNotFound):
        source.find("jets", None, fresh=False)
    with pytest.raises(ArtifactNotFound, match="iris:v8"):
        source.find("iris", "v8", fresh=False)


@pytest.mark.parametrize("below", ["", "models"])
def test_a_mounted_model_is_the_artifact_again(store: Store, tmp_path: Path, below: str) -> None:
    folder = unpacked(store, "iris:v10", tmp_path / "mnt") / ("" if below else "models")
    source = FolderSource(folder)
    assert source.names() == ["iris"]
    offer = source.find("iris", None, fresh=False)
    assert offer.boards == ("icebreaker", "ulx3s-85f")
    for firmware in (NEW, OTHER):
        read = offer.read(firmware.board)
        assert read == firmware
        assert firmware_digest(read) == firmware_digest(firmware)  # so it is the same version everywhere
    short = firmware_digest(NEW).removeprefix("sha256:")[:12]
    assert source.find("iris", short, fresh=False).boards
    with pytest.raises(ModelNotFound, match="no version 'v1'"):
        source.find("iris", "v1", fresh=False)


def test_a_folder_for_each_model(store: Store, tmp_path: Path) -> None:
    for name in ("one", "two"):
        unpacked(store, "iris:v9", tmp_path / "all" / name)
    source = FolderSource(tmp_path / "all")
    assert source.names() == ["one", "two"]
    shutil.copytree(tmp_path / "all" / "one", tmp_path / "all" / "three")
    with pytest.raises(ModelNotFound):
        source.find("three", None, fresh=False)
    assert source.find("three", None, fresh=True).read("icebreaker") == OLD


def test_damaged_files_are_seen(store: Store, tmp_path: Path) -> None:
    """A planted fault in each kind of file."""
    folder = unpacked(store, "iris:v9", tmp_path / "mnt")
    board = folder / "models" / "firmware" / "icebreaker"
    good = firmware_digest(FolderSource(folder).find("iris", None, fresh=False).read("icebreaker"))
    for file in ("firmware.bin", "hdl/top.v", "vectors/inputs.bin"):
        content = (board / file).read_bytes()
        (board / file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        changed = FolderSource(folder).find("iris", None, fresh=False).read("icebreaker")
        assert firmware_digest(changed) != good  # another version, whatever it claims
        (board / file).write_bytes(content)
    (board / "firmware.bin").unlink()
    with pytest.raises(ArtifactNotFound, match="cannot be read: No such file"):
        FolderSource(folder)
    (board / "config.json").write_text("{}")
    with pytest.raises(ArtifactNotFound):
        FolderSource(folder)


def test_what_a_repository_may_be(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATESMITH_HOME", str(tmp_path))
    found = source_of("store", ACCESS)
    assert isinstance(found, StoreSource)
    assert found.names() == ["iris", "jets"]
    assert isinstance(source_of(str(store.layout.path), ACCESS), StoreSource)
    mounted = unpacked(store, "iris:v9", tmp_path / "mnt")
    assert isinstance(source_of(str(mounted), ACCESS), FolderSource)
    assert isinstance(source_of("registry.example/lab", ACCESS), RegistrySource)
    with pytest.raises(ArtifactNotFound, match="'nowhere' is no folder and no namespace"):
        source_of("nowhere", ACCESS)
    with pytest.raises(ManifestInvalid):
        source_of("registry.example/UPPER", ACCESS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactNotFound, match="holds no firmware"):
        source_of(str(tmp_path / "empty"), ACCESS)


def test_names_that_no_registry_can_have_are_unknown_models() -> None:
    source = RegistrySource("registry.example/lab", ACCESS)
    assert source.names() == ()
    for name in ("Ä", "../x", "a b", "A"):
        with pytest.raises(ModelNotFound):
            source.find(name, None, fresh=False)


def read(store: Store, reference: str) -> Firmware:
    return StoreSource(store).find(reference, None, fresh=False).read("icebreaker")


def test_the_policy_and_the_digests_hold_here_too(store: Store) -> None:
    strict = Store(store.layout.path, policy=Policy(otherwise=Rule(mode=Mode.REQUIRE)))
    with pytest.raises(SignatureInvalid):
        read(strict, "iris")
    (manifest,) = store.manifests(store.layout.resolve(Reference.parse("registry.example/lab/jets:v1")))
    layers = parse_manifest(store.layout.fetch(manifest)).layers
    (layer,) = (one for one in layers if one.media_type == media_types.BITSTREAM)
    blob = store.layout.path / "blobs" / "sha256" / layer.digest.removeprefix("sha256:")
    blob.chmod(0o644)
    content = blob.read_bytes()
    blob.write_bytes(content[:700] + bytes([content[700] ^ 1]) + content[701:])
    with pytest.raises(DigestMismatch):
        read(store, "jets")


def test_plain_files_are_refused_where_a_signature_is_required(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FolderSource(unpacked(store, "iris:v9", tmp_path / "mnt"))
    monkeypatch.setenv("GATESMITH_HOME", str(tmp_path))
    (tmp_path / "policy.toml").write_text('mode = "require"\n')
    with pytest.raises(SignatureInvalid, match="plain files, which carry no signature"):
        source.find("iris", None, fresh=False)
    (tmp_path / "policy.toml").write_text('mode = "require"\n[[rule]]\nrepositories = ["iris"]\nmode = "off"\n')
    assert source.find("iris", None, fresh=False).boards


@pytest.mark.parametrize("version", ["no tag!", "../v1", "v" * 200, "sha256:no digest", "sha256:" + "G" * 64])
def test_versions_that_no_artifact_can_have_are_not_found(version: str, store: Store) -> None:
    sources = [
        ReferenceSource({"jets": Reference.parse("registry.example/lab/jets:v1")}, ACCESS, store),
        RegistrySource("registry.example/lab", ACCESS, store),
        StoreSource(store),
    ]
    for source in sources:
        with pytest.raises(ModelNotFound, match="model jets has no version"):
            source.find("jets", version, fresh=False)


def test_a_name_may_end_like_a_digest_begins(store: Store) -> None:
    store.save("net-sha256:v1", [OLD])
    source = StoreSource(store)
    assert source.names() == ["iris", "jets", "net-sha256"]
    assert source.find("net-sha256", "v1", fresh=False).reference == "net-sha256:v1"
