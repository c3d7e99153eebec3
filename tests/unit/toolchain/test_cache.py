"""What the cache gives back is what was put in, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatesmith.errors import BuildError
from gatesmith.toolchain.cache import load, store

KEY, OTHER = "ab" + "0" * 62, "cd" + "0" * 62
FILES = {"bitstream": bytes(range(256)) * 40, "report.json": b'{"a": 1}\n', "empty": b"", "lines": b"\n\n\n"}


def _file(folder: Path) -> Path:
    (path,) = folder.rglob("*.build")
    return path


def test_what_is_stored_is_loaded(tmp_path: Path) -> None:
    store(tmp_path, KEY, FILES)
    assert load(tmp_path, KEY) == FILES
    assert load(tmp_path, OTHER) is None


def test_storing_again_replaces(tmp_path: Path) -> None:
    store(tmp_path, KEY, FILES)
    store(tmp_path, KEY, {"bitstream": b"new"})
    assert load(tmp_path, KEY) == {"bitstream": b"new"}


@pytest.mark.parametrize("place", [0, 70, 140, 200, 5000, -1])
def test_one_changed_byte_is_noticed_and_the_file_dropped(tmp_path: Path, place: int) -> None:
    store(tmp_path, KEY, FILES)
    content = bytearray(_file(tmp_path).read_bytes())
    content[place] ^= 1
    _file(tmp_path).write_bytes(content)
    assert load(tmp_path, KEY) is None
    assert not list(tmp_path.rglob("*.build"))


@pytest.mark.parametrize("length", [0, 1, 64, 65, 130, 1000])
def test_a_torn_file_is_noticed(tmp_path: Path, length: int) -> None:
    store(tmp_path, KEY, FILES)
    _file(tmp_path).write_bytes(_file(tmp_path).read_bytes()[:length])
    assert load(tmp_path, KEY) is None


def test_a_file_under_another_name_is_not_trusted(tmp_path: Path) -> None:
    store(tmp_path, KEY, FILES)
    moved = tmp_path / OTHER[:2] / f"{OTHER}.build"
    moved.parent.mkdir()
    _file(tmp_path).rename(moved)
    assert load(tmp_path, OTHER) is None


def test_a_folder_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BuildError, match=r"cannot write the build cache .*: Not a directory; free some space"):
        store(tmp_path / "file", KEY, FILES)


def test_a_rename_that_fails_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(BuildError, match="No space left on device; free some space") as caught:
        store(tmp_path, KEY, FILES)
    assert "\n" not in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
