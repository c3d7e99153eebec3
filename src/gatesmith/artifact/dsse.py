"""A statement about content, signed: a sigstore bundle that holds a DSSE envelope around an in-toto statement.

The key is ECDSA on P-256, the bundle names it by a digest of its public half. Nothing here needs a network, and no
part of a bundle is believed before its signature was checked; what was signed has to name one digest, the wanted one.
"""

# Ref: sigstore protobuf-specs, sigstore_bundle.proto v0.3: publicKey.hint, dsseEnvelope
# Ref: DSSE protocol.md: PAE = "DSSEv1" SP len SP type SP len SP body; in-toto attestation spec v1, statement.md
# Ref: cosign 3 signs images as a statement of predicate type https://sigstore.dev/cosign/sign/v1

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from gatesmith.artifact import media_types
from gatesmith.artifact.descriptor import canonical_json, parse_json
from gatesmith.errors import ManifestInvalid, NotInstalled, SignatureInvalid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

__all__ = ["SIGNED_IMAGE", "STATEMENT", "key_hint", "need_cryptography", "sign_statement", "statement_of"]
__all__ += ["verify_bundle"]

SIGNED_IMAGE: Final = "https://sigstore.dev/cosign/sign/v1"
STATEMENT: Final = "https://in-toto.io/Statement/v1"
_LARGEST_BUNDLE_BYTES = 1 << 20


def need_cryptography() -> None:
    """Say how to get the package that signs, when it is missing.

    Raises
    ------
    NotInstalled
    """
    if importlib.util.find_spec("cryptography") is None:
        raise NotInstalled("cryptography", "pip install 'gatesmith[sign]'")


def statement_of(digest: str, *, predicate_type: str, predicate: Mapping[str, Any], name: str = "") -> bytes:
    """An in-toto statement about one piece of content."""
    subject: dict[str, Any] = {"digest": {"sha256": digest.removeprefix("sha256:")}}
    if name:
        subject["name"] = name
    statement = {"_type": STATEMENT, "subject": [subject], "predicateType": predicate_type, "predicate": predicate}
    return canonical_json(statement)


def sign_statement(statement: bytes, key: EllipticCurvePrivateKey) -> bytes:
    """The bundle of a statement; the same one again where OpenSSL signs deterministically (RFC 6979, since 3.2)."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    signed = _encoded(media_types.IN_TOTO, statement)
    try:
        signature = key.sign(signed, ec.ECDSA(SHA256(), deterministic_signing=True))
    except UnsupportedAlgorithm:
        signature = key.sign(signed, ec.ECDSA(SHA256()))
    envelope = {
        "payload": _base64(statement),
        "payloadType": media_types.IN_TOTO,
        "signatures": [{"sig": _base64(signature)}],
    }
    material = {"publicKey": {"hint": key_hint(key.public_key())}}
    return canonical_json({"mediaType": media_types.BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope})


def verify_bundle(bundle: bytes, keys: Sequence[EllipticCurvePublicKey], *, digest: str) -> dict[str, Any]:
    """The statement in a bundle, once one of the keys signed it and it is about this digest alone.

    Raises
    ------
    SignatureInvalid
        With what is wrong with it.
    """
    try:
        envelope, hint = _opened(bundle)
        payload = _bytes(envelope, "payload")
        if (kind := envelope.get("payloadType")) != media_types.IN_TOTO:
            raise SignatureInvalid(f"signature is over a payload of type {kind!r:.80}, {media_types.IN_TOTO} is read")
        signatures = envelope.get("signatures")
        if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
            raise SignatureInvalid("signature's envelope does not hold one signature")
        _check(payload, _bytes(signatures[0], "sig"), keys, hint)
        statement = parse_json(payload, "signed statement")
    except ManifestInvalid as error:
        raise SignatureInvalid(f"signature cannot be read: {error}") from error
    _check_subject(statement, digest)
    return statement


def key_hint(key: EllipticCurvePublicKey) -> str:
    """How a bundle names a key."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return _base64(hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest())


def _opened(bundle: bytes) -> tuple[dict[str, Any], str]:
    if len(bundle) > _LARGEST_BUNDLE_BYTES:
        raise SignatureInvalid(f"signature has {len(bundle)} bytes, {_LARGEST_BUNDLE_BYTES} are read")
    data = parse_json(bundle, "bundle")
    if (kind := data.get("mediaType")) != media_types.BUNDLE:
        raise SignatureInvalid(f"signature is a {kind!r:.80}, {media_types.BUNDLE} is read")
    envelope, material = data.get("dsseEnvelope"), data.get("verificationMaterial")
    if not isinstance(envelope, dict) or not isinstance(material, dict):
        raise SignatureInvalid("signature holds no DSSE envelope and material to verify it with")
    public_key = material.get("publicKey")
    if not isinstance(public_key, dict):
        raise SignatureInvalid("signature was not made with a key pair; only those are checked")
    return envelope, str(public_key.get("hint", ""))


def _check(payload: bytes, signature: bytes, keys: Sequence[EllipticCurvePublicKey], hint: str) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    for key in keys:
        try:
            key.verify(signature, _encoded(media_types.IN_TOTO, payload), ec.ECDSA(SHA256()))
        except InvalidSignature:
            continue
        return
    if hint and hint not in [key_hint(key) for key in keys]:
        raise SignatureInvalid(f"signature was made with another key ({hint:.44}) than the {len(keys)} trusted")
    raise SignatureInvalid("signature does not fit its payload; the payload or the signature was changed")


def _check_subject(statement: Mapping[str, Any], digest: str) -> None:
    subjects = statement.get("subject")
    if statement.get("_type") != STATEMENT or not isinstance(subjects, list):
        raise SignatureInvalid(f"signature is over something else than an in-toto statement ({STATEMENT})")
    if len(subjects) != 1:
        raise SignatureInvalid(f"signed statement is about {len(subjects)} subjects, one is needed")
    named = subjects[0].get("digest") if isinstance(subjects[0], dict) else None
    if not isinstance(named, dict) or f"sha256:{named.get('sha256')}" != digest:
        raise SignatureInvalid(f"signature is about {named!r:.100}, not about {digest}", digest=digest)


def _encoded(kind: str, payload: bytes) -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(data: Mapping[str, Any], key: str) -> bytes:
    try:
        return base64.b64decode(data[key], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise SignatureInvalid(f"signature's {key} is not base64") from error
