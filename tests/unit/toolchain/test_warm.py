"""A program is compiled once, whoever asks for it first and however many ask at once."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gatesmith.errors import BuildError, ToolFailed
from gatesmith.toolchain.warm import warm
from gatesmith.tools import Tool


def _tool(folder: Path, code: str, *, version: str = "1", package: str = "yowasp-x") -> Tool:
    program = f"open({str(folder / 'runs')!r}, 'a').write('run\\n'); {code}"
    return Tool(
        name="nextpnr-x", command=(sys.executable, "-c", program), version=version, package=package, identity="x"
    )


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GATESMITH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _runs(folder: Path) -> int:
    path = folder / "runs"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_many_at_once_compile_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: warm([_tool(tmp_path, "pass")]), range(16)))
    assert _runs(tmp_path) == 1


def test_another_version_compiles_again(tmp_path: Path) -> None:
    warm([_tool(tmp_path, "pass")])
    warm([_tool(tmp_path, "pass", version="2")])
    assert _runs(tmp_path) == 2


def test_a_program_on_path_needs_no_compiling(tmp_path: Path) -> None:
    warm([_tool(tmp_path, "pass", package="")])
    assert _runs(tmp_path) == 0


def test_a_killed_compilation_is_told_and_tried_again(tmp_path: Path) -> None:
    killed = _tool(tmp_path, "import os; os.kill(os.getpid(), 9)")
    for runs in (1, 2):
        with pytest.raises(ToolFailed, match=r"nextpnr-x killed by signal 9 \(out of memory\?\)"):
            warm([killed])
        assert _runs(tmp_path) == runs


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, home: Path) -> None:
    home.write_bytes(b"")
    with pytest.raises(BuildError, match=r"cannot write .*yowasp: Not a directory"):
        warm([_tool(tmp_path, "pass")])
