"""Artifacts go to a real registry and come back, beside an independent client."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from firmwares import tiny_firmware
from registries import HTPASSWD, PASSWORD, USER, RealRegistry, artifact, document, make_certificates, real_registry
from registries import skopeo as run_skopeo
from requirements import require

from gatesmith.artifact.connection import Access
from gatesmith.artifact.patience import Limits
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.remote import copy_artifact, delete_artifact, list_tags, pull_artifact, push_artifact
from gatesmith.artifact.store import Store
from gatesmith.errors import (
    ArtifactNotFound,
    AuthenticationFailed,
    DigestMismatch,
    ManifestInvalid,
    RegistryRefused,
    RegistryUnreachable,
)

PLAIN = Access(plain_http=True, limits=Limits(settle_s=0.05, first_wait_s=0.01))
FIRMWARES = [tiny_firmware(bitstream=bytes(range(256)) * 12_000), tiny_firmware(board="ulx3s", family="ecp5")]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with real_registry(tmp_path_factory.mktemp("plain")) as registry:
        yield registry


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store(tmp_path / "other")


@pytest.fixture
def name(plain: RealRegistry, request: pytest.FixtureRequest) -> Reference:
    """A repository of the test's own."""
    number = hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    return Reference.parse(f"{plain.address}/tests/{number}:v1")


def parse(text: str) -> Reference:
    return Reference.parse(text)


def skopeo(*arguments: str) -> bytes:
    require("skopeo")
    return run_skopeo(*arguments)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (folder / "blobs" / "sha256").iterdir()}


def test_there_and_back(store: Store, other: Store, name: Reference) -> None:
    digest = store.save("iris:v1", FIRMWARES)
    pushed = push_artifact(store.layout, parse("iris:v1"), name, PLAIN)
    assert (pushed.digest, pushed.reference, pushed.skipped_bytes) == (digest, str(name), 0)
    pulled = pull_artifact(other.layout, name, PLAIN)
    assert (pulled.digest, pulled.copied_bytes) == (digest, pushed.copied_bytes)
    assert [other.load(str(name), board=f.board) for f in FIRMWARES] == FIRMWARES
    assert tree(other.layout.path) == tree(store.layout.path)


def test_a_second_push_and_a_second_pull_move_nothing(
    store: Store, other: Store, name: Reference, plain: RealRegistry
) -> None:
    store.save("iris:v1", FIRMWARES)
    push_artifact(store.layout, parse("iris:v1"), name, PLAIN)
    before = plain.requests("POST", "PUT", "PATCH")
    assert before > 0
    assert push_artifact(store.layout, parse("iris:v1"), name, PLAIN).copied_bytes == 0
    assert plain.requests("POST", "PUT", "PATCH") == before
    assert push_artifact(store.layout, parse("iris:v1"), parse(f"{name.name}:v2"), PLAIN).copied_bytes == 0
    assert plain.requests("POST", "PUT", "PATCH") == before + 1  # the name alone
    assert pull_artifact(other.layout, name, PLAIN).copied_bytes > 0
    assert pull_artifact(other.layout, name, PLAIN).copied_bytes == 0


def test_pull_heals_a_damaged_store(store: Store, other: Store, name: Reference) -> None:
    store.save("iris:v1", FIRMWARES)
    push_artifact(store.layout, parse("iris:v1"), name, PLAIN)
    pull_artifact(other.layout, name, PLAIN)
    layer = other.inspect(str(name))["firmwares"][0]["layers"][0]
    damaged = other.layout.path / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")
    damaged.write_bytes(bytes(damaged.stat().st_size))
    with pytest.raises(DigestMismatch):
        other.load(str(name), board="icebreaker")
    assert pull_artifact(other.layout, name, PLAIN).copied_bytes == layer["size_bytes"]
    assert other.load(str(name), board="icebreaker") == FIRMWARES[0]


def test_a_damaged_store_is_not_pushed(store: Store, name: Reference) -> None:
    store.save("iris:v1", FIRMWARES)
    layer = store.inspect("iris:v1")["firmwares"][0]["layers"][0]
    damaged = store.layout.path / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")
    damaged.write_bytes(bytes(damaged.stat().st_size))
    with pytest.raises(DigestMismatch, match=layer["digest"]):
        push_artifact(store.layout, parse("iris:v1"), name, PLAIN)
    with pytest.raises(ArtifactNotFound):
        list_tags(name, PLAIN)


def test_any_artifact_goes_along_byte_for_byte(store: Store, other: Store, name: Reference) -> None:
    inner = artifact(store.layout, "inner:v1", document(store.layout, b"deep", annotations={"a": "b"}))
    shared = document(store.layout, b"one", b"two", b"")
    top = artifact(store.layout, "odd:v1", inner, shared, extra={"kept": [1, 2.5]})
    signature = document(store.layout, b"signature", subject=top, artifactType="application/vnd.some.signature")
    store.layout.attach(signature, top.digest)
    on_child = document(store.layout, b"statement", subject=shared)
    store.layout.attach(on_child, shared.digest)
    on_signature = document(store.layout, b"countersigned", subject=signature)
    store.layout.attach(on_signature, signature.digest)
    assert push_artifact(store.layout, parse("odd:v1"), name, PLAIN).digest == top.digest
    assert pull_artifact(other.layout, name, PLAIN).digest == top.digest
    assert tree(other.layout.path) == tree(store.layout.path)
    for subject, referrer in ((top, signature), (shared, on_child), (signature, on_signature)):
        assert [r.digest for r in other.layout.referrers(subject.digest)] == [referrer.digest]
    other.layout.collect()
    assert len(tree(other.layout.path)) == len(tree(store.layout.path))
    assert [entry.reference for entry in other.list()] == [str(name)]
    other.remove(str(name))
    assert tree(other.layout.path) == {}


def test_a_signature_that_comes_later_is_found(store: Store, other: Store, name: Reference) -> None:
    top = artifact(store.layout, "odd:v1", document(store.layout, b"one"))
    push_artifact(store.layout, parse("odd:v1"), name, PLAIN)
    for content in (b"first", b"second"):
        store.layout.attach(document(store.layout, content, subject=top), top.digest)
        push_artifact(store.layout, parse("odd:v1"), name, PLAIN)
    pull_artifact(other.layout, name, PLAIN)
    assert other.layout.referrers(top.digest) == store.layout.referrers(top.digest)
    assert len(other.layout.referrers(top.digest)) == 2
    listed = json.loads(
        skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name.name}:sha256-{top.digest[7:]}")
    )
    assert {entry["digest"] for entry in listed["manifests"]} == {
        referrer.digest for referrer in store.layout.referrers(top.digest)
    }


def test_skopeo_reads_what_was_pushed_and_writes_what_is_pulled(
    store: Store, other: Store, name: Reference, tmp_path: Path
) -> None:
    digest = store.save("iris:v1", FIRMWARES)
    push_artifact(store.layout, parse("iris:v1"), name, PLAIN)
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")
    assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == digest
    copied = tmp_path / "copied"
    options = ["--all", "--preserve-digests"]
    skopeo("copy", *options, "--src-tls-verify=false", f"docker://{name}", f"oci:{copied}:iris:v1")
    assert Store(copied).load("iris:v1", board="ulx3s") == FIRMWARES[1]
    back = parse(f"{name.name}/back:v1")
    skopeo("copy", *options, "--dest-tls-verify=false", f"oci:{copied}:iris:v1", f"docker://{back}")
    assert pull_artifact(other.layout, back, PLAIN).digest == digest
    assert tree(other.layout.path).items() <= tree(store.layout.path).items()  # skopeo leaves referrers behind
    assert [other.load(str(back), board=f.board) for f in FIRMWARES] == FIRMWARES


def test_copy_within_a_registry_moves_no_content(
    store: Store, other: Store, name: Reference, plain: RealRegistry
) -> None:
    digest = store.save("iris:v1", FIRMWARES)
    push_artifact(store.layout, parse("iris:v1"), name, PLAIN)
    before = plain.requests("PUT", of="/blobs/")
    target = parse(f"{name.name}/copied:v2")
    assert copy_artifact(name, target, PLAIN).digest == digest
    assert plain.requests("PUT", of="/blobs/") == before  # blobs were mounted
    assert pull_artifact(other.layout, target, PLAIN).digest == digest


def test_copy_to_another_registry(store: Store, other: Store, name: Reference, tmp_path: Path) -> None:
    top = artifact(store.layout, "odd:v1", document(store.layout, b"x" * 3_000_000))
    store.layout.attach(document(store.layout, b"signature", subject=top), top.digest)
    push_artifact(store.layout, parse("odd:v1"), name, PLAIN)
    with real_registry(tmp_path / "second") as second:
        target = parse(f"{second.address}/far:v1")
        assert copy_artifact(name, target, PLAIN).digest == top.digest
        pull_artifact(other.layout, target, PLAIN)
    assert tree(other.layout.path) == tree(store.layout.path)


def test_tags_and_delete(store: Store, name: Reference) -> None:
    store.save("iris:v1", FIRMWARES)
    for tag in ("v1", "v2", "other"):
        push_artifact(store.layout, parse("iris:v1"), parse(f"{name.name}:{tag}"), PLAIN)
    assert list_tags(name, PLAIN) == ["other", "v1", "v2"]
    delete_artifact(name, PLAIN)
    with pytest.raises(ArtifactNotFound, match="MANIFEST_UNKNOWN"):
        pull_artifact(store.layout, name, PLAIN)


def test_one_more_board_uploads_only_itself(store: Store, other: Store, name: Reference) -> None:
    store.save("iris:v1", FIRMWARES)
    push_artifact(store.layout, parse("iris:v1"), name, PLAIN)
    third = tiny_firmware(board="tangnano9k", family="gowin")
    other.save("iris:v1", [third])
    added = push_artifact(other.layout, parse("iris:v1"), name, PLAIN, add=True)
    store.save("iris:v1", [third])
    assert added.digest == store.resolve("iris:v1")  # as if one machine had made all three
    assert [f["board"] for f in store.inspect("iris:v1")["firmwares"]] == ["icebreaker", "tangnano9k", "ulx3s"]
    assert push_artifact(other.layout, parse("iris:v1"), name, PLAIN, add=True).digest == added.digest
    another = Store(other.layout.path.with_name("third"))
    another.save("jets:v1", [tiny_firmware(board="x", model_digest="sha256:" + "cd" * 32)])
    with pytest.raises(ManifestInvalid, match="2 models"):
        push_artifact(another.layout, parse("jets:v1"), name, PLAIN, add=True)


ADD_BOARDS = """
import sys
from pathlib import Path
tests, folder, name, *boards = sys.argv[1:]
sys.path.insert(0, tests)
from firmwares import tiny_firmware
from gatesmith.artifact.connection import Access
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.remote import push_artifact
from gatesmith.artifact.store import Store
store, access = Store(Path(folder)), Access(plain_http=True)
sys.stdin.readline()
for board in boards:
    store.save("iris:v1", [tiny_firmware(board=board)], merge=False)
    push_artifact(store.layout, Reference.parse("iris:v1"), Reference.parse(name), access, add=True)
"""


def test_concurrent_writers_lose_nothing(other: Store, name: Reference, tmp_path: Path) -> None:
    boards = [[f"{writer}{number}" for number in range(4)] for writer in "abc"]
    writers = []
    for mine in boards:
        command = [sys.executable, "-c", ADD_BOARDS, str(Path(__file__).parents[1]), str(tmp_path / mine[0]), str(name)]
        writers.append(subprocess.Popen([*command, *mine], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        _, error = writer.communicate(timeout=120)
        assert writer.returncode == 0, error
    pull_artifact(other.layout, name, PLAIN)
    assert other.inspect(str(name))["boards"] == sorted(board for mine in boards for board in mine)


def test_a_writer_that_is_overwritten_writes_again(
    store: Store, other: Store, name: Reference, plain: RealRegistry
) -> None:
    """The race itself: another client's index, made from what was read before, lands right after ours."""
    store.save("iris:v1", FIRMWARES[:1])
    push_artifact(store.layout, parse("iris:v1"), name, PLAIN)
    other.save("iris:v1", [tiny_firmware(board="theirs")])
    overwrites = []

    def overwrite(_seconds: float) -> None:
        if not overwrites:
            overwrites.append(push_artifact(other.layout, parse("iris:v1"), name, PLAIN).digest)

    access = Access(plain_http=True, limits=Limits(settle_s=0.0), pause=overwrite)
    store.save("iris:v1", FIRMWARES[1:], merge=False)
    push_artifact(store.layout, parse("iris:v1"), name, access, add=True)
    assert overwrites
    pull_artifact(other.layout, name, PLAIN)
    assert other.inspect(str(name))["boards"] == ["theirs", "ulx3s"]


def test_pull_by_digest(store: Store, other: Store, name: Reference) -> None:
    digest = store.save("iris:v1", FIRMWARES[:1])
    push_artifact(store.layout, parse("iris:v1"), name, PLAIN)
    by_digest = parse(f"{name.name}@{digest}")
    pull_artifact(other.layout, by_digest, PLAIN)
    assert push_artifact(store.layout, parse("iris:v1"), by_digest, PLAIN).digest == digest
    with pytest.raises(ManifestInvalid, match="names other content"):
        push_artifact(store.layout, parse("iris:v1"), parse(f"{name.name}@sha256:{'1' * 64}"), PLAIN)
    assert other.load(str(by_digest)) == FIRMWARES[0]
    with pytest.raises(ArtifactNotFound):
        pull_artifact(other.layout, parse(f"{name.name}@sha256:{'0' * 64}"), PLAIN)


def test_another_digest_than_the_locked_one(store: Store, other: Store, name: Reference) -> None:
    digest = store.save("iris:v1", FIRMWARES[:1])
    push_artifact(store.layout, parse("iris:v1"), name, PLAIN)
    assert pull_artifact(other.layout, name, PLAIN, expected_digest=digest).digest == digest
    store.save("iris:v1", FIRMWARES)
    push_artifact(store.layout, parse("iris:v1"), name, PLAIN)
    with pytest.raises(DigestMismatch, match="the lock file says sha256:"):
        pull_artifact(other.layout, name, PLAIN, expected_digest=digest)
    assert other.resolve(str(name)) == digest


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealRegistry, Path]]:
    """With a password and TLS, and the CA's certificate."""
    require("openssl")
    folder = tmp_path_factory.mktemp("guarded")
    ca, pair = make_certificates(folder / "certificates")
    with real_registry(folder / "registry", htpasswd=HTPASSWD, certificate=pair) as registry:
        yield registry, ca


def _config(path: Path, address: str, password: str) -> None:
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {address: {"auth": auth}}}))


def test_password_and_tls(
    guarded: tuple[RealRegistry, Path], store: Store, other: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (registry, ca), config = guarded, tmp_path / "config.json"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(config))
    name, trusting = parse(f"{registry.address}/lab/iris:v1"), Access(ca=ca, limits=PLAIN.limits)
    digest = store.save("iris:v1", FIRMWARES)
    with pytest.raises(AuthenticationFailed, match="wants a password and none is known"):
        push_artifact(store.layout, parse("iris:v1"), name, trusting)
    _config(config, registry.address, "wrong")
    with pytest.raises(AuthenticationFailed, match="answers 401"):
        push_artifact(store.layout, parse("iris:v1"), name, trusting)
    _config(config, registry.address, PASSWORD)
    push_artifact(store.layout, parse("iris:v1"), name, trusting)
    assert pull_artifact(other.layout, name, trusting).digest == digest
    raw = skopeo("inspect", "--raw", "--cert-dir", str(_certificates(ca, tmp_path)), f"docker://{name}")
    assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == digest


def test_a_reference_that_is_not_here_is_fetched(
    guarded: tuple[RealRegistry, Path], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (registry, ca), config = guarded, tmp_path / "config.json"
    _config(config, registry.address, PASSWORD)
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(config))
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    monkeypatch.setenv("GATESMITH_HOME", str(tmp_path / "home"))
    digest, name = store.save("iris:v1", FIRMWARES), parse(f"{registry.address}/lab/fetched:v1")
    push_artifact(store.layout, parse("iris:v1"), name, Access(limits=PLAIN.limits))
    command = [str(Path(sys.executable).with_name("gatesmith")), "inspect", str(name), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["digest"] == digest


def _certificates(ca: Path, folder: Path) -> Path:
    (folder / "trusted").mkdir()
    (folder / "trusted" / "ca.crt").write_bytes(ca.read_bytes())
    return folder / "trusted"


def test_a_certificate_that_is_not_trusted_and_http_where_tls_is_meant(
    guarded: tuple[RealRegistry, Path], plain: RealRegistry, store: Store
) -> None:
    store.save("iris:v1", FIRMWARES)
    for registry, access, said in (
        (guarded[0], Access(limits=PLAIN.limits), "certificate .* is not trusted"),
        (plain, Access(limits=PLAIN.limits), "does not speak TLS; use --plain-http"),
    ):
        with pytest.raises(RegistryUnreachable, match=said):
            push_artifact(store.layout, parse("iris:v1"), parse(f"{registry.address}/lab/iris:v1"), access)
    with pytest.raises(RegistryRefused, match="answers 400"):
        push_artifact(store.layout, parse("iris:v1"), parse(f"{guarded[0].address}/lab/iris:v1"), PLAIN)


def test_the_command_line(
    plain: RealRegistry, name: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATESMITH_HOME", str(tmp_path / "home"))
    digest = Store().save("iris:v1", FIRMWARES)

    def run(*arguments: str, status: int = 0) -> Any:
        command = [str(Path(sys.executable).with_name("gatesmith")), *arguments, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == status, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)

    assert run("push", "iris:v1", str(name), "--plain-http")["digest"] == digest
    assert run("copy", str(name), f"{name.name}:v2", "--plain-http")["digest"] == digest
    assert run("tags", name.name, "--plain-http")["tags"] == ["v1", "v2"]
    monkeypatch.setenv("GATESMITH_HOME", str(tmp_path / "second"))
    assert run("pull", str(name), "--plain-http")["copied_bytes"] > 0
    assert json.loads(Path("gatesmith.lock").read_text()) == {"version": 1, "references": {str(name): digest}}
    assert run("pull", str(name), "--plain-http", "--locked")["digest"] == digest
    assert run("inspect", str(name))["boards"] == ["icebreaker", "ulx3s"]
    run("delete", f"{name.name}:v2", "--plain-http")
    assert run("pull", str(name), "--plain-http", status=1)["error"]["type"] == "ArtifactNotFound"
    assert run("push", "iris:v1", status=1)["error"]["message"].startswith("iris:v1 names no registry")
