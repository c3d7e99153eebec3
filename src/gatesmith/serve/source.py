"""The seam between the server and the places that models come from, and the seam for whoever builds what is missing.

A source knows names, finds a version of one, and reads its firmware for a board; it may block, so it is asked in
threads. A source that has a model and no firmware for any device says :class:`~gatesmith.errors.ArtifactNotFound`; that
is where a :class:`Builder` is asked, if there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gatesmith.artifact.manifest import firmware_digest
from gatesmith.errors import ArtifactNotFound, ModelNotFound
from gatesmith.firmware import Firmware

__all__ = ["Builder", "Offer", "Source", "is_version", "search", "unknown_model"]


def _no_model() -> tuple[str, bytes]:
    raise ArtifactNotFound("there is no trained model here, firmware alone")


def _no_data() -> tuple[str, bytes]:
    return "", b""


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A version of a model that a source has.

    Parameters
    ----------
    tag : str
        What the version is called, or empty.
    reference : str
        Its name for people and builders.
    boards : tuple of str
        Boards that there is firmware for.
    read : callable
        The firmware for a board; may block.
    fits : callable
        Whether a board can run one of the firmwares, by name or because it has the same part and pins.
    model : callable
        Name and content of the trained model's file, for a builder; may block, and raise ArtifactNotFound.
    calibration : callable
        The same of the data that it is calibrated with; both empty where there is none.
    """

    name: str
    tag: str
    reference: str
    boards: tuple[str, ...]
    read: Callable[[str], Firmware]
    fits: Callable[[str], bool]
    model: Callable[[], tuple[str, bytes]] = _no_model
    calibration: Callable[[], tuple[str, bytes]] = _no_data


class Source(Protocol):
    """A place that models come from."""

    def names(self) -> Sequence[str]:
        """Names of the models that it can list without a network; it may have others."""

    def find(self, name: str, version: str | None, *, fresh: bool) -> Offer:
        """A version of a model: a tag, a digest or its first digits; the newest without. May block.

        Parameters
        ----------
        fresh : bool
            Ask the registry again, even if the version is here.

        Raises
        ------
        ModelNotFound, ArtifactError
        """


class Builder(Protocol):
    """Makes firmware for a board when an artifact has none."""

    async def firmware(self, offer: Offer, board: str, progress: Callable[[float], None]) -> Firmware:
        """The firmware, once it is built; ``progress`` is told the share that is done.

        Raises
        ------
        GatesmithError
        """

    async def preview(self, offer: Offer, board: str) -> Firmware:
        """Firmware that an emulated board can run at once: its RTL is proved, and it has no bitstream.

        Raises
        ------
        GatesmithError
        """


def search(sources: Sequence[Source], name: str, version: str | None, *, fresh: bool) -> Offer:
    """A version of a model from the first source that has it.

    Raises
    ------
    ModelNotFound, ArtifactError
    """
    last = unknown_model(name, sorted({each for source in sources for each in source.names()}))
    for source in sources:
        try:
            return source.find(name, version, fresh=fresh)
        except ModelNotFound as error:
            if name in source.names() or not source.names():
                last = error
    raise last


def is_version(firmware: Firmware, version: str) -> bool:
    """Whether a name is that of a firmware's digest, or begins it."""
    return firmware_digest(firmware).removeprefix("sha256:").startswith(version.removeprefix("sha256:"))


def unknown_model(name: str, names: Sequence[str]) -> ModelNotFound:
    """The error for a name that a source does not have."""
    return ModelNotFound(f"no model {name[:80]!r} is served here; the models are {list(names)}", model=name)
