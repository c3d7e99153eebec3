"""Ways to a registry: tokens, helper programs, proxies; and how much memory a transfer takes."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import Content, HostileRegistry, Seen, answer, manifest, running
from registries import artifact, document, real_registry

from gatesmith.artifact.connection import Access
from gatesmith.artifact.layout import Layout
from gatesmith.artifact.patience import Limits
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.remote import copy_artifact, pull_artifact, push_artifact
from gatesmith.errors import AuthenticationFailed, RegistryUnreachable

LAYER = Content("application/octet-stream", b"content" * 1000)
LIMITS = Limits(connect_s=2, answer_s=5, tries=2, first_wait_s=0.01, settle_s=0.0)
PLAIN = Access(plain_http=True, limits=LIMITS)


@pytest.fixture
def registry() -> Iterator[HostileRegistry]:
    with running() as registry:
        registry.reset()
        registry.hold(LAYER, manifest(LAYER.describe()))
        yield registry


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "store")


def name(registry: HostileRegistry) -> Reference:
    return Reference.parse(f"{registry.address}/lab/iris:v1")


def guard(registry: HostileRegistry, *, realm: str = "") -> None:
    """Let nobody in without the token that belongs to what is asked for."""
    challenge = f'Bearer realm="{realm or f"http://{registry.address}/token"}",service="the registry"'
    respond = registry.respond

    def guarded(seen: Seen) -> object:
        if seen.path.startswith("/token"):
            return [answer(json.dumps({"token": f"for.{len(registry.seen)}"}).encode())]
        if not seen.headers.get("authorization", "").startswith("Bearer for."):
            return [answer(status=401, www_authenticate=challenge)]
        return respond(seen)

    registry.respond = guarded


def passwords(monkeypatch: pytest.MonkeyPatch, path: Path, **data: object) -> None:
    path.write_text(json.dumps(data))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))


def tokens(registry: HostileRegistry) -> list[Seen]:
    return [seen for seen in registry.seen if seen.path.startswith("/token")]


def test_a_token_for_nobody(
    registry: HostileRegistry, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords(monkeypatch, tmp_path / "auth.json")
    guard(registry)
    pull_artifact(layout, name(registry), PLAIN)
    (token,) = tokens(registry)
    assert token.path == "/token?service=the+registry&scope=repository%3Alab%2Firis%3Apull"
    assert "authorization" not in token.headers


def test_a_token_for_a_password(
    registry: HostileRegistry, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    basic = base64.b64encode(b"lab:password").decode()
    passwords(monkeypatch, tmp_path / "auth.json", auths={registry.address: {"auth": basic}})
    guard(registry)
    pull_artifact(layout, name(registry), PLAIN)
    (token,) = tokens(registry)
    assert token.headers["authorization"] == f"Basic {basic}"
    shown = [seen for seen in registry.seen if basic in seen.headers.get("authorization", "")]
    assert [seen.path for seen in shown] == [token.path]  # the registry itself sees the token only


def test_an_identity_token_is_exchanged(
    registry: HostileRegistry, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords(monkeypatch, tmp_path / "auth.json", auths={registry.address: {"identitytoken": "a refresh token"}})
    guard(registry)
    bodies: list[bytes] = []
    guarded = registry.respond

    def noting(seen: Seen) -> object:
        bodies.append(seen.body)
        return guarded(seen)

    registry.respond = noting
    pull_artifact(layout, name(registry), PLAIN)
    (token,) = tokens(registry)
    assert (token.method, token.path) == ("POST", "/token")
    assert any(b"grant_type=refresh_token" in body and b"refresh_token=a+refresh+token" in body for body in bodies)


def test_a_helper_program(
    registry: HostileRegistry, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-tests"
    helper.write_text('#!/bin/sh\nread server\necho "{\\"Username\\":\\"lab\\",\\"Secret\\":\\"$1 $server\\"}"\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    passwords(monkeypatch, tmp_path / "auth.json", credsStore="tests")
    guard(registry)
    pull_artifact(layout, name(registry), PLAIN)
    sent = tokens(registry)[0].headers["authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent).decode() == f"lab:get {registry.address}"


def test_a_token_server_of_another_name(
    registry: HostileRegistry, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Allowed by name it still needs TLS, so nothing goes to this one."""
    passwords(monkeypatch, tmp_path / "auth.json")
    with running("127.0.0.3") as other:
        guard(registry, realm=f"https://{other.address}/token")
        with pytest.raises(AuthenticationFailed, match=r"allow it with --realm 127\.0\.0\.3"):
            pull_artifact(layout, name(registry), PLAIN)
        assert other.seen == []
        limits = Limits(connect_s=0.3, tries=1)
        with pytest.raises(RegistryUnreachable, match=r"127\.0\.0\.3:\d+ \(for 127\.0\.0\.1:\d+\)"):
            pull_artifact(layout, name(registry), Access(plain_http=True, realms=("127.0.0.3",), limits=limits))


def test_an_expired_token_is_replaced(
    registry: HostileRegistry, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords(monkeypatch, tmp_path / "auth.json")
    guard(registry)
    guarded, asked = registry.respond, []

    def forgetful(seen: Seen) -> object:
        if "/blobs/" in seen.path and not asked:
            asked.append(seen)
            return [answer(status=401, www_authenticate=f'Bearer realm="http://{registry.address}/token"')]
        return guarded(seen)

    registry.respond = forgetful
    pull_artifact(layout, name(registry), PLAIN)
    assert len(tokens(registry)) == 2


def test_a_proxy(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: HostileRegistry) -> None:
    """The registry plays the proxy: it is asked for whole URLs of a host that does not exist."""
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("http_proxy", f"http://user:a%20b@{registry.address}")
    passwords(monkeypatch, tmp_path / "auth.json")
    pull_artifact(layout, Reference.parse("registry.invalid:5000/lab/iris:v1"), PLAIN)
    assert {seen.path.partition("/v2/")[0] for seen in registry.seen} == {"http://registry.invalid:5000"}
    secret = base64.b64encode(b"user:a b").decode()
    assert {seen.headers["proxy-authorization"] for seen in registry.seen} == {f"Basic {secret}"}
    registry.seen.clear()
    monkeypatch.setenv("no_proxy", "registry.invalid")
    with pytest.raises(RegistryUnreachable, match=r"registry\.invalid:5000 cannot be reached"):
        pull_artifact(layout, Reference.parse("registry.invalid:5000/lab/iris:v2"), PLAIN)
    assert registry.seen == []


def test_nobody_listens(layout: Layout) -> None:
    waits: list[float] = []
    access = Access(plain_http=True, limits=Limits(tries=3), pause=waits.append)
    with pytest.raises(RegistryUnreachable, match=r"127\.0\.0\.1:1 cannot be reached: .*refused"):
        pull_artifact(layout, Reference.parse("127.0.0.1:1/lab/iris:v1"), access)
    assert len(waits) == 2


MEASURED = """
import sys
from pathlib import Path
from gatesmith.artifact.connection import Access
from gatesmith.artifact.layout import Layout
from gatesmith.artifact.patience import Limits
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.remote import copy_artifact, pull_artifact, push_artifact

def memory(key):
    return int(Path("/proc/self/status").read_text().partition(key + ":")[2].split()[0]) / 1024

folder, remote = sys.argv[1:]
access, name = Access(plain_http=True, limits=Limits(settle_s=0)), Reference.parse(remote)
before = memory("VmRSS")
push_artifact(Layout(Path(folder) / "source"), Reference.parse("big:v1"), name, access)
pull_artifact(Layout(Path(folder) / "target"), name, access)
copy_artifact(name, Reference.parse(remote + "-copy"), access)
print(memory("VmHWM") - before)
"""


def test_memory_does_not_grow_with_content(tmp_path: Path) -> None:
    source = Layout(tmp_path / "source")
    layers = [bytes([number]) * (96 << 20) for number in (1, 2)]
    artifact(source, "big:v1", document(source, *layers))
    with real_registry(tmp_path / "registry") as real:
        command = [sys.executable, "-c", MEASURED, str(tmp_path), f"{real.address}/big:v1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 32


def test_a_registry_that_takes_no_large_requests(registry: HostileRegistry, layout: Layout) -> None:
    """Like one behind a proxy with a limit: content goes in pieces, and one that is lost is sent again."""
    content = bytes(range(256)) * 80_000
    artifact(layout, "mine:v1", document(layout, content))
    got, lost = bytearray(), []
    place = "/v2/lab/iris/blobs/uploads/1"

    def uploads(seen: Seen) -> list[bytes]:
        if seen.method == "POST":
            got.clear()
            return [answer(status=202, location=place)]
        if seen.method == "PUT" and seen.body:
            return [answer(status=413)] if len(seen.body) > 1000 else [answer(status=201)]
        if seen.method == "PATCH":
            start, end = (int(text) for text in seen.headers["content-range"].split("-"))
            assert (start, end - start + 1) == (len(got), len(seen.body))
            if start and not lost:
                lost.append(start)
                got.extend(seen.body[:1000])
                return [answer(status=503)]
            got.extend(seen.body)
        status = {"PUT": 201, "GET": 204}.get(seen.method, 202)
        return [answer(status=status, location=place, range=f"0-{len(got) - 1}")]

    registry.reset()
    registry.routes["/uploads/"] = registry.routes["/uploads/1"] = uploads
    respond = registry.respond
    registry.respond = lambda seen: (
        [answer(status=201)] if seen.method == "PUT" and "/manifests/" in seen.path else respond(seen)
    )
    push_artifact(layout, Reference.parse("mine:v1"), name(registry), PLAIN)
    assert bytes(got) == content
    assert lost


def test_the_same_artifact_in_two_registries(tmp_path: Path, layout: Layout) -> None:
    top = artifact(layout, "odd:v1", document(layout, b"a", b"b"))
    with real_registry(tmp_path / "one") as one, real_registry(tmp_path / "two") as two:
        first, second = (Reference.parse(f"{r.address}/lab/odd:v1") for r in (one, two))
        push_artifact(layout, Reference.parse("odd:v1"), first, PLAIN)
        assert copy_artifact(first, second, PLAIN).digest == top.digest
        assert copy_artifact(first, second, PLAIN).copied_bytes == 0
