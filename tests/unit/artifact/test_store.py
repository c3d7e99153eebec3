from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from firmwares import tiny_firmware

from gatesmith.artifact.manifest import firmware_digest, pack_firmware
from gatesmith.artifact.store import Store
from gatesmith.boards import find_board
from gatesmith.errors import ArtifactNotFound, DigestMismatch, ManifestInvalid, StoreWriteFailed

ICE, ECP5 = tiny_firmware(), tiny_firmware(board="ulx3s", family="ecp5")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def disk_bytes(store: Store) -> int:
    return sum(path.stat().st_size for path in (store.layout.path / "blobs" / "sha256").iterdir())


def blob(store: Store, digest: str) -> Path:
    return store.layout.path / "blobs" / "sha256" / digest.removeprefix("sha256:")


def test_home_is_the_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GATESMITH_HOME", str(tmp_path))
    Store().save("iris:v1", [ICE])
    assert (tmp_path / "store" / "oci-layout").is_file()


def test_save_and_load(store: Store) -> None:
    digest = store.save("iris:v1", [ICE])
    assert store.load("iris:v1") == ICE
    assert store.resolve("iris:v1") == digest
    assert store.load(f"iris@{digest}") == ICE
    assert store.load(f"iris@{firmware_digest(ICE)}") == ICE


def test_digests_are_reproducible_and_order_does_not_matter(tmp_path: Path) -> None:
    one, two, three = (Store(tmp_path / name) for name in "abc")
    digest = one.save("iris:v1", [ICE, ECP5])
    assert two.save("other:v2", [ECP5, ICE]) == digest
    three.save("iris:v1", [ECP5])
    assert three.save("iris:v1", [ICE]) == digest
    assert three.save("iris:v1", [three.load("iris:v1", board="ulx3s")]) == digest


def test_an_empty_store_is_not_made_by_reading(store: Store) -> None:
    assert store.list() == []
    with pytest.raises(ArtifactNotFound, match="no artifact iris:v1 in the store; it is empty"):
        store.load("iris:v1")
    assert not store.layout.path.exists()


def test_merge_replaces_one_board_and_keeps_the_rest(store: Store) -> None:
    store.save("iris:v1", [ICE, ECP5])
    newer = tiny_firmware(seed=1)
    store.save("iris:v1", [newer])
    assert store.load("iris:v1", board="icebreaker") == newer
    assert store.load("iris:v1", board="ulx3s") == ECP5
    store.save("iris:v1", [ICE], merge=False)
    assert [entry.boards for entry in store.list()] == [("icebreaker",)]


def test_replaced_content_leaves_the_disk(store: Store) -> None:
    store.save("iris:v1", [ICE])
    before = disk_bytes(store)
    store.save("iris:v1", [tiny_firmware(seed=1)])
    store.save("iris:v1", [ICE])
    assert disk_bytes(store) == before


def test_the_board_has_to_be_clear(store: Store) -> None:
    store.save("iris:v1", [ICE, ECP5])
    with pytest.raises(ArtifactNotFound, match="firmware for 2 boards: icebreaker, ulx3s"):
        store.load("iris:v1")
    with pytest.raises(ArtifactNotFound, match="no firmware for board tangnano9k: it holds") as caught:
        store.load("iris:v1", board="tangnano9k")
    assert caught.value.facts["boards"] == ["icebreaker", "ulx3s"]


def test_models_do_not_mix_under_one_tag(store: Store) -> None:
    digest = store.save("iris:v1", [ICE, ECP5])
    retrained = tiny_firmware(model_digest="sha256:" + "cd" * 32)
    with pytest.raises(
        ManifestInvalid, match=r"firmware of 2 models \(sha256:a.* for ulx3s; sha256:c.* for icebreaker\)"
    ):
        store.save("iris:v1", [retrained])
    assert store.resolve("iris:v1") == digest
    store.save("iris:v1", [retrained], merge=False)
    assert store.load("iris:v1") == retrained
    store.save("iris:v1", [ICE])  # nothing of the other model is left
    assert store.load("iris:v1") == ICE


def test_a_loaded_firmware_knows_the_digest_that_the_store_holds(store: Store) -> None:
    store.save("iris:v1", [ICE])
    held = store.inspect("iris:v1")["firmwares"][0]["digest"]
    assert firmware_digest(store.load("iris:v1")) == held == firmware_digest(ICE)


def test_the_same_part_stands_in_and_that_is_told(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    part = find_board("icebreaker").part
    store.save("iris:v1", [tiny_firmware(board="generic-up5k-sg48", part=part.lower())])
    assert store.load("iris:v1", board="icebreaker").board == "generic-up5k-sg48"
    assert [record.message for record in caplog.records] == [
        f"iris:v1 has no firmware for board icebreaker; the one for generic-up5k-sg48 is taken, which has the same "
        f"part {part.lower()}"
    ]
    store.save("iris:v1", [ICE])
    caplog.clear()
    assert store.load("iris:v1", board="icebreaker") == ICE
    assert not caplog.records


@pytest.mark.parametrize(
    "changes",
    [
        {"board": "generic-hx8k", "part": "iCE40HX8K-CT256"},
        {"board": "unknown-board", "part": "iCE40UP5K-SG48"},  # the same chip, and who knows what its pins drive
        {"board": "ice40-hx8k-b-evn", "part": "iCE40UP5K-SG48"},  # known to have other pins
    ],
)
def test_another_part_or_other_pins_do_not_stand_in(store: Store, changes: dict[str, str]) -> None:
    store.save("iris:v1", [tiny_firmware(**changes)])
    with pytest.raises(ArtifactNotFound, match=f"no firmware for board icebreaker: it holds .*{changes['board']}"):
        store.load("iris:v1", board="icebreaker")


def test_one_firmware_for_each_board(store: Store) -> None:
    for firmwares in ([], [ICE, tiny_firmware(seed=1)]):
        with pytest.raises(ManifestInvalid, match="one firmware for each board"):
            store.save("iris:v1", firmwares)


def test_list_and_inspect(store: Store) -> None:
    store.save("iris:v1", [ICE])
    digest = store.save("lab/jets:v3", [ICE, ECP5])
    assert [(e.reference, e.boards, e.problem) for e in store.list()] == [
        ("iris:v1", ("icebreaker",), ""),
        ("lab/jets:v3", ("icebreaker", "ulx3s"), ""),
    ]
    seen = store.inspect("lab/jets:v3")
    assert seen["digest"] == digest
    assert seen["boards"] == ["icebreaker", "ulx3s"]
    assert seen["firmwares"][1]["config"]["board"] == "ulx3s"
    assert json.dumps(seen)


def test_size_is_what_lies_on_the_disk(store: Store) -> None:
    store.save("iris:v1", [ICE, ECP5])
    about = [referrer for f in (ICE, ECP5) for referrer in store.layout.referrers(firmware_digest(f))]
    claims = {digest: size for referrer in about for digest, size in store.layout.closure(referrer).items()}
    assert len(about) == 4
    assert store.list()[0].size_bytes == disk_bytes(store) - sum(claims.values())


def test_remove_frees_exactly_what_nothing_else_reaches(store: Store) -> None:
    store.save("iris:v1", [ICE])
    alone = disk_bytes(store)
    store.save("iris:v2", [ICE, ECP5])
    both = disk_bytes(store)
    assert store.remove("iris:v2") == both - alone
    assert disk_bytes(store) == alone
    assert store.load("iris:v1") == ICE
    assert store.remove("iris:v1") == alone
    assert store.list() == []
    with pytest.raises(ArtifactNotFound):
        store.remove("iris:v1")


def test_leftovers_of_a_killed_process_are_collected(store: Store) -> None:
    store.save("iris:v1", [ICE])
    (store.layout.path / "partial" / "half").write_bytes(b"x" * 10)
    blob(store, "0" * 64).write_bytes(b"y" * 7)
    assert store.layout.collect() == 17


def relabel(store: Store, names: list[str]) -> None:
    """Write ``index.json`` as another tool would: the names in turn, for the entries in turn."""
    path = store.layout.path / "index.json"
    index = json.loads(path.read_text())
    named = [entry for entry in index["manifests"] if "dev.gatesmith.subject" not in entry["annotations"]]
    for entry, name in zip(named, names, strict=True):
        entry["annotations"] = {"org.opencontainers.image.ref.name": name} if name else {}
    path.write_text(json.dumps(index))


def test_a_bare_name_is_latest_and_can_be_replaced_and_removed(store: Store) -> None:
    store.save("iris:v1", [ICE])
    relabel(store, ["iris"])
    assert store.load("iris") == ICE
    store.save("iris", [ECP5])
    assert [(entry.reference, entry.boards) for entry in store.list()] == [("iris:latest", ("icebreaker", "ulx3s"))]
    relabel(store, ["iris"])
    store.remove("iris:latest")
    assert store.list() == []


def test_what_other_tools_listed_twice_or_without_name_survives(store: Store) -> None:
    third = tiny_firmware(seed=3)
    for number, firmware in enumerate([ICE, ECP5, third]):
        store.save(f"iris:v{number}", [firmware])
    relabel(store, ["iris:v0", "iris:v0", ""])
    store.save("other:v1", [tiny_firmware(seed=4)])
    store.layout.collect()
    assert len(store.list()) == 4
    assert store.load("iris:v0") == ICE
    store.save("iris:v0", [third], merge=False)
    assert store.load("iris:v0") == third
    assert len(store.list()) == 3


def test_digests_cannot_be_written_to(store: Store) -> None:
    with pytest.raises(ManifestInvalid, match="names content by digest"):
        store.save("iris@sha256:" + "0" * 64, [ICE])


def test_every_tampered_blob_is_seen(store: Store) -> None:
    digest = store.save("iris:v1", [ICE])
    read = {digest, *(blob_descriptor.digest for blob_descriptor, _ in pack_firmware(ICE).blobs)}
    for path in [blob(store, one) for one in sorted(read)]:
        good = path.read_bytes()
        for bad in (bytes([good[0] ^ 1]) + good[1:], good[:-1], good + b"\n", b""):
            path.write_bytes(bad)
            with pytest.raises(DigestMismatch):
                _read_all(store)
        path.unlink()
        with pytest.raises(ArtifactNotFound, match="cannot be read"):
            _read_all(store)
        path.write_bytes(good)
    assert store.load("iris:v1") == ICE


def _read_all(store: Store) -> None:
    store.load("iris:v1")


def test_saving_again_heals_a_damaged_blob(store: Store) -> None:
    digest = store.save("iris:v1", [ICE])
    blob(store, firmware_digest(ICE)).write_bytes(b"{}")
    assert store.save("iris:v1", [ICE]) == digest
    assert store.load("iris:v1") == ICE


def test_a_damaged_artifact_is_listed_and_keeps_others_from_deletion(store: Store) -> None:
    store.save("iris:v1", [ICE])
    digest = store.save("iris:v2", [ECP5])
    blob(store, digest).write_bytes(b"{}")
    assert [bool(entry.problem) for entry in store.list()] == [False, True]
    with pytest.raises(DigestMismatch, match="iris:v2 is damaged, nothing is deleted; remove it first"):
        store.remove("iris:v1")
    store.save("iris:v1", [ICE])
    store.remove("iris:v2")
    assert [entry.reference for entry in store.list()] == ["iris:v1"]
    assert store.load("iris:v1") == ICE


def test_a_damaged_list_is_told(store: Store) -> None:
    store.save("iris:v1", [ICE])
    (store.layout.path / "index.json").write_text("{")
    with pytest.raises(ManifestInvalid, match=r"index\.json is not JSON"):
        store.list()


def test_announced_board_must_be_the_real_one(store: Store) -> None:
    store.save("iris:v1", [ICE])
    index = store.layout.names()["iris:v1"]
    lied = store.layout.fetch(index).replace(b'"dev.gatesmith.board":"icebreaker"', b'"dev.gatesmith.board":"ulx3s"')
    from gatesmith.artifact.descriptor import Descriptor
    from gatesmith.artifact.reference import Reference

    descriptor = Descriptor.of(index.media_type, lied)
    store.layout.put(descriptor, lied)
    store.layout.tag(Reference.parse("iris:lie"), descriptor)
    with pytest.raises(ManifestInvalid, match="announces firmware for ulx3s and holds one for icebreaker"):
        store.load("iris:lie")


def test_full_disk_at_every_write_leaves_the_old_state(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save("iris:v1", [ICE])
    before = {p.name: p.read_bytes() for p in store.layout.path.rglob("*") if p.is_file()}
    real, messages = os.fsync, []
    for allowed in range(100):
        left = [allowed]

        def fsync(descriptor: int, left: list[int] = left) -> None:
            if left[0] == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            left[0] -= 1
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        try:
            store.save("iris:v2", [ECP5])
            break
        except StoreWriteFailed as error:
            messages.append(str(error))
        assert store.load("iris:v1") == ICE
        if "iris:v2" not in store.layout.names():  # the very last flush comes after the rename
            assert {p.name: p.read_bytes() for p in store.layout.path.rglob("*") if p.is_file()} == before
    assert len(messages) > 10
    assert all("No space left on device" in message and "\n" not in message for message in messages)
    assert store.load("iris:v2") == ECP5


def test_a_store_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreWriteFailed, match=r"cannot be written: .*; free space there or set GATESMITH_HOME"):
        Store(tmp_path / "file" / "store").save("iris:v1", [ICE])


def test_a_store_of_very_many_names_is_still_a_store(store: Store) -> None:
    """One name for each build that was ever kept: four mebibytes of them, and then one more."""
    digest = store.save("iris:v1", [ICE])
    place = store.layout.path / "index.json"
    data = json.loads(place.read_bytes())
    first = next(entry for entry in data["manifests"] if "org.opencontainers.image.ref.name" in entry["annotations"])
    names = [f"build:{number:064x}" for number in range(20_000)]
    data["manifests"] += [{**first, "annotations": {"org.opencontainers.image.ref.name": name}} for name in names]
    place.write_bytes(json.dumps(data).encode())
    assert place.stat().st_size > 4 << 20
    store.save("jets:v1", [ECP5])
    assert store.resolve(names[-1]) == digest
    assert store.load("jets:v1") == ECP5
