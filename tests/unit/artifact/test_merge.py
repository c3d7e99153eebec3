from __future__ import annotations

import json
from typing import Any

import pytest

from gatesmith.artifact import media_types
from gatesmith.artifact.descriptor import Descriptor, digest_of
from gatesmith.artifact.merge import merge_indexes, with_referrers
from gatesmith.errors import LimitExceeded, ManifestInvalid


def entry(content: str, *, board: str = "", **more: Any) -> dict[str, Any]:
    data = {"mediaType": media_types.MANIFEST, "digest": digest_of(content.encode()), "size": len(content), **more}
    return data | ({"annotations": {"dev.gatesmith.board": board}} if board else {})


def index(*entries: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": list(entries), **more}).encode()


def digests(content: bytes) -> list[str]:
    return [one["digest"] for one in json.loads(content)["manifests"]]


def test_nothing_there_is_the_new_one_as_it_is() -> None:
    new = index(entry("a", board="x"))
    assert merge_indexes(None, new) == new


def test_boards_are_added_and_replaced_in_board_order() -> None:
    a, b, c, newer_b = entry("a", board="a"), entry("b", board="b"), entry("c", board="c"), entry("b2", board="b")
    merged = merge_indexes(index(c, a, b), index(newer_b))
    assert digests(merged) == [a["digest"], newer_b["digest"], c["digest"]]


def test_the_same_change_again_changes_nothing() -> None:
    new = index(entry("b", board="b"), entry("p", platform={"os": "linux", "architecture": "amd64"}))
    once = merge_indexes(index(entry("a", board="a")), new)
    assert merge_indexes(once, new) == once
    assert merge_indexes(merge_indexes(once, index(entry("z", board="z"))), new) != once


def test_the_order_of_writers_does_not_matter() -> None:
    one, two, three = (index(entry(name, board=name)) for name in "abc")
    assert merge_indexes(merge_indexes(one, two), three) == merge_indexes(merge_indexes(three, one), two)


def test_keys_that_nobody_knows_stay() -> None:
    strange = entry(
        "s", artifactType="x/y", platform={"os": "z", "architecture": "q", "os.features": ["f"]}, data="e30="
    )
    merged = json.loads(merge_indexes(index(strange, annotations={"k": "v"}), index(entry("a", board="a"))))
    assert strange in merged["manifests"]
    assert merged["annotations"] == {"k": "v"}


def test_entries_without_board_go_by_platform_then_by_content() -> None:
    amd, arm = ({"os": "linux", "architecture": name} for name in ("amd64", "arm64"))
    old = index(entry("one", platform=amd), entry("two", platform=arm), entry("three"))
    new = index(entry("four", platform=amd), entry("three"))
    merged = merge_indexes(old, new)
    assert sorted(digests(merged)) == sorted(digest_of(name.encode()) for name in ("two", "three", "four"))


@pytest.mark.parametrize(
    "old",
    [
        json.dumps({"schemaVersion": 2, "mediaType": media_types.MANIFEST, "config": {}, "layers": []}).encode(),
        json.dumps({"schemaVersion": 2, "manifests": [], "layers": []}).encode(),
        b"[]",
        b"{}",
        index({"mediaType": "x", "digest": "md5:1", "size": 1}),
    ],
)
def test_what_is_no_index_is_refused(old: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        merge_indexes(old, index())


def test_a_bomb_is_not_unpacked() -> None:
    with pytest.raises(LimitExceeded):
        merge_indexes(b'{"manifests":[' + b"[]," * 1_000_000 + b"1]}", index())


def test_referrers() -> None:
    content = json.dumps(
        {
            "schemaVersion": 2,
            "config": {"mediaType": "application/a", "digest": digest_of(b""), "size": 0},
            "layers": [],
            "annotations": {"k": "v"},
        }
    ).encode()
    one = Descriptor.of(media_types.MANIFEST, content)
    typed = content.replace(b'"layers"', b'"artifactType": "application/b", "layers"')
    two = Descriptor.of(media_types.MANIFEST, typed)
    first = with_referrers(None, [(one, content)])
    both = with_referrers(first, [(two, typed), (one, content)])
    assert with_referrers(both, [(one, content)]) == both
    entries = json.loads(both)["manifests"]
    assert [(e["digest"], e["artifactType"]) for e in entries] == [
        (one.digest, "application/a"),
        (two.digest, "application/b"),
    ]
    assert entries[0]["annotations"] == {"k": "v"}
