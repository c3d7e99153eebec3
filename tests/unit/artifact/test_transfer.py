"""Graphs of content from one layout to another; registries have tests of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from registries import artifact, document

from gatesmith.artifact.checked import CheckedWriter
from gatesmith.artifact.descriptor import Descriptor
from gatesmith.artifact.layout import Layout
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.transfer import transfer
from gatesmith.errors import ArtifactNotFound, DigestMismatch


@pytest.fixture
def source(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "source")


@pytest.fixture
def target(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "target")


def held(layout: Layout) -> set[str]:
    return {path.name for path in (layout.path / "blobs" / "sha256").iterdir()}


def test_everything_below_and_nothing_else(source: Layout, target: Layout) -> None:
    shared = document(source, b"shared")
    inner = artifact(source, "inner:v1", shared, document(source, b"deep"))
    top = artifact(source, "top:v1", inner, shared)
    wanted = held(source)
    artifact(source, "other:v1", document(source, b"other"))
    told: list[tuple[int, int]] = []
    done = transfer(source, target, top, progress=lambda part, whole: told.append((part, whole)))
    assert held(target) == wanted
    assert target.names() == {}
    assert told[-1] == (done.copied_bytes, done.copied_bytes)
    assert sorted(told) == told
    assert transfer(source, target, top).copied_bytes == 0


def test_a_missing_part_is_told(source: Layout, target: Layout) -> None:
    top = artifact(source, "top:v1", document(source, b"one"), document(source, b"two"))
    gone = Descriptor.of("x/y", b"two").digest.removeprefix("sha256:")
    (source.path / "blobs" / "sha256" / gone).unlink()
    with pytest.raises(ArtifactNotFound, match=gone):
        transfer(source, target, top)
    assert top.digest.removeprefix("sha256:") not in held(target)


def test_a_wrong_part_is_told_and_does_not_arrive(source: Layout, target: Layout) -> None:
    top = artifact(source, "top:v1", document(source, b"one"))
    wrong = Descriptor.of("x/y", b"one").digest.removeprefix("sha256:")
    (source.path / "blobs" / "sha256" / wrong).write_bytes(b"eno")
    with pytest.raises(DigestMismatch, match=wrong):
        transfer(source, target, top)
    assert wrong not in held(target)
    assert not list((target.path / "partial").iterdir())


def test_referrers_live_as_long_as_their_subject(source: Layout, target: Layout) -> None:
    top = artifact(source, "top:v1", document(source, b"one"))
    signature = document(source, b"signature", subject=top)
    source.attach(signature, top.digest)
    source.attach(signature, top.digest)
    assert [r.digest for r in source.referrers(top.digest)] == [signature.digest]
    assert list(source.names()) == ["top:v1"]
    done = transfer(source, target, top)
    target.update(Reference.parse("copy:v1"), lambda _: top, attached=done.attached)
    source.collect()
    assert held(source) == held(target)
    target.update(Reference.parse("copy:v1"), lambda _: None)
    target.collect()
    assert held(target) == set()
    assert target.referrers(top.digest) == ()


def test_referrers_that_other_tools_list_without_a_note(source: Layout) -> None:
    top = artifact(source, "top:v1", document(source, b"one"))
    signature = document(source, b"signature", subject=top)
    index = source.path / "index.json"
    index.write_bytes(
        index.read_bytes().replace(
            b'"manifests":[',
            b'"manifests":[{"mediaType":"%s","digest":"%s","size":%d},'
            % (signature.media_type.encode(), signature.digest.encode(), signature.size),
        )
    )
    assert [r.digest for r in source.referrers(top.digest)] == [signature.digest]


def test_a_writer_takes_no_more_than_was_announced() -> None:
    writer = CheckedWriter(Descriptor.of("x/y", b"abc"))
    writer.write(b"ab")
    with pytest.raises(DigestMismatch, match="more than its announced 3 bytes"):
        writer.write(b"cd")
    writer.write(b"x")
    with pytest.raises(DigestMismatch, match="has digest"):
        writer.finish()
