"""Where a hostile registry can try to lead a client, and what it can ask it for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hostile import CLOSE, Content, Seen, answer, chunked, manifest
from hostile_client import BLOB, LAYER, World, check, forever, head

# Who may see a password


def wants(realm: str) -> Callable[[Seen], Any]:
    challenge = f'Bearer realm="{realm}",service="x",scope="repository:other/secret:push,pull"'
    return lambda _: [answer(status=401, www_authenticate=challenge)]


REALMS = {
    "another host": "http://{elsewhere}/token",
    "another host with TLS": "https://{elsewhere}/token",
    "another name of this host": "http://localhost:{port}/token",
    "our host as user": "http://{own}@{elsewhere}/token",
    "our host as path": "http://{elsewhere}/{own}/token",
    "our host as a part": "http://127.0.0.1.{elsewhere}/token",
    "a file": "file:///etc/passwd",
    "no URL": "tests",
    "nothing": "",
    "a broken address": "http://[::1/token",
}


@pytest.mark.parametrize("case", REALMS)
def test_realms(world: World, case: str) -> None:
    own, elsewhere = world.registry.address, world.elsewhere.address
    realm = REALMS[case].format(own=own, elsewhere=elsewhere, port=own.rpartition(":")[2])
    world.registry.routes["/manifests/v1"] = wants(realm)
    check(world, "pull", "AuthenticationFailed", "token server")
    assert world.elsewhere.seen == []
    assert all("authorization" not in seen.headers for seen in world.registry.seen)


def token_route(world: World, token: bytes) -> None:
    world.registry.routes["/manifests/v1"] = wants(f"http://{world.registry.address}/token")
    world.registry.routes["/token"] = lambda _: [answer(token)]


@pytest.mark.parametrize(
    "token",
    [
        b'{"token":"a\\r\\nx-evil: 1"}',
        b'{"token":""}',
        b'{"token":5}',
        b"[]",
        b"{",
        b'{"token":"' + b"a" * 60000 + b'"}',
    ],
    ids=["header", "empty", "number", "list", "cut", "long"],
)
def test_tokens(world: World, token: bytes) -> None:
    token_route(world, token)
    check(world, "pull", "RegistryRefused", "gives a token that cannot be used")


def test_an_endless_token(world: World) -> None:
    token_route(world, b"")
    world.registry.routes["/token"] = lambda _: chunked(forever(bytes(1 << 18)))
    check(world, "pull", "LimitExceeded", "65536")


def test_a_token_that_never_helps_is_asked_for_once_and_for_our_repository(world: World) -> None:
    token_route(world, b'{"token":"abc"}')
    check(world, "pull", "AuthenticationFailed", "answers 401")
    tokens = [seen for seen in world.registry.seen if seen.path.startswith("/token")]
    assert len(tokens) == 1
    assert "scope=repository%3Alab%2Firis%3Apull" in tokens[0].path
    assert "secret" not in tokens[0].path


def test_an_authentication_that_nobody_knows(world: World) -> None:
    world.registry.routes["/manifests/v1"] = lambda _: [answer(status=401, www_authenticate='Negotiate, Digest a="b')]
    check(world, "pull", "AuthenticationFailed", "is not known here")


def test_a_redirect_elsewhere_without_tls(world: World) -> None:
    world.registry.routes["/manifests/v1"] = lambda seen: (
        [answer(status=307, location=f"http://{world.elsewhere.address}/v2/lab/iris/manifests/v1")]
        if "authorization" in seen.headers
        else [answer(status=401, www_authenticate='Basic realm="x"')]
    )
    check(world, "pull", "RegistryRefused", "without TLS")
    assert world.elsewhere.seen == []
    assert any("authorization" in seen.headers for seen in world.registry.seen)


def test_a_transfer_that_breaks_goes_on_where_it_stopped(world: World) -> None:
    ranges: list[str] = []

    def once_more(seen: Seen) -> list[bytes]:
        ranges.append(seen.headers.get("range", ""))
        start = int(ranges[-1].removeprefix("bytes=").rstrip("-") or "0")
        if start == 0:
            return [head(len(LAYER.body)), LAYER.body[:1000], CLOSE]
        extra = f"content-range: bytes {start}-{len(LAYER.body) - 1}/{len(LAYER.body)}\r\n"
        return [head(len(LAYER.body) - start, 206, extra=extra), LAYER.body[start:]]

    world.registry.hold(LAYER, manifest(LAYER.describe(), annotations={"a": "resumed"}))
    world.registry.routes[f"/blobs/{LAYER.digest}"] = once_more
    check(world, "pull", "", "")
    assert ranges == ["", "bytes=1000-"]


def test_a_registry_without_ranges_begins_anew(world: World) -> None:
    answers = iter([[head(len(LAYER.body)), LAYER.body[:1000], CLOSE], [answer(LAYER.body)]])
    world.registry.hold(LAYER, manifest(LAYER.describe(), annotations={"a": "anew"}))
    world.registry.routes[f"/blobs/{LAYER.digest}"] = lambda _: next(answers)
    check(world, "pull", "", "")


def test_busy_for_a_moment(world: World) -> None:
    for status, extra in ((429, {"retry_after": "0"}), (503, {}), (429, {})):
        layer = Content(BLOB, f"busy {status} {extra}".encode())
        world.registry.hold(layer, manifest(layer.describe()))
        answers = iter([[answer(status=status, **extra)], [answer(status=status, **extra)], [answer(layer.body)]])
        world.registry.routes[f"/blobs/{layer.digest}"] = lambda _, answers=answers: next(answers)
        check(world, "pull", "", "")
