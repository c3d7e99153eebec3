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

_GRPC_PORT = 8081
_TRUTH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How the server listens, what it takes, and how it shares its devices.

    Parameters
    ----------
    host : str
        Address to listen on; only this machine by default.
    http_port, grpc_port : int
        0 means any free one; -1 for gRPC: no gRPC. With any free one for HTTP, 8081 means the same for gRPC.
    admin_port : int
        Loading, unloading and the like are then answered on this port alone; 0: on the same one.
    admin_token_file : str
        File with the bearer token that these operations need; empty: no token.
    tls_certificate, tls_key : str
        PEM files; both or none.
    body_limit_bytes : int
        Largest request body; numbers in JSON take up to 20 times their text in memory while they are read.
    body_timeout_s : float
        How long a client may take to send a body.
    header_limit_bytes, header_limit_count : int
        Largest head of a request.
    max_batch : int
        Most samples of one device call; requests are combined up to it, larger ones are split.
    max_queue_delay_us : int
        How long a device may wait for a batch to fill; with 0 it takes what queued while it was busy.
    max_waiting : int
        Most samples that may wait for one model; beyond, requests are refused as overload.
    load_on_demand : bool
        Whether the first request for a model of the repository loads it.
    load_wait_s : float
        How long a request may wait until its model is loaded, or has a healthy device again.
    minimum_residency_s : float
        How long a loaded model keeps its device at least when others wait for one.
    replicas : int
        Devices for each model; 0: what is left when each model given at start has one is shared among these.
    devices : str
        Ids of devices, separated by commas, each with ``=BOARD`` where that is needed: what a device plugin gives.
    board : str
        Which firmware devices get that can run any, and what is built for them.
    residents : str
        Folder in which is noted which firmware each device runs; empty: nowhere.
    build_service : str
        URL of a build service that makes firmware where an artifact or a model has none; without one, or with
        ``local``, this machine does, if it has the packages for it.
    build_token_file, build_ca : str
        File with the token for it; PEM file with further certificates to trust.
    build_precision : str
        Of what is built: bits of weights and activations, ``auto`` or ``exact``.
    build_tolerance : float, optional
        Of ``auto``: points of accuracy, agreement or R2 that may be lost.
    follow_s : float
        How often registries are asked whether a tag moved; the new version then takes the old one's place. 0: never.
    fallback : str
        ``emulator``: an emulated device serves when no other is free or healthy. Empty: never.
    device_limit_s : float
        A device call that takes longer is given up, and its device with it.
    program_limit_s : float
        The same for programming one, which for an emulated device may mean to compile it.
    frame_error_limit : float
        Largest share of frames with a wrong check; beyond, a device is taken out and programmed again.
    registry_plain_http : bool
        Reach registries without TLS.
    registry_ca : str
        PEM file with further certificates to trust for registries.
    log_format : str
        ``text`` or ``json``.
    log_requests : bool
        One line for each request.
    traces_endpoint : str
        Where OpenTelemetry spans go (OTLP over HTTP); empty: nowhere.
    grace_s : int
        How long requests in flight may take to end when the server is told to stop.
    drain_s : float
        How long it still takes new requests, being no longer ready, before it stops to listen.
    """

    host: str = "127.0.0.1"
    http_port: int = 8080
    grpc_port: int = _GRPC_PORT
    admin_port: int = 0
    admin_token_file: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    body_limit_bytes: int = 16 << 20
    body_timeout_s: float = 30.0
    header_limit_bytes: int = 65_536
    header_limit_count: int = 100
    max_batch: int = 256
    max_queue_delay_us: int = 0
    max_waiting: int = 65_536
    load_on_demand: bool = False
    load_wait_s: float = 30.0
    minimum_residency_s: float = 5.0
    replicas: int = 0
    devices: str = ""
    board: str = ""
    residents: str = ""
    build_service: str = ""
    build_token_file: str = ""
    build_ca: str = ""
    build_precision: str = "8"
    build_tolerance: float | None = None
    follow_s: float = 0.0
    fallback: str = ""
    device_limit_s: float = 60.0
    program_limit_s: float = 1800.0
    frame_error_limit: float = 0.05
    registry_plain_http: bool = False
    registry_ca: str = ""
    log_format: str = "text"
    log_requests: bool = False
    traces_endpoint: str = ""
    grace_s: int = 20
    drain_s: float = 0.0

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise _impossible(name, value, f"{low:g} to {high:g} are possible")
        if self.http_port == 0 and self.grpc_port == _GRPC_PORT:
            object.__setattr__(self, "grpc_port", 0)
        for name, possible in _CHOICES.items():
            if getattr(self, name) not in possible:
                words = " or ".join(repr(choice) for choice in possible)
                raise _impossible(name, repr(getattr(self, name)), f"{words} is possible")
        if bool(self.tls_certificate) != bool(self.tls_key):
            missing = "tls_key" if self.tls_certificate else "tls_certificate"
            raise _impossible(missing, "empty", "TLS needs a certificate and its key")

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
                values[field.name] = _read(field.name, text, float if field.default is None else type(field.default))
        return cls(**values)


_BOUNDS: dict[str, tuple[float, float]] = {
    "http_port": (0, 65_535),
    "grpc_port": (-1, 65_535),
    "admin_port": (0, 65_535),
    "body_limit_bytes": (1, 1 << 32),
    "body_timeout_s": (0.001, 86_400),
    "header_limit_bytes": (256, 1 << 20),
    "header_limit_count": (1, 10_000),
    "max_batch": (1, 65_536),
    "max_queue_delay_us": (0, 60_000_000),
    "max_waiting": (1, 1 << 30),
    "load_wait_s": (0, 86_400),
    "minimum_residency_s": (0, 86_400),
    "replicas": (0, 1024),
    "follow_s": (0, 86_400),
    "device_limit_s": (0.01, 86_400),
    "program_limit_s": (0.01, 86_400),
    "frame_error_limit": (0, 1),
    "grace_s": (0, 86_400),
    "drain_s": (0, 86_400),
}
_CHOICES = {"fallback": ("", "emulator"), "log_format": ("text", "json")}


def _read(name: str, text: str, kind: type) -> str | int | float:
    if kind is bool:
        if text.lower() not in _TRUTH:
            raise ServerNotStarted(f"GATESMITH_{name.upper()} is {text!r}, true or false is needed", setting=name)
        return _TRUTH[text.lower()]
    try:
        value: str | int | float = kind(text)
    except ValueError:
        raise ServerNotStarted(f"GATESMITH_{name.upper()} is {text!r}, a number is needed", setting=name) from None
    return value


def _impossible(name: str, value: object, needed: str) -> ServerNotStarted:
    return ServerNotStarted(f"setting {name} is {value}, {needed}; check GATESMITH_{name.upper()}", setting=name)
