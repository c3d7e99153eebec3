"""Settings of the server: the one module beside ``tools.py`` that reads the environment.

Every field can be set as ``GATESMITH_`` and its name in capitals: ``GATESMITH_HTTP_PORT=9000``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from gatesmith.errors import ServerNotStarted

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How the server listens and what it takes.

    Parameters
    ----------
    host : str
        Address to listen on; only this machine by default, because there is no authentication yet.
    http_port : int
        0 means any free one.
    body_limit_bytes : int
        Largest request body; numbers in JSON take up to 20 times their text in memory while they are read.
    body_timeout_s : float
        How long a client may take to send a body.
    max_batch : int
        Most samples of different requests that one device call combines.
    max_waiting : int
        Most samples that may wait for a device; beyond, requests are refused as overload.
    grace_s : int
        How long requests in flight may take to end when the server is told to stop.
    """

    host: str = "127.0.0.1"
    http_port: int = 8080
    body_limit_bytes: int = 16 << 20
    body_timeout_s: float = 30.0
    max_batch: int = 256
    max_waiting: int = 65_536
    grace_s: int = 20

    def __post_init__(self) -> None:
        _bounded("http_port", self.http_port, 0, 65_535)
        _bounded("body_limit_bytes", self.body_limit_bytes, 1, 1 << 32)
        _bounded("body_timeout_s", self.body_timeout_s, 0.001, 86_400)
        _bounded("max_batch", self.max_batch, 1, 1 << 20)
        _bounded("max_waiting", self.max_waiting, 1, 1 << 30)
        _bounded("grace_s", self.grace_s, 0, 86_400)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Settings from ``GATESMITH_...`` variables, and defaults for the rest.

        Raises
        ------
        ServerNotStarted
            When a variable is not a number or is out of range.
        """
        given = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        for field in fields(cls):
            text = given.get(f"GATESMITH_{field.name.upper()}")
            if text is not None:
                values[field.name] = _read(field.name, text, type(field.default))
        return cls(**values)


def _read(name: str, text: str, kind: type) -> str | int | float:
    try:
        value: str | int | float = kind(text)
    except ValueError:
        raise ServerNotStarted(f"GATESMITH_{name.upper()} is {text!r}, a number is needed", setting=name) from None
    return value


def _bounded(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ServerNotStarted(
            f"setting {name} is {value}, {low:g} to {high:g} are possible; check GATESMITH_{name.upper()}", setting=name
        )
