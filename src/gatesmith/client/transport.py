"""The seam between the client and how it reaches a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from gatesmith.errors import ServerUnreachable

__all__ = ["Arrays", "Input", "Request", "Transport", "unreadable_authority"]

Arrays = dict[str, NDArray[Any]]


class Input(NamedTuple):
    """One tensor, in the dtype that its datatype has."""

    name: str
    datatype: str
    array: NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One inference."""

    model: str
    version: str | None
    inputs: Sequence[Input]
    outputs: Sequence[str]
    priority: int
    timeout_us: int


def unreadable_authority(path: str, error: OSError) -> ServerUnreachable:
    """The error for certificates that cannot be read."""
    why = error.strerror or str(error)
    return ServerUnreachable(f"the certificates in {path!r} cannot be used: {why}; a PEM file is needed", path=path)


class Transport(Protocol):
    """One way to a server. Every method may be called by several threads at once, takes at most ``timeout_s``, and
    raises a ``GatesmithError`` that says what the server said."""

    def infer(self, request: Request, timeout_s: float) -> Arrays:
        """Run a model."""

    def server(self, timeout_s: float) -> dict[str, Any]:
        """The server's metadata."""

    def model(self, name: str, version: str | None, timeout_s: float) -> dict[str, Any]:
        """A model's metadata."""

    def ready(self, name: str | None, version: str | None, timeout_s: float) -> bool:
        """Whether a model, or with no name every model, can answer."""

    def load(self, name: str, parameters: Mapping[str, Any], timeout_s: float) -> None:
        """Make a model ready."""

    def unload(self, name: str, timeout_s: float) -> None:
        """Take a model off its devices."""

    def index(self, ready_only: bool, timeout_s: float) -> list[dict[str, Any]]:
        """What the repository holds."""

    def statistics(self, name: str | None, version: str | None, timeout_s: float) -> list[dict[str, Any]]:
        """Counters of one model, or of all."""

    def close(self) -> None:
        """Give connections back."""
