"""What a registry answered, and the error that an answer stands for."""

# Ref: OCI distribution-spec 1.1 "Error Codes": {"errors": [{"code", "message", "detail"}]}

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from gatesmith.errors import ArtifactNotFound, AuthenticationFailed, GatesmithError, RegistryRefused

__all__ = ["Answer", "plain", "refusal"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A status, headers with names in lower case, and content as far as it was read."""

    status: int
    url: str
    headers: Mapping[str, str]
    content: bytes = b""

    @property
    def size(self) -> int | None:
        """The announced length of the content."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def refusal(registry: str, answer: Answer, what: str = "") -> GatesmithError:
    """The error that an answer stands for; ``what`` was asked for."""
    words = _words(answer.content)
    subject = f"registry {registry} answers {answer.status}{f' for {what}' if what else ''}"
    text = f"{subject}{f': {words}' if words else ''}"
    if answer.status in {401, 403}:
        return AuthenticationFailed(f"{text}; log in with 'docker login' or 'skopeo login'", status=answer.status)
    if answer.status == 404:
        return ArtifactNotFound(text, status=404)
    if "retry-after" in answer.headers:
        text += f"; it asks to wait {plain(answer.headers['retry-after'])[:40]}"
    return RegistryRefused(text, status=answer.status)


def _words(content: bytes) -> str:
    """What a registry says about an error, as text that is safe to show."""
    try:
        error = json.loads(content)["errors"][0]
        text = f"{error.get('code', '')} {error.get('message', '')}"
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        text = ""
    return plain(text)


def plain(text: str) -> str:
    """Text from elsewhere, as one short line that is safe to show."""
    return " ".join("".join(c if c.isascii() and c.isprintable() else " " for c in text).split())[:200]
