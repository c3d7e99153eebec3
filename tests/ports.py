"""Ports that can be named before somebody listens on them, however many tests run at the same time."""

# Ref: ip(7), ip_local_port_range: who asks for any free port gets one of these; the others are for who names them

from __future__ import annotations

import itertools
import os
import socket
from pathlib import Path

__all__ = ["free_port"]

_ANY = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST, _LEAST = 10_000, 1000
_STEP = 997  # between processes that were started one after the other
_number = itertools.count()


def free_port() -> int:
    """A port that nobody listens on; no other program gets it by chance, and no other test is given it."""
    count = _highest() - _LOWEST
    while True:
        port = _LOWEST + (os.getpid() * _STEP + next(_number)) % count if count >= _LEAST else 0
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])


def _highest() -> int:
    try:
        return int(_ANY.read_text().split()[0])
    except OSError:
        return 32_768
