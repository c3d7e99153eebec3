from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gatesmith.artifact.lockfile import locked_digest, record_digest
from gatesmith.errors import ArtifactNotFound, ManifestInvalid, StoreWriteFailed

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def test_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "gatesmith.lock"
    record_digest(path, "r.example/b:v1", B)
    record_digest(path, "r.example/a:v1", B)
    record_digest(path, "r.example/a:v1", A)
    assert locked_digest(path, "r.example/a:v1") == A
    assert json.loads(path.read_text()) == {"version": 1, "references": {"r.example/a:v1": A, "r.example/b:v1": B}}
    assert path.read_text().index("a:v1") < path.read_text().index("b:v1")
    assert [p.name for p in tmp_path.iterdir()] == ["gatesmith.lock"]


def test_what_is_not_in_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFound, match=r"says nothing of r.example/a:v1; pull it once without --locked"):
        locked_digest(tmp_path / "gatesmith.lock", "r.example/a:v1")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version":2,"references":{}}', '{"version":1,"references":{"a":"latest"}}', "{"]
)
def test_a_damaged_file_is_refused_and_kept(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gatesmith.lock"
    path.write_text(text)
    with pytest.raises(ManifestInvalid):
        record_digest(path, "r.example/a:v1", A)
    assert path.read_text() == text


def test_writers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "gatesmith.lock"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: record_digest(path, f"r.example/a:v{n}", A), range(40)))
    assert len(json.loads(path.read_text())["references"]) == 40


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StoreWriteFailed, match=r"cannot be written: .*; name another place with --lock"):
        record_digest(tmp_path / "missing" / "gatesmith.lock", "r.example/a:v1", A)
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(StoreWriteFailed):
            record_digest(tmp_path / "gatesmith.lock", "r.example/a:v1", A)
