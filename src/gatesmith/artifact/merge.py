"""Changes to an index that leave what others wrote in it as it is: one more board, one more referrer.

Entries are kept as the JSON they came as, because other tools write keys that are not known here. Making the same
change twice gives the same bytes: that is how a writer sees that its change is in.
"""

# Ref: OCI distribution-spec 1.1 "Referrers Tag Schema": what an entry holds

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gatesmith.artifact import media_types
from gatesmith.artifact.descriptor import Descriptor, canonical_json
from gatesmith.artifact.pointers import INDEX_TYPES, parse_bounded, parse_pointers
from gatesmith.errors import ManifestInvalid

__all__ = ["merge_indexes", "with_referrers"]


def merge_indexes(old: bytes | None, new: bytes) -> bytes:
    """The entries of both indexes; where both have one for the same board or platform, the new one.

    Raises
    ------
    ManifestInvalid
        When one of them is not an index.
    """
    if old is None:
        return new
    added = _entries(new)
    replaced = {_key(entry) for entry in added}
    kept = [entry for entry in _entries(old) if _key(entry) not in replaced]
    entries = sorted([*kept, *added], key=lambda entry: (_board(entry), str(entry["digest"])))
    return _written(old, new, entries)


def with_referrers(old: bytes | None, added: Sequence[tuple[Descriptor, bytes]]) -> bytes:
    """A list of referrers with some more entries, each a manifest with its content."""
    entries = _entries(old) if old is not None else []
    there = {entry["digest"] for entry in entries}
    new = [_referrer(descriptor, content) for descriptor, content in added if descriptor.digest not in there]
    return _written(old, b"{}", [*entries, *new]) if new or old is None else old


def _referrer(descriptor: Descriptor, content: bytes) -> dict[str, Any]:
    extra = {
        "artifactType": parse_pointers(descriptor.media_type, content).artifact_type,
        "annotations": json.loads(content).get("annotations"),
    }
    entry = {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}
    return entry | {key: value for key, value in extra.items() if value}


def _entries(content: bytes) -> list[dict[str, Any]]:
    data = parse_bounded(content)
    media_type = data.get("mediaType", media_types.INDEX)
    if media_type not in INDEX_TYPES:
        raise ManifestInvalid(f"a {str(media_type)[:80]} cannot be added to, only an index can")
    parse_pointers(media_type, content)
    return list(data["manifests"])


def _key(entry: dict[str, Any]) -> str:
    """What an index has one entry for: a board, else a platform, else the content itself."""
    if board := _board(entry):
        return f"board {board}"
    return f"platform {json.dumps(entry['platform'], sort_keys=True)}" if entry.get("platform") else entry["digest"]


def _board(entry: dict[str, Any]) -> str:
    from gatesmith.artifact.manifest import BOARD  # brings numpy, which nothing else here needs

    return str((entry.get("annotations") or {}).get(BOARD, ""))


def _written(old: bytes | None, new: bytes, entries: list[dict[str, Any]]) -> bytes:
    top = {**(json.loads(old) if old is not None else {}), **json.loads(new)}
    return canonical_json({**top, "schemaVersion": 2, "mediaType": media_types.INDEX, "manifests": entries})
