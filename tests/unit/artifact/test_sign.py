from __future__ import annotations

import base64
import json
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from firmwares import tiny_firmware
from requirements import require

from gatesmith.artifact import media_types
from gatesmith.artifact.descriptor import canonical_json
from gatesmith.artifact.dsse import SIGNED_IMAGE, key_hint, sign_statement, statement_of, verify_bundle
from gatesmith.artifact.keys import generate_key, read_private_key, read_public_key
from gatesmith.artifact.manifest import firmware_digest
from gatesmith.artifact.pointers import parse_pointers
from gatesmith.artifact.sign import sign_artifact, verify_artifact
from gatesmith.artifact.signatures import pack_bundle
from gatesmith.artifact.store import Store
from gatesmith.errors import SignatureInvalid, StoreWriteFailed

ICE, ECP5 = tiny_firmware(), tiny_firmware(board="ulx3s", family="ecp5")
DIGEST, OTHER = "sha256:" + "12" * 32, "sha256:" + "34" * 32
Bundle = dict[str, Any]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    private = tmp_path_factory.mktemp("keys") / "lab.pem"
    return private, generate_key(private)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.save("iris:v1", [ICE, ECP5])
    return store


def made(pair: tuple[Path, Path], statement: bytes | None = None) -> Bundle:
    statement = statement or statement_of(DIGEST, predicate_type=SIGNED_IMAGE, predicate={})
    bundle: Bundle = json.loads(sign_statement(statement, read_private_key(pair[0])))
    return bundle


def test_a_bundle_is_verified(pair: tuple[Path, Path]) -> None:
    statement = verify_bundle(canonical_json(made(pair)), [read_public_key(pair[1])], digest=DIGEST)
    assert statement["subject"] == [{"digest": {"sha256": "12" * 32}}]


def test_openssl_verifies_the_signature_over_the_envelope(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """The bytes that are signed are written here from the DSSE specification, not taken from the code."""
    require("openssl")
    envelope = made(pair)["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    kind = b"application/vnd.in-toto+json"
    signed = b"DSSEv1 " + str(len(kind)).encode() + b" " + kind + b" " + str(len(payload)).encode() + b" " + payload
    (tmp_path / "signed").write_bytes(signed)
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    command = ["openssl", "dgst", "-sha256", "-verify", str(pair[1]), "-signature", "sig", "signed"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout == b"Verified OK\n"


def resigned(pair: tuple[Path, Path], **changes: Any) -> Bundle:
    statement = json.loads(statement_of(DIGEST, predicate_type=SIGNED_IMAGE, predicate={}))
    return made(pair, canonical_json({**statement, **changes}))


def changed(bundle: Bundle, *path: str | int, to: object) -> Bundle:
    place: Any = bundle
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return bundle


HOSTILE: dict[str, tuple[Callable[[tuple[Path, Path]], Bundle], str]] = {
    "payload": (
        lambda p: changed(
            made(p), "dsseEnvelope", "payload",
            to=base64.b64encode(statement_of(DIGEST, predicate_type=SIGNED_IMAGE, predicate={"a": 1})).decode(),
        ),
        "does not fit its payload",
    ),
    "signature": (
        lambda p: changed(made(p), "dsseEnvelope", "signatures", 0, "sig", to=base64.b64encode(b"0" * 70).decode()),
        "does not fit its payload",
    ),
    "swapped": (
        lambda p: changed(
            made(p), "dsseEnvelope", "signatures",
            to=made(p, statement_of(OTHER, predicate_type=SIGNED_IMAGE, predicate={}))["dsseEnvelope"]["signatures"],
        ),
        "does not fit its payload",
    ),
    "other digest": (
        lambda p: made(p, statement_of(OTHER, predicate_type=SIGNED_IMAGE, predicate={})), "about .*3434.*, not about"
    ),
    "two subjects": (
        lambda p: resigned(p, subject=[{"digest": {"sha256": "12" * 32}}, {"digest": {"sha256": "34" * 32}}]),
        "about 2 subjects, one is needed",
    ),
    "no subject": (lambda p: resigned(p, subject=[]), "about 0 subjects"),
    "subject of another kind": (lambda p: resigned(p, subject=["12" * 32]), "is about None"),
    "sha512": (lambda p: resigned(p, subject=[{"digest": {"sha512": "12" * 64}}]), "not about sha256:12"),
    "old statement": (
        lambda p: resigned(p, _type="https://in-toto.io/Statement/v0.1"), "over something else than an in-toto"
    ),
    "payload type": (
        lambda p: changed(made(p), "dsseEnvelope", "payloadType", to="text/plain"), "payload of type 'text/plain'"
    ),
    "two signatures": (
        lambda p: changed(made(p), "dsseEnvelope", "signatures", to=made(p)["dsseEnvelope"]["signatures"] * 2),
        "does not hold one signature",
    ),
    "no signature": (lambda p: changed(made(p), "dsseEnvelope", "signatures", to=[]), "does not hold one signature"),
    "empty signature": (
        lambda p: changed(made(p), "dsseEnvelope", "signatures", 0, "sig", to=""), "does not fit its payload"
    ),
    "base64": (lambda p: changed(made(p), "dsseEnvelope", "payload", to="!!"), "payload is not base64"),
    "certificate": (
        lambda p: changed(made(p), "verificationMaterial", to={"certificate": {"rawBytes": ""}}),
        "not made with a key pair",
    ),
    "message signature": (lambda p: changed(made(p), "dsseEnvelope", to=None), "no DSSE envelope"),
    "bundle version": (
        lambda p: changed(made(p), "mediaType", to="application/vnd.dev.sigstore.bundle+json;version=0.1"),
        "signature is a .*version=0.1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bundles_are_refused(pair: tuple[Path, Path], name: str) -> None:
    make, words = HOSTILE[name]
    with pytest.raises(SignatureInvalid, match=words) as caught:
        verify_bundle(canonical_json(make(pair)), [read_public_key(pair[1])], digest=DIGEST)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b" " * (2 << 20)])
def test_what_is_no_bundle_is_refused(pair: tuple[Path, Path], content: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        verify_bundle(content, [read_public_key(pair[1])], digest=DIGEST)


def test_a_payload_type_that_was_signed_is_no_way_around(pair: tuple[Path, Path]) -> None:
    """The type is part of what is signed, so announcing the right one for another payload breaks the signature."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    payload = statement_of(DIGEST, predicate_type=SIGNED_IMAGE, predicate={})
    signed = b"DSSEv1 10 text/plain %d %s" % (len(payload), payload)
    signature = read_private_key(pair[0]).sign(signed, ec.ECDSA(SHA256()))
    bundle = changed(made(pair), "dsseEnvelope", "signatures", 0, "sig", to=base64.b64encode(signature).decode())
    with pytest.raises(SignatureInvalid, match="does not fit"):
        verify_bundle(canonical_json(bundle), [read_public_key(pair[1])], digest=DIGEST)


def test_another_key_is_told(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = generate_key(tmp_path / "other.pem")
    hint = key_hint(read_public_key(pair[1]))
    with pytest.raises(SignatureInvalid, match="made with another key") as caught:
        verify_bundle(canonical_json(made(pair)), [read_public_key(other)], digest=DIGEST)
    assert hint in str(caught.value)


def test_every_firmware_and_the_index_are_signed(store: Store, pair: tuple[Path, Path]) -> None:
    signed = sign_artifact(store, "iris:v1", read_private_key(pair[0]))
    assert [one.board for one in signed] == ["icebreaker", "ulx3s", ""]
    assert {one.digest for one in signed} == {firmware_digest(ICE), firmware_digest(ECP5), store.resolve("iris:v1")}
    assert verify_artifact(store, "iris:v1", [read_public_key(pair[1])]) == signed
    assert [s.board for s in verify_artifact(store, "iris:v1", [read_public_key(pair[1])], board="ulx3s")] == ["ulx3s"]


def test_signing_twice_changes_nothing(store: Store, pair: tuple[Path, Path]) -> None:
    key = read_private_key(pair[0])
    sign_artifact(store, "iris:v1", key)
    before = (store.layout.path / "index.json").read_bytes()
    sign_artifact(store, "iris:v1", key)
    assert (store.layout.path / "index.json").read_bytes() == before


def test_referrers_are_what_cosign_stores(store: Store, pair: tuple[Path, Path]) -> None:
    sign_artifact(store, "iris:v1", read_private_key(pair[0]))
    kinds = {}
    for referrer in store.layout.referrers(firmware_digest(ICE)):
        manifest = json.loads(store.layout.fetch(referrer))
        assert manifest["subject"]["digest"] == firmware_digest(ICE)
        assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
        annotations = manifest.get("annotations", {})
        kinds[manifest["artifactType"], annotations.get("dev.sigstore.bundle.predicateType", "")] = manifest
    bundle = "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert set(kinds) == {
        (bundle, "https://sigstore.dev/cosign/sign/v1"),
        (bundle, "https://slsa.dev/provenance/v1"),
        (bundle, "https://cyclonedx.org/bom"),
        ("application/vnd.in-toto+json", ""),
        ("application/vnd.cyclonedx+json", ""),
    }
    assert kinds[bundle, SIGNED_IMAGE]["annotations"]["dev.sigstore.bundle.content"] == "dsse-envelope"


def test_signatures_outlive_clean_up_and_go_with_the_firmware(store: Store, pair: tuple[Path, Path]) -> None:
    sign_artifact(store, "iris:v1", read_private_key(pair[0]))
    store.layout.collect()
    keys = [read_public_key(pair[1])]
    verify_artifact(store, "iris:v1", keys)
    store.save("iris:v1", [tiny_firmware(seed=1)])  # another index, another firmware for one board
    assert [one.board for one in verify_artifact(store, "iris:v1", keys, board="ulx3s")] == ["ulx3s"]
    with pytest.raises(SignatureInvalid, match="firmware for icebreaker, is not signed"):
        verify_artifact(store, "iris:v1", keys)
    store.remove("iris:v1")
    assert list((store.layout.path / "blobs" / "sha256").iterdir()) == []


def test_a_signature_of_another_firmware_does_not_count(store: Store, pair: tuple[Path, Path]) -> None:
    """A bundle is copied from one firmware to another: the reference says so, the statement does not."""
    key = read_private_key(pair[0])
    manifests = {m.annotations["dev.gatesmith.board"]: m for m in store.manifests(store.layout.names()["iris:v1"])}
    statement = statement_of(manifests["ulx3s"].digest, predicate_type=SIGNED_IMAGE, predicate={})
    swapped = pack_bundle(manifests["icebreaker"], statement, key)
    for descriptor, content in swapped.blobs:
        store.layout.put(descriptor, content)
    store.layout.attach(swapped.descriptor, manifests["icebreaker"].digest)
    with pytest.raises(SignatureInvalid, match=r"firmware for icebreaker, is not signed by a trusted key: .* about"):
        verify_artifact(store, "iris:v1", [read_public_key(pair[1])])


def test_a_signed_claim_is_no_signature(store: Store, pair: tuple[Path, Path]) -> None:
    """Who signed that a firmware was built with some tools did not say that it may be loaded."""
    manifest = store.manifests(store.layout.names()["iris:v1"])[0]
    statement = statement_of(manifest.digest, predicate_type="https://slsa.dev/provenance/v1", predicate={})
    packed = pack_bundle(manifest, statement, read_private_key(pair[0]))
    for descriptor, content in packed.blobs:
        store.layout.put(descriptor, content)
    store.layout.attach(packed.descriptor, manifest.digest)
    with pytest.raises(SignatureInvalid, match="only statements about it are signed"):
        verify_artifact(store, "iris:v1", [read_public_key(pair[1])])


def test_a_damaged_signature_does_not_hide_a_good_one(store: Store, pair: tuple[Path, Path]) -> None:
    sign_artifact(store, "iris:v1", read_private_key(pair[0]))
    for referrer in store.layout.referrers(firmware_digest(ICE)):
        (layer,) = [b for b in parse_pointers(referrer.media_type, store.layout.fetch(referrer)).blobs if b.size != 2]
        content = store.layout.fetch(layer)
        if layer.media_type == media_types.BUNDLE and SIGNED_IMAGE.encode() not in base64.b64decode(
            json.loads(content)["dsseEnvelope"]["payload"]
        ):
            (store.layout.path / "blobs" / "sha256" / layer.digest.removeprefix("sha256:")).write_bytes(b"x")
    verify_artifact(store, "iris:v1", [read_public_key(pair[1])])


def test_keys_are_for_their_owner_and_never_written_over(pair: tuple[Path, Path]) -> None:
    assert stat.S_IMODE(pair[0].stat().st_mode) == 0o600
    assert pair[0].read_text().startswith("-----BEGIN PRIVATE KEY-----")
    before = pair[0].read_bytes()
    with pytest.raises(StoreWriteFailed, match="exists"):
        generate_key(pair[0])
    assert pair[0].read_bytes() == before


def test_other_keys_are_refused(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    require("openssl")

    def openssl(*arguments: str) -> Path:
        subprocess.run(["openssl", *arguments, "-out", "key"], cwd=tmp_path, capture_output=True, check=True)
        return tmp_path / "key"

    with pytest.raises(SignatureInvalid, match="not ECDSA on P-256"):
        read_private_key(openssl("genpkey", "-algorithm", "ed25519"))
    with pytest.raises(SignatureInvalid, match="not ECDSA on P-256"):
        read_private_key(openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"))
    encrypted = openssl("pkcs8", "-topk8", "-in", str(pair[0]), "-passout", "pass:x")
    with pytest.raises(SignatureInvalid, match="is encrypted"):
        read_private_key(encrypted)
    with pytest.raises(SignatureInvalid, match="is not a private key"):
        read_private_key(pair[1])
    with pytest.raises(SignatureInvalid, match="is not a public key"):
        read_public_key(pair[0])
    with pytest.raises(SignatureInvalid, match="cannot be read: No such file"):
        read_public_key(tmp_path / "none")
