"""The build service against its own OpenAPI document, as schemathesis reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from building import a_site
from requirements import require_build

CASES = 20


def test_the_service_keeps_to_its_document(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    require_build("icebreaker")
    with a_site(tmp_path) as site:
        document = httpx.get(f"{site.url}/openapi.json").json()
        (tmp_path / "openapi.json").write_text(json.dumps(document))
        arguments = ["run", str(tmp_path / "openapi.json"), "--url", site.url, "--max-examples", str(CASES)]
        # a PUT whose content does not have the digest of its path is refused whatever the schema says of content
        arguments += ["--exclude-checks", "positive_data_acceptance", "--seed", "1", "--request-timeout", "30"]
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", *arguments],
            capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert "Server error" not in done.stdout
        assert site.process is not None
        assert site.process.poll() is None
