"""Takes rights away from this process for good: what it started as can read a stranger's model, what it becomes may.

No network, no way to gain rights, bounds on memory, time, files and processes. Each part that the system refuses is
left out and the rest holds; :func:`confine` says which parts hold.
"""

# Ref: prctl(2) PR_SET_NO_NEW_PRIVS; unshare(2) CLONE_NEWUSER, CLONE_NEWNET: a new network
# Ref: namespace has nothing but its own loopback, down; setrlimit(2)

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys

__all__ = ["confine"]

_NO_NEW_PRIVS = 38
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_LARGEST_FILE_BYTES = 4 << 30


def confine(*, memory_bytes: int, seconds: int) -> list[str]:
    """Confine this process and all that it will start.

    Parameters
    ----------
    memory_bytes : int
        Address space of each process; 0 for no bound.
    seconds : int
        Processor time of each process.

    Returns
    -------
    list of str
        What holds now: ``limits``, ``no-new-privileges``, ``no-network``.
    """
    held = []
    with contextlib.suppress(OSError, ValueError):
        if memory_bytes:
            _limit(resource.RLIMIT_AS, memory_bytes)
        _limit(resource.RLIMIT_CPU, seconds)
        _limit(resource.RLIMIT_FSIZE, _LARGEST_FILE_BYTES)
        _limit(resource.RLIMIT_CORE, 0)
        held.append("limits")
    if sys.platform == "linux":
        held += _linux()
    return held


def _linux() -> list[str]:
    libc = ctypes.CDLL(None, use_errno=True)
    held = []
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        held.append("no-new-privileges")
    # Where making a network needs rights, a user namespace of one's own gives them, inside it alone.
    if libc.unshare(_NEW_USER | _NEW_NETWORK) == 0 or libc.unshare(_NEW_NETWORK) == 0:
        held.append("no-network")
    return held


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bound, bound))
