"""A virtual environment with KServe's SDK and this package: their pins and our tests' exclude each other.

It is made once for each version, in the cache that test runs share; making it takes a minute. This package is
installed in it as a link to a checkout: to the one whose tests ask, whichever made it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gatesmith.tools import cache_path

__all__ = ["kserve_python"]

REQUIREMENTS = ["kserve==0.21.0", "kserve-storage==0.21.0"]
ROOT = Path(__file__).parents[1]
HOME = cache_path("tests")  # before tests get a home of their own
MINUTES = 10


def kserve_python() -> Path:
    """Its interpreter. What cannot be installed skips, and fails when ``GATESMITH_REQUIRE_TOOLS=1``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = "\n".join([sys.version, *REQUIREMENTS, *project["dependencies"]])
    folder = HOME / f"kserve-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        linked = folder / "linked"  # the checkout; absent: not finished
        made = linked.exists()
        if not made or linked.read_text() != str(ROOT):
            _install(folder, made=made)
            linked.write_text(str(ROOT))
    return folder / "bin" / "python"


def _install(folder: Path, *, made: bool) -> None:
    wanted = ["--no-deps"] if made else REQUIREMENTS
    try:
        if not made:
            for old in HOME.glob("kserve-*"):
                subprocess.run(["rm", "-rf", str(old)], check=True, timeout=60)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=60)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *wanted, "-e", str(ROOT)]
        subprocess.run(install, check=True, timeout=MINUTES * 60, capture_output=True)
    except (subprocess.SubprocessError, OSError) as error:
        words = getattr(error, "stderr", b"") or b""
        reason = f"kserve cannot be installed: {error} {words[-500:].decode(errors='replace')}"
        if os.environ.get("GATESMITH_REQUIRE_TOOLS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
