"""Runs one tool of a Python package in a process of its own; it is started by its path and imports nothing of ours.

``worker.py pyosys FILE`` runs the yosys passes that the JSON list in FILE names, in one design. A yosys error ends
the process with exit code 1 and one line on standard error: nothing of Python runs after it, no ``except`` either.
``worker.py MODULE:FUNCTION ARGUMENT...`` runs a console script. Either way the process dies with the one that started
it, even when that one is killed.

# Ref: prctl(2), PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import select
import signal
import sys
from pathlib import Path

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Run what the first argument names with the others."""
    _die_with_parent()
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


def _die_with_parent() -> None:
    """Ask to be killed with the parent, which holds the other end of our standard input as long as it lives."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if select.select([sys.stdin], [], [], 0)[0]:  # it died before we asked
            sys.exit("the build that needs this program is gone")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
