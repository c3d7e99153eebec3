"""What a user may name, and the places that a build may write to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from firmwares import tiny_firmware

from gatesmith.artifact.store import Store
from gatesmith.cli.targets import check_out, check_writable, named, new_folder
from gatesmith.errors import ArtifactNotFound, ManifestInvalid, StoreWriteFailed


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATESMITH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_a_reference_is_of_the_local_store(tmp_path: Path) -> None:
    store, reference = named("iris:v1")
    assert (store.layout.path, reference) == (tmp_path / "home" / "store", "iris:v1")


def test_a_folder_with_one_artifact() -> None:
    Store(Path("out")).save("iris:v1", [tiny_firmware()])
    store, reference = named("out")
    assert (store.layout.path, reference) == (Path("out"), "iris:v1")


def test_a_folder_with_several_names_them() -> None:
    for tag in ("a:v1", "b:v1"):
        Store(Path("out")).save(tag, [tiny_firmware()])
    with pytest.raises(ArtifactNotFound, match=r"2 artifacts \(a:v1, b:v1\)"):
        named("out")


def test_a_folder_that_only_has_an_artifacts_name() -> None:
    Path("iris").mkdir()
    with pytest.raises(ArtifactNotFound, match="folder 'iris' holds no artifact"):
        named("iris")
    Store().save("iris", [tiny_firmware()])
    assert named("iris")[0].layout.path == Store().layout.path


@pytest.mark.parametrize("target", ["./gone", "../gone", "/gone/x"])
def test_a_path_that_is_not_there(target: str) -> None:
    with pytest.raises(ArtifactNotFound, match=f"folder '{target}' does not exist"):
        named(target)


def test_places_for_output(tmp_path: Path) -> None:
    check_out(Path("new"), "iris:latest")
    check_out(Path("new/deep"), "iris:latest")
    Path("empty").mkdir()
    check_out(Path("empty"), "iris:latest")
    Store(Path("again")).save("iris:latest", [tiny_firmware()])
    check_out(Path("again"), "iris:latest")
    with pytest.raises(StoreWriteFailed, match=r"other things \(iris:latest\)"):
        check_out(Path("again"), "other:latest")
    Path("again/thesis.tex").touch()
    with pytest.raises(StoreWriteFailed, match=r"other things \(thesis.tex\)"):
        check_out(Path("again"), "iris:latest")
    Path("home-less").touch()
    with pytest.raises(StoreWriteFailed, match="home-less' is a file"):
        check_out(Path("home-less"), "iris:latest")
    assert not Path("new").exists()


def test_a_damaged_folder_is_told() -> None:
    Path("out").mkdir()
    Path("out/index.json").write_text("{", encoding="utf-8")
    with pytest.raises(ManifestInvalid):
        check_out(Path("out"), "iris:latest")


def test_no_permission(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != tmp_path)
    with pytest.raises(StoreWriteFailed, match="no permission"):
        check_writable(Path("new/deep"))


def test_a_folder_that_could_not_be_written_is_not_there() -> None:
    def write(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "half").touch()
        raise KeyboardInterrupt

    for place, stays in ((Path("new"), False), (Path("old"), True)):
        if stays:
            place.mkdir()
        with pytest.raises(KeyboardInterrupt), new_folder(place):
            write(place)
        assert place.exists() is stays
