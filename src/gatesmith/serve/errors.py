"""The one table from errors to HTTP status codes; a test sees that no leaf of the tree is missing."""

# Ref: RFC 9110 section 15: 4xx is the client's, 5xx the server's; 502, 503, 504
# Ref: Open Inference Protocol v2 "Inference Response JSON Error Object": {"error": string}

from __future__ import annotations

from gatesmith import errors

__all__ = ["STATUS", "http_status"]

STATUS: dict[type[errors.GatesmithError], int] = {
    errors.NotInstalled: 500,
    errors.ServerNotStarted: 500,
    # The firmware that is served was built and stored before: nothing the client sends can cause or cure these.
    errors.ModelError: 500,
    errors.BuildError: 500,
    errors.ArtifactError: 500,
    errors.ArtifactNotFound: 404,
    errors.RegistryRefused: 502,
    errors.RegistryUnreachable: 502,
    errors.DeviceError: 500,
    errors.DeviceNotFound: 503,
    errors.DeviceBusy: 503,
    errors.DeviceTimeout: 504,
    errors.FrameCorrupt: 502,
    errors.FirmwareMismatch: 503,
    errors.InferenceError: 400,
    errors.ModelNotFound: 404,
    errors.ModelNotReady: 503,
    errors.TensorMismatch: 400,
    errors.Overloaded: 503,
}
"""An error has the status of its class, or else that of its family."""


def http_status(error: errors.GatesmithError) -> int:
    """The status code that tells a client what kind of failure this is."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
