"""Key pairs in files: ECDSA on P-256 as plain PEM, which cosign imports and OpenSSL reads.

A private key is written once, readable by its owner alone, and never over another file.
"""

# Ref: RFC 5958 (PKCS#8), RFC 5280 section 4.1.2.7 (SubjectPublicKeyInfo), RFC 7468 (PEM)

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gatesmith.artifact.dsse import need_cryptography
from gatesmith.errors import SignatureInvalid, StoreWriteFailed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

__all__ = ["generate_key", "read_private_key", "read_public_key"]

_LARGEST_KEY_BYTES = 64 << 10


def generate_key(path: Path) -> Path:
    """Make a key pair: the private key at ``path``, the public one beside it.

    Returns
    -------
    Path
        The public key's file: the same name with ``.pub`` for its ending.

    Raises
    ------
    StoreWriteFailed
        When one of the files exists already or cannot be written.
    """
    need_cryptography()
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    if not path.name:
        raise StoreWriteFailed(f"{str(path)!r} is no name for a file; give one, such as signing.key", path=str(path))
    key = ec.generate_private_key(ec.SECP256R1())
    public = path.with_suffix(".pub")
    if public.exists() or public == path:
        raise StoreWriteFailed(
            f"{str(public)!r} exists or is the private key's name; give another name", path=str(path)
        )
    _write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    _write_new(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), mode=0o644)
    return public


def read_private_key(path: Path) -> EllipticCurvePrivateKey:
    """The key to sign with.

    Raises
    ------
    SignatureInvalid
        When there is no such key, or one of another kind.
    """
    need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_content(path), password=None)
    except TypeError as error:
        raise SignatureInvalid(
            f"key {str(path)!r} is encrypted; decrypt it: openssl pkcs8 -in KEY -out PLAIN"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureInvalid(f"{str(path)!r} is not a private key in PEM; see 'gatesmith sign --generate'") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignatureInvalid(f"key {str(path)!r} is not ECDSA on P-256; see 'gatesmith sign --generate'")
    return key


def read_public_key(path: Path) -> EllipticCurvePublicKey:
    """A key to verify with.

    Raises
    ------
    SignatureInvalid
        When there is no such key, or one of another kind.
    """
    need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_content(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureInvalid(f"{str(path)!r} is not a public key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignatureInvalid(f"key {str(path)!r} is not ECDSA on P-256")
    return key


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_KEY_BYTES)
    except OSError as error:
        raise SignatureInvalid(f"key {str(path)!r} cannot be read: {error.strerror}", path=str(path)) from error


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except OSError as error:
        raise StoreWriteFailed(f"key {str(path)!r} cannot be written: {error.strerror}", path=str(path)) from error
