"""Signing an artifact in the local store: every firmware, what is claimed of it, and the index over them.

Firmwares are signed one by one because an index changes whenever a board is added, and because old copying tools
rewrite it; their signatures stay good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatesmith.artifact.descriptor import Descriptor
from gatesmith.artifact.dsse import statement_of
from gatesmith.artifact.manifest import BOARD, Packed
from gatesmith.artifact.provenance import BILL_OF_MATERIALS, PROVENANCE, bill_of_materials, provenance
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.signatures import check_signed, pack_bundle, pack_signature
from gatesmith.artifact.store import Store

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

__all__ = ["Signed", "sign_artifact", "verify_artifact"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Signed:
    """One thing that is signed: a firmware with its board, or the index, without one."""

    digest: str
    board: str = ""

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return {"digest": self.digest, "board": self.board}


def sign_artifact(store: Store, reference: str, key: EllipticCurvePrivateKey) -> list[Signed]:
    """Sign an artifact; doing it again with the same key changes nothing.

    Raises
    ------
    ArtifactNotFound, DigestMismatch, ManifestInvalid, StoreWriteFailed
    """
    signed = []
    with store.layout.session(writing=True):
        for manifest in _signable(store, reference):
            board = manifest.annotations.get(BOARD, "")
            claims = list(_claims(store, manifest, key)) if board else []
            for packed in (pack_signature(manifest, key), *claims):
                for descriptor, content in packed.blobs:
                    store.layout.put(descriptor, content)
                store.layout.attach(packed.descriptor, manifest.digest)
            signed.append(Signed(digest=manifest.digest, board=board))
    return signed


def verify_artifact(
    store: Store, reference: str, keys: Sequence[EllipticCurvePublicKey], *, board: str | None = None
) -> list[Signed]:
    """See that every firmware and the index, or one board's firmware alone, are signed by one of the keys.

    Raises
    ------
    SignatureInvalid
        At the first that is not.
    ArtifactNotFound, DigestMismatch, ManifestInvalid
    """
    with store.layout.session():
        found = [m for m in _signable(store, reference) if board is None or m.annotations.get(BOARD) == board]
        for manifest in found:
            name = manifest.annotations.get(BOARD, "")
            what = f"{reference}, firmware for {name}," if name else f"{reference}, index {manifest.digest[:19]},"
            check_signed(store.layout, manifest.digest, keys, what=what)
    return [Signed(digest=manifest.digest, board=manifest.annotations.get(BOARD, "")) for manifest in found]


def _signable(store: Store, reference: str) -> list[Descriptor]:
    top = store.layout.resolve(Reference.parse(reference))
    return [*(m for m in store.manifests(top) if m.digest != top.digest), top]


def _claims(store: Store, manifest: Descriptor, key: EllipticCurvePrivateKey) -> Iterator[Packed]:
    firmware = store.read(manifest)
    claims = {PROVENANCE: provenance(firmware), BILL_OF_MATERIALS: bill_of_materials(firmware, manifest.digest)}
    for kind, predicate in claims.items():
        statement = statement_of(manifest.digest, predicate_type=kind, predicate=predicate, name=firmware.board)
        yield pack_bundle(manifest, statement, key)
