"""Every folder of examples/ runs as a user would run it, checks itself and ends with 0."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from requirements import require_build

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
TIMEOUT_S = 240


def command(folder: Path) -> list[str]:
    script = folder / "run.sh"
    return ["bash", str(script)] if script.is_file() else [sys.executable, str(folder / "run.py")]


def run(folder: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "TMPDIR": str(tmp_path)}
    return subprocess.run(
        command(folder), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )


@pytest.mark.xdist_group("examples")  # they share builds
@pytest.mark.parametrize("name", FOLDERS)
def test_example(name: str, tmp_path: Path) -> None:
    require_build("icebreaker", "ulx3s-85f")
    done = run(EXAMPLES / name, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [], "something was left behind"


def test_each_has_a_short_page_that_the_list_names() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for name in FOLDERS:
        page = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
        assert 3 <= len(page.splitlines()) <= 12
        assert f"({name})" in listed


def test_an_example_that_fails_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "99-wrong"
    folder.mkdir()
    (folder / "run.sh").write_text("set -e\nfalse\n", encoding="utf-8")
    assert run(folder, tmp_path).returncode == 1
