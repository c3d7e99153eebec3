"""Descriptors: what a piece of content is, its digest and its size; and the bytes that JSON content has.

All of our JSON is written in one canonical form (sorted keys, no spaces), so equal content has equal digests.
"""

# Ref: OCI image-spec 1.1 descriptor.md

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gatesmith.artifact.reference import DIGEST
from gatesmith.errors import DigestMismatch, ManifestInvalid

__all__ = ["Descriptor", "canonical_json", "digest_of", "parse_json"]

_LARGEST_JSON_BYTES = 4 << 20  # Ref: OCI distribution-spec 1.1 "Pushing Manifests": registries take at least 4 MiB


@dataclass(frozen=True, kw_only=True, slots=True)
class Descriptor:
    """A pointer to content."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not DIGEST.fullmatch(self.digest):
            raise ManifestInvalid(f"digest {self.digest[:80]!r} is not sha256: and 64 hex digits", digest=self.digest)
        if self.size < 0:
            raise ManifestInvalid(f"descriptor of {self.digest} has size {self.size}", size=self.size)

    @classmethod
    def of(cls, media_type: str, content: bytes, *, annotations: Mapping[str, str] | None = None) -> Descriptor:
        """The descriptor of content that is at hand."""
        return cls(media_type=media_type, digest=digest_of(content), size=len(content), annotations=annotations or {})

    @classmethod
    def from_json(cls, data: Any) -> Descriptor:
        """Read back what :meth:`to_json` wrote; unknown keys are ignored, as the specification asks.

        Raises
        ------
        ManifestInvalid
        """
        try:
            size = data["size"]
            if type(size) is not int:
                raise TypeError(f"size {size!r}")
            return cls(
                media_type=_text(data["mediaType"]),
                digest=_text(data["digest"]),
                size=size,
                annotations={_text(k): _text(v) for k, v in (data.get("annotations") or {}).items()},
                platform={_text(k): v for k, v in (data.get("platform") or {}).items() if isinstance(v, str)},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ManifestInvalid(f"descriptor is not valid: {type(error).__name__} {error}") from error

    def to_json(self) -> dict[str, Any]:
        """The object that manifests and indexes hold."""
        data: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            data["annotations"] = dict(self.annotations)
        if self.platform:
            data["platform"] = dict(self.platform)
        return data

    def check(self, content: bytes) -> None:
        """See that content is what this describes.

        Raises
        ------
        DigestMismatch
        """
        # a wrong length is told without hashing
        self.check_sum(len(content), digest_of(content) if len(content) == self.size else "")

    def check_sum(self, size: int, digest: str) -> None:
        """The same, for content that was counted and hashed elsewhere.

        Raises
        ------
        DigestMismatch
        """
        if size != self.size:
            raise DigestMismatch(
                f"content of {self.digest} has {size} bytes, {self.size} were announced; "
                "remove the artifact and fetch or build it again",
                digest=self.digest,
                size=size,
                announced_size=self.size,
            )
        if digest != self.digest:
            raise DigestMismatch(
                f"content of {self.digest} has digest {digest}; remove the artifact and fetch or build it again",
                digest=self.digest,
                found_digest=digest,
            )


def digest_of(content: bytes) -> str:
    """``sha256:`` and the hex digest."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def canonical_json(data: Any) -> bytes:
    """The one way in which this package writes JSON.

    Raises
    ------
    ManifestInvalid
        When a value is not JSON: NaN, infinite, or a kind that JSON lacks.
    """
    try:
        text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError) as error:
        raise ManifestInvalid(f"artifact content cannot be written as JSON: {error}") from error


def parse_json(content: bytes, what: str, *, most_bytes: int = _LARGEST_JSON_BYTES) -> dict[str, Any]:
    """A JSON object from bytes that came from elsewhere.

    Raises
    ------
    ManifestInvalid
        When it is larger than 4 MiB, or what is said instead, is not JSON, is nested too deeply, or is not an object.
    """
    if len(content) > most_bytes:
        raise ManifestInvalid(f"{what} has {len(content)} bytes, {most_bytes} are read", size=len(content))
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(f"{what} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ManifestInvalid(f"{what} is not a JSON object")
    return data


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value
