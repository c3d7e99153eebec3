"""The one table from errors to HTTP status and gRPC code; a test sees that no leaf of the tree is missing."""

# Ref: RFC 9110 section 15: 4xx is the client's, 5xx the server's; 502, 503, 504; RFC 6585 section 4: 429
# Ref: gRPC core statuscodes.md: UNAVAILABLE is what clients may try again, RESOURCE_EXHAUSTED is a full queue
# Ref: Open Inference Protocol v2 "Inference Response JSON Error Object": {"error": string}

from __future__ import annotations

import math

from gatesmith import errors

__all__ = ["STATUS", "grpc_code", "http_status", "retry_after_s"]

_SERVERS = (500, "INTERNAL")

STATUS: dict[type[errors.GatesmithError], tuple[int, str]] = {
    errors.NotInstalled: _SERVERS,
    errors.ServerNotStarted: _SERVERS,
    errors.ServerUnreachable: (502, "UNAVAILABLE"),
    # The firmware that is served was built and stored before: nothing the client sends can cause or cure these.
    errors.ModelError: _SERVERS,
    errors.BuildError: _SERVERS,
    errors.BuildLost: (503, "UNAVAILABLE"),
    errors.QuotaExceeded: (429, "RESOURCE_EXHAUSTED"),
    errors.ArtifactError: _SERVERS,
    errors.ArtifactNotFound: (404, "NOT_FOUND"),
    errors.RegistryRefused: (502, "UNAVAILABLE"),
    errors.RegistryUnreachable: (502, "UNAVAILABLE"),
    errors.DeviceError: _SERVERS,
    errors.DeviceNotFound: (503, "UNAVAILABLE"),
    errors.DeviceBusy: (503, "UNAVAILABLE"),
    # The device's time and not the client's: gRPC's DEADLINE_EXCEEDED would tell clients not to try again.
    errors.DeviceTimeout: (504, "UNAVAILABLE"),
    errors.FrameCorrupt: (502, "UNAVAILABLE"),
    errors.FirmwareMismatch: (503, "UNAVAILABLE"),
    errors.AccessError: (403, "PERMISSION_DENIED"),
    errors.TokenInvalid: (401, "UNAUTHENTICATED"),
    errors.AccessRefused: (403, "PERMISSION_DENIED"),
    errors.InferenceError: (400, "INVALID_ARGUMENT"),
    errors.ModelNotFound: (404, "NOT_FOUND"),
    errors.ModelNotReady: (503, "UNAVAILABLE"),
    errors.TensorMismatch: (400, "INVALID_ARGUMENT"),
    errors.DeadlineExceeded: (504, "DEADLINE_EXCEEDED"),
    errors.Overloaded: (503, "RESOURCE_EXHAUSTED"),
}
"""An error has the codes of its class, or else those of its family."""


def http_status(error: errors.GatesmithError) -> int:
    """The status code that tells a client what kind of failure this is."""
    return _codes(error)[0]


def grpc_code(error: errors.GatesmithError) -> str:
    """The name of the gRPC status code that says the same."""
    return _codes(error)[1]


def retry_after_s(error: errors.GatesmithError) -> int:
    """Whole seconds after which a refused request may be worth another try: the error's own estimate, or one."""
    estimate = error.facts.get("retry_after_s")
    return max(1, math.ceil(estimate)) if isinstance(estimate, int | float) and math.isfinite(estimate) else 1


def _codes(error: errors.GatesmithError) -> tuple[int, str]:
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), _SERVERS)
