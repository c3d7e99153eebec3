"""A trained model in the store without firmware, and firmware that joins it."""

from __future__ import annotations

from pathlib import Path

import pytest
from firmwares import tiny_firmware

from gatesmith.artifact import media_types
from gatesmith.artifact.descriptor import Descriptor, digest_of
from gatesmith.artifact.manifest import index_content
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.store import Store
from gatesmith.errors import ArtifactNotFound, ManifestInvalid

MODEL = ("jets.onnx", b"the model")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_model_comes_back_as_it_was(store: Store) -> None:
    digest = store.save_model("jets:v1", *MODEL)
    assert store.model("jets:v1") == MODEL
    assert store.inspect("jets:v1")["boards"] == []
    assert [(entry.reference, entry.digest, entry.boards) for entry in store.list()] == [("jets:v1", digest, ())]
    with pytest.raises(
        ArtifactNotFound, match="jets:v1 has no firmware for board icebreaker: it holds firmware for no"
    ):
        store.load("jets:v1", board="icebreaker")


def test_firmware_of_this_model_joins_it_and_of_another_takes_its_place(store: Store) -> None:
    store.save_model("jets:v1", *MODEL)
    store.save("jets:v1", [tiny_firmware(model_digest=digest_of(MODEL[1]))])
    assert store.model("jets:v1") == MODEL
    assert store.load("jets:v1", board="icebreaker").model_digest == digest_of(MODEL[1])
    store.save_model("other:v1", *MODEL)
    store.save("other:v1", [tiny_firmware()])
    with pytest.raises(ArtifactNotFound, match="other:v1 holds no trained model's file"):
        store.model("other:v1")


def test_names_of_files_are_made_harmless(store: Store) -> None:
    store.save_model("jets:v1", "../../etc/pass wd", b"x")
    assert store.model("jets:v1")[0] == "pass_wd"


def test_a_digest_is_no_place_for_it(store: Store) -> None:
    with pytest.raises(ManifestInvalid, match="names content by digest"):
        store.save_model("jets@sha256:" + "a" * 64, *MODEL)


@pytest.mark.parametrize("content", [b"[]", b"no JSON", b"{}", b'{"schemaVersion": 2, "config": {}, "layers": null}'])
def test_what_is_announced_as_a_manifest_and_is_none(store: Store, content: bytes) -> None:
    entry = Descriptor.of(media_types.MANIFEST, content)
    index = index_content([entry])
    top = Descriptor.of(media_types.INDEX, index)
    for descriptor, blob in ((entry, content), (top, index)):
        store.layout.put(descriptor, blob)
    store.layout.tag(Reference.parse("jets:v1"), top)
    with pytest.raises(ManifestInvalid):
        store.model("jets:v1")
