"""Which firmware a device runs, as a server notes it and a device plugin reads it; and names of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from firmwares import ArithmeticDevice
from planes import ask, check, one_each, with_plane

from gatesmith.errors import ManifestInvalid, ModelNotFound
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.naming import RenamedSource, split_name
from gatesmith.serve.residents import Residents


def test_a_server_notes_what_its_devices_run(tmp_path: Path) -> None:
    async def body(plane: DataPlane, _doubles: list[ArithmeticDevice]) -> None:
        model = plane.model("a")
        noted = Residents(tmp_path / "residents").read()
        assert noted["arithmetic:0"] == {
            "model": "a",
            "digest": model.digest,
            "build_id": model.firmware.build_id,
        }
        await plane.unload_model("a")
        await plane.load_model("b")
        assert Residents(tmp_path / "residents").read()["arithmetic:0"]["model"] == "b"

    with_plane(body, one_each("a", "b"), preload=["a"], residents=str(tmp_path / "residents"))


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(plane: DataPlane, _doubles: list[ArithmeticDevice]) -> None:
        check(await ask(plane, "a"))

    (tmp_path / "file").touch()
    with_plane(body, one_each("a"), preload=["a"], residents=str(tmp_path / "file" / "residents"))
    assert "cannot be written" in caplog.text


def test_what_others_left_there_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "b.json").write_bytes(b"\xff")
    (tmp_path / "c.json").write_text('{"device": "emulator:0", "model": 7}')
    assert Residents(tmp_path).read() == {"emulator:0": {"model": "7", "digest": "", "build_id": ""}}
    assert Residents(tmp_path / "absent").read() == {}


@pytest.mark.parametrize(
    ("text", "name", "target"),
    [
        ("iris:v1", "", "iris:v1"),
        ("flower=iris:v1", "flower", "iris:v1"),
        ("my.flower-2=/mnt/models", "my.flower-2", "/mnt/models"),
        ("./folder/a=b", "", "./folder/a=b"),
        ("registry.example/lab/iris:v1", "", "registry.example/lab/iris:v1"),
    ],
)
def test_names_of_ones_own(text: str, name: str, target: str) -> None:
    assert split_name(text) == (name, target)


@pytest.mark.parametrize("text", ["=iris:v1", "flower=", "-x=iris", "a b=iris"])
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(ManifestInvalid, match="names no model; NAME=TARGET is needed"):
        split_name(text)


def test_a_model_under_another_name() -> None:
    source = RenamedSource("flower", one_each("a"), "a")
    assert source.names() == ["flower"]
    assert source.find("flower", "v1", fresh=False).name == "flower"
    with pytest.raises(ModelNotFound, match="no model 'a' is here; the model is flower"):
        source.find("a", None, fresh=False)
