"""Names of artifacts: ``[registry/]repository[:tag][@sha256:...]``.

The first part is a registry when it holds a dot or a colon or is ``localhost``; otherwise the artifact is known to the
local store alone. A name with neither tag nor digest means the tag ``latest``.
"""

# Ref: OCI distribution-spec 1.1 "Pulling manifests": the expressions for <name> and for <reference> as a tag
# Ref: OCI image-spec 1.1 descriptor.md "Digests": sha256 is 64 lower-case hex digits

from __future__ import annotations

import re
from dataclasses import dataclass

from gatesmith.errors import ManifestInvalid

__all__ = ["DIGEST", "TAG", "Reference"]

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_LONGEST = 255
"""Longest registry and repository together, the limit that the distribution specification names for clients."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """The name of an artifact, taken apart.

    Raises
    ------
    ManifestInvalid
        When a part breaks its specification.
    """

    registry: str = ""
    repository: str
    tag: str = ""
    digest: str = ""

    def __post_init__(self) -> None:
        _check("registry", self.registry, _REGISTRY, empty=True)
        _check("repository", self.repository, _REPOSITORY)
        _check("tag", self.tag, TAG, empty=bool(self.digest))
        _check("digest", self.digest, DIGEST, empty=True)
        if len(self.name) > _LONGEST:
            raise ManifestInvalid(
                f"reference name has {len(self.name)} characters, {_LONGEST} are possible", length=len(self.name)
            )

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Take a reference apart.

        Raises
        ------
        ManifestInvalid
            When the text is not a reference.
        """
        rest, _, digest = text.partition("@")
        if "@" in text and not digest:
            raise ManifestInvalid(f"reference {text!r} ends in an empty digest", reference=text)
        first, slash, path = rest.partition("/")
        is_registry = bool(slash) and ("." in first or ":" in first or first == "localhost")
        registry, path = (first, path) if is_registry else ("", rest)
        repository, colon, tag = path.partition(":")
        if colon and not tag:
            raise ManifestInvalid(f"reference {text!r} ends in an empty tag", reference=text)
        return cls(registry=registry, repository=repository, tag=tag or ("" if digest else "latest"), digest=digest)

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}" if self.registry else self.repository

    @property
    def tagged(self) -> str:
        """Registry, repository and tag: the name under which a layout lists the artifact."""
        return f"{self.name}:{self.tag}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{'@' if self.digest else ''}{self.digest}"


def _check(part: str, text: str, expression: re.Pattern[str], *, empty: bool = False) -> None:
    if (empty and not text) or expression.fullmatch(text):
        return
    raise ManifestInvalid(
        f"{part} {text!r} is not valid; a reference is written [registry/]repository[:tag][@sha256:...]",
        part=part,
        text=text,
    )
