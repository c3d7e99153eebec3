"""Schemathesis against a running server: requests made from an OpenAPI document, answers compared with it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Outcome", "check_document"]

# Which tensors a model has is not in the schema, so what fits the schema may be refused as not fitting the model.
_CONFIG = """
seed = {seed}
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "401", "403", "404"]
"""
# Real names lead behind the 404.
_REAL_NAMES = """
[parameters]
"path.model_name" = "{model}"
"path.model_version" = "{version}"
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a run found."""

    cases: int
    failures: int
    text: str


def check_document(
    url: str, document: str, *, examples: int, model: str = "", version: str = "", seed: int = 1
) -> Outcome:
    """Run all checks of schemathesis on all operations of a document.

    Parameters
    ----------
    examples : int
        Most cases that are made for one operation in each of its phases.
    model, version : str
        Real names for the paths; invented ones when empty.
    """
    config = _CONFIG.format(seed=seed) + (_REAL_NAMES.format(model=model, version=version) if model else "")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "schemathesis.toml"
        file.write_text(config)
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(file), "run", f"{url}{document}"]
        command += ["--checks", "all", "--max-examples", str(examples), "--suppress-health-check", "all"]
        if model:  # once it is unloaded, 503 would be the right answer to everything else
            command += ["--exclude-path-regex", "/unload$"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=scratch, timeout=1800)
    made = re.search(r"(\d+) generated", done.stdout)
    found = re.search(r"found (\d+) unique failures?", done.stdout)
    if made is None or (done.returncode and found is None):
        raise RuntimeError(f"schemathesis ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return Outcome(cases=int(made[1]), failures=int(found[1]) if found else 0, text=done.stdout)
