from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from requirements import require

from gatesmith.artifact.archive import pack_files, unpack_files
from gatesmith.errors import ManifestInvalid

FILES = {"top.v": b"module top; endmodule", "sub/table.mem": b"\x00\xff" * 700, "empty": b""}


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return raw.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def test_files_come_back() -> None:
    assert unpack_files(pack_files(FILES)) == FILES


def test_order_does_not_change_the_bytes() -> None:
    assert pack_files(FILES) == pack_files(dict(reversed(FILES.items())))


def test_other_readers_see_plain_members_without_time_and_owner() -> None:
    with tarfile.open(fileobj=io.BytesIO(pack_files(FILES))) as tar:
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


@pytest.mark.parametrize(
    "files", [{"a": b"xyz"}, FILES, {"a" * 60 + "/" + "b" * 39: b"1", "c" * 100: b""}], ids=["one", "three", "long"]
)
def test_gnu_tar_makes_the_same_bytes(tmp_path: Path, files: dict[str, bytes]) -> None:
    require("tar")
    folder = "models/firmware/icebreaker/reports"
    for name, content in files.items():
        place = tmp_path / folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    options = ["--format=ustar", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--mode=644", "-b1"]
    names = [f"{folder}/{name}" for name in sorted(files)]
    done = subprocess.run(["tar", *options, "-cf", "-", *names], cwd=tmp_path, check=True, capture_output=True)
    assert pack_files(files, folder=folder) == done.stdout


def test_tar_writes_what_is_read_and_reads_what_is_written(tmp_path: Path) -> None:
    require("tar")
    (tmp_path / "packed.tar").write_bytes(pack_files(FILES, folder="models/firmware/icebreaker/hdl"))
    subprocess.run(["tar", "-xf", "packed.tar"], cwd=tmp_path, check=True)
    folder = tmp_path / "models" / "firmware" / "icebreaker" / "hdl"
    assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == FILES
    for kind in ("ustar", "gnu", "pax"):
        names = [str(path.relative_to(tmp_path)) for path in sorted(folder.rglob("*")) if path.is_file()]
        subprocess.run(["tar", f"--format={kind}", "-cf", f"{kind}.tar", *names], cwd=tmp_path, check=True)
        written = (tmp_path / f"{kind}.tar").read_bytes()
        assert unpack_files(written, folder="models/firmware/icebreaker/hdl") == FILES


def test_long_names_take_the_prefix_field() -> None:
    files = {"a" * 60 + "/" + "b" * 39: b"1", "c" * 100: b"2"}
    folder = "models/firmware/" + "d" * 64 + "/reports"
    packed = pack_files(files, folder=folder)
    assert unpack_files(packed, folder=folder) == files
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert tar.getnames() == [f"{folder}/{name}" for name in files]


def test_files_outside_the_folder_are_refused() -> None:
    with pytest.raises(ManifestInvalid, match="is not in models/firmware/ulx3s"):
        unpack_files(pack_files(FILES, folder="models/firmware/icebreaker"), folder="models/firmware/ulx3s")
    with pytest.raises(ManifestInvalid, match="is not in models"):
        unpack_files(tar_of((tarfile.TarInfo("modelsx/a"), b"")), folder="models")


def test_a_file_that_claims_more_than_there_is_is_refused() -> None:
    packed = bytearray(pack_files({"a": b"xyz"}))
    packed[124:136] = b"77777777777\0"
    packed[148:156] = b" " * 8
    packed[148:156] = b"%06o\0 " % sum(packed[:512])
    with pytest.raises(ManifestInvalid, match="damaged"):
        unpack_files(bytes(packed))


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-1], lambda b: b[: len(b) // 2], lambda b: b + b"x", lambda b: b[:0], lambda b: b"x" + b[1:]],
    ids=["last byte", "half", "longer", "empty", "header"],
)
def test_damage_is_seen(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ManifestInvalid, match="damaged"):
        unpack_files(damage(pack_files(FILES)))
