"""Ports and certificates of the servers here, and the one line that says what is wrong with them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatesmith.errors import ServerNotStarted

__all__ = ["checked_tls", "listen"]

_BACKLOG = 2048


def listen(host: str, port: int, *, choose: str) -> socket.socket:
    """A socket that listens; port 0 is any free one. ``choose`` says how another port is chosen.

    Raises
    ------
    ServerNotStarted
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ServerNotStarted(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another {choose}", host=host, port=port
        ) from error


@contextmanager
def checked_tls(certificate: str | Path | None, key: str | Path | None) -> Iterator[None]:
    """Around what loads a certificate and its key.

    Raises
    ------
    ServerNotStarted
    """
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        raise ServerNotStarted(
            f"the TLS certificate {certificate} and key {key} cannot be used: {error}", certificate=str(certificate)
        ) from error
