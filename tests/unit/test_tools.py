"""Programs are taken from PATH when they are recent enough, else from their packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gatesmith import tools
from gatesmith.errors import ToolNotFound
from gatesmith.tools import cache_path, find_tool, tool_environment, tool_status


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    find_tool.cache_clear()
    yield folder
    find_tool.cache_clear()


def _program(folder: Path, name: str, says: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_packaged", lambda *_: None)


def test_a_recent_program_on_path_is_used_and_its_packer_follows(path: Path) -> None:
    _program(path, "nextpnr-ice40", '"nextpnr-ice40" -- Next Generation Place and Route (Version nextpnr-0.10-12-gabc)')
    _program(path, "icepack", "")
    router, packer = find_tool("nextpnr-ice40"), find_tool("icepack")
    assert (router.command, router.version, router.package) == ((str(path / "nextpnr-ice40"),), "0.10", "")
    assert packer.command == (str(path / "icepack"),)


@pytest.mark.parametrize("says", ["nextpnr-0.4", "nextpnr-0.6-3-gabc", "no number"])
def test_an_old_program_on_path_is_left_alone(path: Path, no_packages: None, says: str) -> None:
    _program(path, "nextpnr-ice40", says)
    with pytest.raises(ToolNotFound, match=r"nextpnr-ice40 is not installed .*; pip install 'gatesmith\[build\]'"):
        find_tool("nextpnr-ice40")


def test_a_packer_on_path_without_its_nextpnr_is_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(path, "icepack", "")
    packaged = tools.Tool(name="x", command=("packaged",), version="1", package="yowasp-x", identity="x")
    monkeypatch.setattr(tools, "_packaged", lambda *_: packaged)
    assert find_tool("icepack") is packaged


def test_another_file_is_another_identity(path: Path) -> None:
    _program(path, "g++", "12.2.0")
    one = find_tool("g++").identity
    _program(path, "g++", "12.2.0 ")
    find_tool.cache_clear()
    assert find_tool("g++").identity != one


def test_the_status_names_what_is_missing_and_how_to_get_it(path: Path, no_packages: None) -> None:
    status = {row.name: row for row in tool_status()}
    assert {"pyosys", "nextpnr-ice40", "gmpack", "verilator", "g++", "openFPGALoader"} <= set(status)
    assert not any(row.found for row in status.values())
    assert "gatesmith[build]" in status["pyosys"].how_to_install
    assert "apt-get install" in status["g++"].how_to_install


def test_programs_see_little_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GATESMITH_HOME", str(tmp_path))
    monkeypatch.setenv("SECRET_TOKEN", "x")
    environment = tool_environment()
    assert "SECRET_TOKEN" not in environment
    assert environment["YOWASP_CACHE_DIR"] == str(tmp_path / "cache" / "yowasp") == str(cache_path("yowasp"))
    assert environment["PYTHONHASHSEED"] == "0"
