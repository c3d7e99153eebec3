from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable

import pytest

from gatesmith.artifact import archive
from gatesmith.artifact.archive import pack_files, unpack_files
from gatesmith.errors import ManifestInvalid

FILES = {"top.v": b"module top; endmodule", "sub/table.mem": b"\x00\xff" * 700, "empty": b""}


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(raw.getvalue())


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def test_files_come_back() -> None:
    assert unpack_files(pack_files(FILES)) == FILES


def test_order_does_not_change_the_bytes() -> None:
    assert pack_files(FILES) == pack_files(dict(reversed(FILES.items())))


def test_other_readers_see_plain_members_without_time_and_owner() -> None:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(pack_files(FILES)))) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == sorted(FILES)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}


@pytest.mark.parametrize("name", ["../x", "/x", "a/../x", "", ".hidden", "a//b", "a b", "x" * 101, "a/", "a\nb", "é"])
def test_names_are_checked_both_ways(name: str) -> None:
    with pytest.raises(ManifestInvalid, match="is not allowed"):
        pack_files({name: b""})
    with pytest.raises(ManifestInvalid):
        unpack_files(tar_of((tarfile.TarInfo(name), b"")))


@pytest.mark.parametrize(
    "member",
    [
        special("link", tarfile.SYMTYPE, "/etc/passwd"),
        special("hard", tarfile.LNKTYPE, "top.v"),
        special("folder", tarfile.DIRTYPE),
        special("device", tarfile.CHRTYPE),
        special("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda member: member.name,
)
def test_only_regular_files_pass(member: tarfile.TarInfo) -> None:
    with pytest.raises(ManifestInvalid, match="is not a regular file"):
        unpack_files(tar_of((member, b"")))


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(ManifestInvalid, match="twice"):
        unpack_files(tar_of((tarfile.TarInfo("a"), b"1"), (tarfile.TarInfo("a"), b"2")))


def test_a_bomb_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 100_000)
    with pytest.raises(ManifestInvalid, match="more than 100000 bytes"):
        unpack_files(gzip.compress(bytes(10_000_000)))


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-1], lambda b: b[: len(b) // 2], lambda b: b + b"x", lambda b: b[:0], lambda b: b"x" + b[1:]],
    ids=["last byte", "half", "longer", "empty", "header"],
)
def test_damage_is_seen(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ManifestInvalid, match="damaged"):
        unpack_files(damage(pack_files(FILES)))
