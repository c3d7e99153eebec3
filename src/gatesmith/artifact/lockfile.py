"""``gatesmith.lock``: which digest each name stood for when it was pulled, to keep beside the code that uses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from gatesmith.artifact.descriptor import parse_json
from gatesmith.artifact.durable import becoming, locked
from gatesmith.artifact.reference import DIGEST
from gatesmith.errors import ArtifactNotFound, ManifestInvalid, StoreWriteFailed

__all__ = ["LOCK_FILE", "locked_digest", "record_digest"]

LOCK_FILE: Final = "gatesmith.lock"
_VERSION = 1


def locked_digest(path: Path, reference: str) -> str:
    """The digest that a lock file holds for a reference.

    Raises
    ------
    ArtifactNotFound
        When there is no such file, or the reference is not in it.
    ManifestInvalid
        When the file is damaged.
    """
    digest = _read(path).get(reference)
    if digest is None:
        raise ArtifactNotFound(f"{path} says nothing of {reference}; pull it once without --locked", path=str(path))
    return digest


def record_digest(path: Path, reference: str, digest: str) -> None:
    """Write down what a reference stood for; the rest of the file stays.

    Raises
    ------
    ManifestInvalid, StoreWriteFailed
    """
    if _read(path).get(reference) == digest:
        return
    place = path.absolute()
    if not place.parent.is_dir():
        raise StoreWriteFailed(
            f"{path} cannot be written: there is no such folder; name another place with --lock", path=str(path)
        )
    try:
        with locked(place.parent, exclusive=True):
            references = dict(sorted({**_read(path), reference: digest}.items()))
            content = json.dumps({"version": _VERSION, "references": references}, indent=2) + "\n"
            with becoming(place, place.parent) as file:
                file.write(content.encode())
    except OSError as error:
        raise StoreWriteFailed(
            f"{path} cannot be written: {error.strerror}; name another place with --lock", path=str(path)
        ) from error


def _read(path: Path) -> dict[str, str]:
    try:
        data = parse_json(path.read_bytes(), str(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ManifestInvalid(f"{path} cannot be read: {error.strerror}", path=str(path)) from error
    references = data.get("references")
    if not isinstance(references, dict) or data.get("version") != _VERSION:
        references = {"": ""}
    if not all(isinstance(digest, str) and DIGEST.fullmatch(digest) for digest in references.values()):
        raise ManifestInvalid(f"{path} is not a lock file of version {_VERSION}; remove it", path=str(path))
    return dict(references)
