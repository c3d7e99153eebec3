"""Signatures of a manifest in a store: bundles that refer to it, and whether a trusted key made one of them."""

# Ref: cosign 3 bundle storage: artifactType and layer of the bundle's type, annotations dev.sigstore.bundle.*

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gatesmith.artifact import media_types
from gatesmith.artifact.descriptor import Descriptor
from gatesmith.artifact.dsse import SIGNED_IMAGE, sign_statement, statement_of, verify_bundle
from gatesmith.artifact.layout import Layout
from gatesmith.artifact.manifest import Packed
from gatesmith.artifact.pointers import parse_pointers
from gatesmith.artifact.referrer import pack_referrer
from gatesmith.errors import ArtifactError, SignatureInvalid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

__all__ = ["check_signed", "pack_bundle", "pack_signature"]

_CONTENT, _PREDICATE_TYPE = "dev.sigstore.bundle.content", "dev.sigstore.bundle.predicateType"
_MOST_BUNDLES = 64


def pack_signature(manifest: Descriptor, key: EllipticCurvePrivateKey) -> Packed:
    """A signature of a manifest or index, as a referrer of it."""
    return pack_bundle(manifest, statement_of(manifest.digest, predicate_type=SIGNED_IMAGE, predicate={}), key)


def pack_bundle(manifest: Descriptor, statement: bytes, key: EllipticCurvePrivateKey) -> Packed:
    """A signed statement about a manifest or index, as a referrer of it."""
    kind = str(json.loads(statement)["predicateType"])
    return pack_referrer(
        manifest,
        media_types.BUNDLE,
        sign_statement(statement, key),
        annotations={_CONTENT: "dsse-envelope", _PREDICATE_TYPE: kind},
    )


def check_signed(layout: Layout, digest: str, keys: Sequence[EllipticCurvePublicKey], *, what: str) -> None:
    """See that one of the keys signed a manifest or index.

    Parameters
    ----------
    what : str
        What the digest is of, for the error.

    Raises
    ------
    SignatureInvalid
        When nobody did; where there are signatures, with what is wrong with the last one.
    """
    wrong = ""
    for bundle in _bundles(layout, digest):
        try:
            statement = verify_bundle(bundle, keys, digest=digest)
        except SignatureInvalid as error:
            wrong = str(error)
            continue
        if statement.get("predicateType") == SIGNED_IMAGE:
            return
        wrong = wrong or "only statements about it are signed, not it itself"
    raise SignatureInvalid(
        f"{what} is not signed{' by a trusted key' if wrong else ''}{wrong and f': {wrong}'}", digest=digest
    )


def _bundles(layout: Layout, digest: str) -> Iterator[bytes]:
    """Bundles that refer to a manifest; what cannot be read is no signature."""
    for referrer in layout.referrers(digest)[:_MOST_BUNDLES]:
        try:
            pointers = parse_pointers(referrer.media_type, layout.fetch(referrer))
            layers = [blob for blob in pointers.blobs if blob.media_type == media_types.BUNDLE]
            contents = [layout.fetch(layer) for layer in layers]
        except ArtifactError:
            continue
        yield from contents
