"""Models under names of the user's choice: ``NAME=TARGET`` on the command line, as a platform calls its services."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from gatesmith.errors import ManifestInvalid, ModelNotFound
from gatesmith.serve.repository import Offer, Source

__all__ = ["RenamedSource", "split_name"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")


class RenamedSource:
    """One model of a source under another name."""

    def __init__(self, name: str, source: Source, original: str) -> None:
        self._name, self._source, self._original = name, source, original

    def names(self) -> Sequence[str]:
        """See :class:`gatesmith.serve.repository.Source`."""
        return [self._name]

    def find(self, name: str, version: str | None, *, fresh: bool) -> Offer:
        """See :class:`gatesmith.serve.repository.Source`."""
        if name != self._name:
            raise ModelNotFound(f"no model {name[:80]!r} is here; the model is {self._name}", model=name)
        return replace(self._source.find(self._original, version, fresh=fresh), name=name)


def split_name(text: str) -> tuple[str, str]:
    """``NAME=TARGET`` in two; the name is empty where none is given.

    Raises
    ------
    ManifestInvalid
    """
    name, equals, target = text.partition("=")
    if not equals or "/" in name or ":" in name:
        return "", text
    if not _NAME.fullmatch(name) or not target:
        raise ManifestInvalid(f"{text!r} names no model; NAME=TARGET is needed, the name of letters, digits, . _ and -")
    return name, target
