"""Every error that gatesmith raises on purpose, in one tree.

The family says where to look, the leaf states a fact with its numbers. A message says what is and what
was needed; a remedy, where there is one, follows a semicolon. Nothing here knows an HTTP or gRPC status:
``serve/errors.py`` maps the tree, and ``cli`` turns it into one line and exit code 1.

::

    GatesmithError                  retryable = False
    ├── NotInstalled                an optional part is missing: name, hint
    ├── ServerNotStarted            an address is in use, or a setting is not valid
    ├── ServerUnreachable           retryable; a server of ours does not answer
    ├── ModelError                  change the model
    │   ├── ModelUnreadable
    │   ├── UnsupportedOperation
    │   ├── AccuracyLost
    │   └── CalibrationNeeded
    ├── BuildError                  change the design or the machine
    │   ├── BoardNotFound
    │   ├── ToolNotFound
    │   ├── ToolFailed
    │   ├── DesignDoesNotFit
    │   ├── TimingNotMet
    │   ├── VerificationFailed
    │   ├── BuildCancelled
    │   ├── BuildLost               retryable
    │   └── QuotaExceeded           retryable
    ├── ArtifactError               it cannot be had or trusted
    │   ├── ArtifactNotFound
    │   ├── ManifestInvalid
    │   ├── DigestMismatch
    │   ├── SignatureInvalid
    │   ├── BitstreamUnsafe
    │   ├── RegistryRefused
    │   ├── RegistryUnreachable     retryable
    │   ├── AuthenticationFailed
    │   ├── LimitExceeded
    │   └── StoreWriteFailed
    ├── DeviceError                 look at the board
    │   ├── DeviceNotFound
    │   ├── DeviceBusy              retryable
    │   ├── DeviceTimeout           retryable
    │   ├── FrameCorrupt            retryable
    │   └── FirmwareMismatch
    ├── AccessError                 ask as somebody else, or elsewhere
    │   ├── TokenInvalid
    │   └── AccessRefused
    └── InferenceError              change the request
        ├── ModelNotFound
        ├── ModelNotReady           retryable
        ├── TensorMismatch
        ├── DeadlineExceeded        retryable
        └── Overloaded              retryable
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AccessError",
    "AccessRefused",
    "AccuracyLost",
    "ArtifactError",
    "ArtifactNotFound",
    "AuthenticationFailed",
    "BitstreamUnsafe",
    "BoardNotFound",
    "BuildCancelled",
    "BuildError",
    "BuildLost",
    "CalibrationNeeded",
    "DeadlineExceeded",
    "DesignDoesNotFit",
    "DeviceBusy",
    "DeviceError",
    "DeviceNotFound",
    "DeviceTimeout",
    "DigestMismatch",
    "FirmwareMismatch",
    "FrameCorrupt",
    "GatesmithError",
    "InferenceError",
    "LimitExceeded",
    "ManifestInvalid",
    "ModelError",
    "ModelNotFound",
    "ModelNotReady",
    "ModelUnreadable",
    "NotInstalled",
    "Overloaded",
    "QuotaExceeded",
    "RegistryRefused",
    "RegistryUnreachable",
    "ServerNotStarted",
    "ServerUnreachable",
    "SignatureInvalid",
    "StoreWriteFailed",
    "TensorMismatch",
    "TimingNotMet",
    "TokenInvalid",
    "ToolFailed",
    "ToolNotFound",
    "UnsupportedOperation",
    "VerificationFailed",
]

Fact = str | int | float | bool | None | list[str]


class GatesmithError(Exception):
    """Root of the tree.

    Parameters
    ----------
    message : str
        One line: what is, what was needed; a remedy after a semicolon.
    **facts
        The numbers and names of the message, for programs; ``--json`` prints them beside it.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **facts: Fact) -> None:
        super().__init__(message)
        self.facts: dict[str, Fact] = facts

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), str(self), self.facts))


def _rebuild(kind: type[GatesmithError], message: str, facts: dict[str, Fact]) -> GatesmithError:
    return kind(message, **facts)


class NotInstalled(GatesmithError):
    """An optional package is missing; the message holds the line that installs it."""

    def __init__(self, name: str, hint: str) -> None:
        super().__init__(f"{name} is not installed; {hint}", name=name, hint=hint)

    def __reduce__(self) -> tuple[object, ...]:
        return (NotInstalled, (self.facts["name"], self.facts["hint"]))


class ServerNotStarted(GatesmithError):
    """The server cannot start: its address is in use, or a setting is not valid."""


class ServerUnreachable(GatesmithError):
    """A server of ours does not answer, or its answer cannot be understood."""

    retryable = True


class ModelError(GatesmithError):
    """The model has to change."""


class ModelUnreadable(ModelError):
    """The model file is missing, damaged, or of a kind that is not read."""


class UnsupportedOperation(ModelError):
    """The model holds an operation that has no exact translation; the message names the node."""


class AccuracyLost(ModelError):
    """Quantisation would lose more than allowed, or a value does not fit its format."""


class CalibrationNeeded(ModelError):
    """Ranges cannot be chosen: no calibration data, or data that cannot be used."""


class BuildError(GatesmithError):
    """The design or the machine has to change."""


class BoardNotFound(BuildError):
    """No board of that name; the message lists near matches."""


class ToolNotFound(BuildError):
    """An external program is missing; the message says how to get it."""


class ToolFailed(BuildError):
    """An external program ended with an error; the message holds its own words."""


class DesignDoesNotFit(BuildError):
    """The part has fewer resources than the design needs."""


class TimingNotMet(BuildError):
    """The achieved clock is below the wanted one."""


class VerificationFailed(BuildError):
    """Two levels of the design gave different integers."""


class BuildCancelled(BuildError):
    """Somebody who may do so ended the build."""


class BuildLost(BuildError):
    """The process or machine that built is gone, or took more than it may; it was tried again as often as allowed."""

    retryable = True


class QuotaExceeded(BuildError):
    """Somebody has as many builds queued or running as they may."""

    retryable = True


class ArtifactError(GatesmithError):
    """The artifact cannot be had or cannot be trusted."""


class ArtifactNotFound(ArtifactError):
    """No artifact, or no firmware in it for this board."""


class ManifestInvalid(ArtifactError):
    """A manifest, config or reference breaks its specification."""


class DigestMismatch(ArtifactError):
    """Bytes do not have the digest or size they were announced with."""


class SignatureInvalid(ArtifactError):
    """A signature is missing or wrong where one is required."""


class BitstreamUnsafe(ArtifactError):
    """A bitstream or HDL holds what the policy refuses: combinational loops, or no way to look; or more than logic."""


class RegistryRefused(ArtifactError):
    """The registry answered with an error."""


class RegistryUnreachable(ArtifactError):
    """No connection, no answer in time, or a connection that broke, after the allowed retries."""

    retryable = True


class AuthenticationFailed(ArtifactError):
    """The registry wants other credentials, or named a host that must not see them."""


class LimitExceeded(ArtifactError):
    """Content is larger, deeper or more than what is accepted."""


class StoreWriteFailed(ArtifactError):
    """The local store could not be written (full disk, permissions)."""


class DeviceError(GatesmithError):
    """Look at the board."""


class DeviceNotFound(DeviceError):
    """No such device, or none that runs this firmware's board."""


class DeviceBusy(DeviceError):
    """Another process holds the device."""

    retryable = True


class DeviceTimeout(DeviceError):
    """The device did not answer in time."""

    retryable = True


class FrameCorrupt(DeviceError):
    """Frames kept failing their check after the allowed retries."""

    retryable = True


class FirmwareMismatch(DeviceError):
    """The device runs another firmware than the one that was asked for."""


class AccessError(GatesmithError):
    """Whoever asks may not do this, here or at all."""


class TokenInvalid(AccessError):
    """The operation needs a token, and the request has none or another one."""


class AccessRefused(AccessError):
    """The operation is not allowed on this address."""


class InferenceError(GatesmithError):
    """The request has to change."""


class ModelNotFound(InferenceError):
    """No model of that name is served here."""


class ModelNotReady(InferenceError):
    """The model is known and cannot answer yet."""

    retryable = True


class TensorMismatch(InferenceError):
    """A tensor's name, datatype, shape or values break the contract."""


class DeadlineExceeded(InferenceError):
    """The request waited longer than it allows; it was not computed."""

    retryable = True


class Overloaded(InferenceError):
    """Too much is waiting already."""

    retryable = True
