"""Runs one tool of a Python package in a process of its own; it is started by its path and imports nothing of ours.

``worker.py pyosys FILE`` runs the yosys passes that the JSON list in FILE names, in one design. A yosys error ends
the process with exit code 1 and one line on standard error: nothing of Python runs after it, no ``except`` either.
``worker.py MODULE:FUNCTION ARGUMENT...`` runs a console script.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run what the first argument names with the others."""
    target, *rest = arguments
    if target == "pyosys":
        return _run_passes(json.loads(Path(rest[0]).read_text(encoding="utf-8")))
    module, _, function = target.partition(":")
    sys.argv = [function, *rest]
    status = getattr(importlib.import_module(module), function)()
    return int(status or 0)


def _run_passes(passes: list[str]) -> int:
    from pyosys import libyosys

    design = libyosys.Design()
    for line in passes:
        libyosys.run_pass(line, design)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
