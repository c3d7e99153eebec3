"""Becomes another program that dies with the process that started it, even when that one is killed.

``guard.py PROGRAM ARGUMENT...``, with a pipe as standard input whose other end the parent holds as long as it lives.

# Ref: prctl(2), PR_SET_PDEATHSIG: kept by execve unless the program gains rights.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main(command: list[str]) -> None:
    """Ask to be killed with the parent, then become the program."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if select.select([sys.stdin], [], [], 0)[0]:  # it died before we asked
            sys.exit("the build that needs this program is gone")
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
