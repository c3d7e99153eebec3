"""TCP and TLS with an end: no single read, write or handshake goes on past the deadline of its thread.

A server that sends one byte of a header every few seconds would otherwise keep a client for hours, since every one of
those bytes comes in time.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import certifi
import httpcore

from gatesmith.errors import RegistryUnreachable
from gatesmith.tools import proxy_for

__all__ = ["Clock", "make_pool", "trust"]


class Clock:
    """The moment at which the running thread's exchange has to be over."""

    def __init__(self) -> None:
        self._local = threading.local()

    def set(self, seconds: float) -> None:
        """Let the deadline be so far away."""
        self._local.deadline = time.monotonic() + seconds

    def clip(self, timeout: float | None, error: type[Exception]) -> float:
        """A timeout, no longer than what is left."""
        left: float = getattr(self._local, "deadline", float("inf")) - time.monotonic()
        if left <= 0:
            raise error("deadline")
        return left if timeout is None else min(timeout, left)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, clock: Clock) -> None:
        self._inner, self._clock = inner, clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._clock.clip(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._clock.clip(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._clock.clip(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, clock: Clock) -> None:
        self._inner, self._clock = httpcore.SyncBackend(), clock

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = self._clock.clip(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.connect_tcp(host, port, left, local_address, socket_options), self._clock)


def make_pool(scheme: str, host: str, *, context: ssl.SSLContext, clock: Clock) -> httpcore.ConnectionPool:
    """Connections to a host, through the proxy that the environment names for it, if any."""
    options: dict[str, Any] = {
        "ssl_context": context,
        "max_connections": 8,
        "keepalive_expiry": 30.0,
        "network_backend": _Backend(clock),
    }
    proxy = proxy_for(scheme, host)
    if not proxy:
        return httpcore.ConnectionPool(**options)
    url = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise RegistryUnreachable("the proxy in the environment is not an http URL; see http_proxy and https_proxy")
    user = (unquote(url.username).encode(), unquote(url.password or "").encode()) if url.username else None
    place = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
    return httpcore.HTTPProxy(place, proxy_auth=user, **options)


def trust(ca: Path | None) -> ssl.SSLContext:
    """TLS with the machine's roots of trust, and those in a file.

    Raises
    ------
    RegistryUnreachable
        When the file cannot be used.
    """
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    if ca:
        try:
            context.load_verify_locations(ca)
        except OSError as error:  # ssl.SSLError is one
            reason = error.strerror or "it holds no certificate in PEM form"
            raise RegistryUnreachable(f"CA file {str(ca)!r} cannot be used: {reason}", path=str(ca)) from error
    return context
