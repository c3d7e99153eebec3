"""Shared memory regions: the rules, and a client that breaks them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatesmith.errors import TensorMismatch
from gatesmith.serve.shm import Regions

shared: Any = pytest.importorskip("tritonclient.utils.shared_memory")
KEY = f"/gatesmith-test-{os.getpid()}"
OBJECT = Path("/dev", "shm", KEY[1:])


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def regions() -> Iterator[Regions]:
    made = Regions(most=3, limit_bytes=1 << 20)
    yield made
    made.close()


@pytest.fixture
def handle() -> Iterator[Any]:
    """64 bytes made by the reference client."""
    made = shared.create_shared_memory_region("theirs", KEY, 64)
    yield made
    shared.destroy_shared_memory_region(made)


def test_both_sides_see_one_memory(regions: Regions, handle: Any) -> None:
    values = np.arange(16, dtype=np.float32)
    shared.set_shared_memory_region(handle, [values])
    regions.register("all", KEY, 0, 64)
    regions.register("second half", KEY.removeprefix("/"), 32, 32)
    np.testing.assert_array_equal(np.frombuffer(regions.read("all", 0, 64), np.float32), values)
    np.testing.assert_array_equal(np.frombuffer(regions.read("second half", 4, 8), np.float32), values[9:11])
    regions.write("second half", 8, np.array([7, 8], np.float32).tobytes())
    seen = shared.get_contents_as_numpy(handle, np.float32, [16])
    np.testing.assert_array_equal(seen[10:12], [7, 8])
    assert len(regions.read("all", 64, 0)) == 0
    expected = {"name": "second half", "key": KEY.removeprefix("/"), "offset": 32, "byte_size": 32}
    assert regions.status()[1] == regions.status("second half")[0] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", KEY, 0, 8), "name has 0 characters"),
        (("n" * 256, KEY, 0, 8), "name has 256 characters"),
        (("r", "/../etc/passwd", 0, 8), "is no object's name"),
        (("r", "..", 0, 8), "is no object's name"),
        (("r", "/", 0, 8), "is no object's name"),
        (("r", "a/b", 0, 8), "is no object's name"),
        (("r", "//x", 0, 8), "is no object's name"),
        (("r", "a\0b", 0, 8), "is no object's name"),
        (("r", "\ud800", 0, 8), "its name is not text"),
        (("r", "x" * 300, 0, 8), "is no object's name"),
        (("r", "/nobody-made-this", 0, 8), "cannot be opened: No such file or directory"),
        (("r", KEY, 0, 65), "has 64 bytes, 65 at offset 0 are needed"),
        (("r", KEY, 60, 8), "has 64 bytes, 8 at offset 60 are needed"),
        (("r", KEY, 1 << 63, 1 << 63), "has 64 bytes"),
        (("r", KEY, -1, 8), "are no part of memory"),
        (("r", KEY, 0, -8), "are no part of memory"),
    ],
)
def test_what_cannot_be_registered(
    arguments: tuple[str, str, int, int], message: str, regions: Regions, handle: Any
) -> None:
    before = descriptors()
    with pytest.raises(TensorMismatch, match=message):
        regions.register(*arguments)
    assert regions.status() == []
    assert descriptors() == before


def test_links_folders_and_pipes_are_no_objects(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x" * 64)
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    regions = Regions(folder=tmp_path)
    for key in ("link", "folder", "pipe"):
        with pytest.raises(TensorMismatch, match=r"cannot be opened|no shared memory object"):
            regions.register("r", key, 0, 8)


def test_names_are_taken_once_and_regions_are_bounded(regions: Regions, handle: Any) -> None:
    for name in ("a", "b", "c"):
        regions.register(name, KEY, 0, 8)
    with pytest.raises(TensorMismatch, match="'a' is registered already"):
        regions.register("a", KEY, 0, 8)
    with pytest.raises(TensorMismatch, match="3 shared memory regions are registered"):
        regions.register("d", KEY, 0, 8)
    regions.unregister("a")
    regions.unregister("a")
    regions.register("d", KEY, 0, 8)
    regions.unregister()
    assert regions.status() == []


@pytest.mark.parametrize(("offset", "size"), [(0, 33), (32, 1), (33, 0), (-1, 4), (0, -1), (1 << 62, 1 << 62)])
def test_parts_stay_inside(offset: int, size: int, regions: Regions, handle: Any) -> None:
    regions.register("r", KEY, 16, 32)
    with pytest.raises(TensorMismatch, match="are not inside shared memory region 'r', which has 32"):
        regions.read("r", offset, size)
    if size >= 0:
        with pytest.raises(TensorMismatch, match="are not inside"):
            regions.write("r", offset, bytes(min(size, 64)))


def test_unknown_regions(regions: Regions) -> None:
    for work in (lambda: regions.read("r", 0, 1), lambda: regions.write("r", 0, b"x"), lambda: regions.status("r")):
        with pytest.raises(TensorMismatch, match="no shared memory region 'r' is registered"):
            work()


def test_an_object_that_shrinks_is_an_error_and_no_end(regions: Regions, handle: Any) -> None:
    """Mapped memory would end this process here."""
    regions.register("r", KEY, 0, 64)
    os.truncate(OBJECT, 10)
    with pytest.raises(TensorMismatch, match="ends at byte 10 of region 'r', 64 bytes were to be read"):
        regions.read("r", 0, 64)
    with pytest.raises(TensorMismatch, match="has 10 bytes, 8 at offset 8 are needed"):
        regions.write("r", 8, bytes(8))
    assert OBJECT.stat().st_size == 10


def test_a_sparse_giant_is_not_copied(regions: Regions, handle: Any) -> None:
    os.truncate(OBJECT, 1 << 40)
    regions.register("r", KEY, 0, 1 << 40)
    with pytest.raises(TensorMismatch, match="1048576 may be; send smaller batches"):
        regions.read("r", 0, 1 << 40)
