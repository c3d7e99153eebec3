"""What a hostile registry can send as content."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hostile import CLOSE, Seen, answer, chunked
from hostile_client import LAYER, World, check, forever, head, served


def layer_route(world: World, answerer: Callable[[Seen], Any]) -> None:
    served(world)
    world.registry.routes[f"/blobs/{LAYER.digest}"] = answerer


def silent(_: Seen) -> Iterator[bytes]:
    threading.Event().wait(5)
    yield CLOSE


BODIES: dict[str, tuple[Callable[[Seen], Any], str, str]] = {
    "other bytes": (lambda _: [answer(LAYER.body[::-1])], "DigestMismatch", "has digest sha256:"),
    "cut short, again and again": (
        lambda _: [head(len(LAYER.body)), LAYER.body[:100], CLOSE],
        "RegistryUnreachable",
        "",
    ),
    "cut short, length not told": (lambda _: [head(None), LAYER.body[:100], CLOSE], "DigestMismatch", "has 100 bytes"),
    "longer than announced": (lambda _: [answer(LAYER.body + b"x")], "DigestMismatch", "sends 16385 bytes"),
    "shorter than announced": (lambda _: [answer(LAYER.body[1:])], "DigestMismatch", "sends 16383 bytes"),
    "endless": (lambda _: chunked(forever(bytes(1 << 20))), "DigestMismatch", "more than its announced 16384"),
    "nothing at all": (lambda _: [answer(b"")], "DigestMismatch", "sends 0 bytes"),
    "another part than was asked for": (
        lambda _: [head(100, 206, extra="content-range: bytes 5-104/16384\r\n"), bytes(100)],
        "RegistryRefused",
        "another part",
    ),
    "parts of something larger": (
        lambda _: [head(100, 206, extra="content-range: bytes 0-99/9999999\r\n"), bytes(100)],
        "RegistryRefused",
        "another part",
    ),
    "compressed though nobody asked": (
        lambda _: [head(30, extra="content-encoding: gzip\r\n"), bytes(30)],
        "DigestMismatch",
        "sends 30 bytes",
    ),
    "stalls in the body": (lambda _: [head(len(LAYER.body)), *silent(_)], "RegistryUnreachable", "in time"),
    "stalls before the head": (silent, "RegistryUnreachable", "in time|cannot be reached"),
    "drips a body": (lambda _: dripping_body(), "RegistryUnreachable", "in time"),
    "drips a head": (lambda _: dripping_head(), "RegistryUnreachable", "in time"),
    "endless head": (lambda _: endless_head(), "RegistryUnreachable", "cannot be reached"),
    "endless interim answers": (lambda _: forever(b"HTTP/1.1 103 x\r\n\r\n" * 500), "RegistryUnreachable", "in time"),
    "hangs up": (lambda _: [CLOSE], "RegistryUnreachable", "cannot be reached"),
    "not HTTP": (lambda _: [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", CLOSE], "RegistryUnreachable", "cannot be reached"),
    "two lengths": (lambda _: [head(5, extra="content-length: 6\r\n"), b"12345", CLOSE], "RegistryUnreachable", ""),
    "missing": (lambda _: [answer(status=404)], "ArtifactNotFound", "answers 404"),
    "words that paint the terminal": (
        lambda _: [answer(b'{"errors":[{"code":"\\u001b[31mX","message":"a\\nb\\u009b2J\\u202e"}]}', status=418)],
        "RegistryRefused",
        "answers 418",
    ),
    "storm of 500": (lambda _: [answer(status=500)], "RegistryRefused", "answers 500"),
    "storm of 503": (lambda _: [answer(status=503)], "RegistryRefused", "answers 503"),
    "too many requests": (lambda _: [answer(status=429)], "RegistryRefused", "answers 429"),
    "too many requests, come tomorrow": (
        lambda _: [answer(status=429, retry_after="86400")],
        "RegistryRefused",
        "it asks to wait 86400",
    ),
    "too many requests, on a date far away": (
        lambda _: [answer(status=429, retry_after="Fri, 31 Dec 2999 23:59:59 GMT")],
        "RegistryRefused",
        "it asks to wait Fri, 31 Dec 2999",
    ),
    "too many requests, nonsense": (
        lambda _: [answer(status=429, retry_after="-1e99")],
        "RegistryRefused",
        "it asks to wait -1e99",
    ),
    "endless error": (lambda _: [head(1 << 40, 400), *[bytes(1 << 16)] * 64, CLOSE], "RegistryRefused", "answers 400"),
    "redirect in a circle": (lambda s: [answer(status=307, location=s.path)], "RegistryRefused", "more than 5 times"),
    "redirect to a file": (
        lambda _: [answer(status=307, location="file:///etc/passwd")],
        "RegistryRefused",
        "not a URL",
    ),
    "redirect with user": (lambda _: [answer(status=307, location="https://a@b/")], "RegistryRefused", "not a URL"),
    "redirect to nowhere": (lambda _: [answer(status=307, location="http://[::1")], "RegistryRefused", "not a URL"),
    "redirect to a bad port": (
        lambda _: [answer(status=307, location="http://x:99999/")],
        "RegistryRefused",
        "not a URL",
    ),
}


def dripping_body() -> Iterator[bytes]:
    yield head(len(LAYER.body))
    yield from drops()


def dripping_head() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 x\r\nx-slow: "
    yield from drops()


def drops() -> Iterator[bytes]:
    for _ in range(200):
        yield b"x"
        threading.Event().wait(0.05)
    yield CLOSE


def endless_head() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 x\r\n"
    yield from forever(b"x-more: " + b"y" * 1000 + b"\r\n")


@pytest.mark.parametrize("case", BODIES)
def test_blobs(world: World, case: str) -> None:
    answerer, error, said = BODIES[case]
    layer_route(world, answerer)
    check(world, "pull", error, said)
    asked = [seen for seen in world.registry.seen if "/blobs/" + LAYER.digest in seen.path]
    assert len(asked) <= 6  # three tries, or six places of a redirect


DESCRIPTORS: dict[str, tuple[dict[str, Any], str, str]] = {
    "path as digest": ({"digest": "sha256:../../../../../../../etc/passwd"}, "ManifestInvalid", "is not sha256"),
    "path in a digest": ({"digest": "sha256:" + "a" * 32 + "/../../" + "a" * 25}, "ManifestInvalid", "is not sha256"),
    "upper case": ({"digest": LAYER.digest.upper().replace("SHA", "sha")}, "ManifestInvalid", "is not sha256"),
    "too short": ({"digest": LAYER.digest[:-1]}, "ManifestInvalid", "is not sha256"),
    "a line more": ({"digest": LAYER.digest + "\n"}, "ManifestInvalid", "is not sha256"),
    "sha512": ({"digest": "sha512:" + "a" * 128}, "ManifestInvalid", "is not sha256"),
    "md5": ({"digest": "md5:" + "a" * 32}, "ManifestInvalid", "is not sha256"),
    "no algorithm": ({"digest": "a" * 64}, "ManifestInvalid", "is not sha256"),
    "digest as a list": ({"digest": [LAYER.digest]}, "ManifestInvalid", "not valid"),
    "negative size": ({"size": -1}, "ManifestInvalid", "has size -1"),
    "size as text": ({"size": "16384"}, "ManifestInvalid", "not valid"),
    "size as a fraction": ({"size": 16384.0}, "ManifestInvalid", "not valid"),
    "size is true": ({"size": True}, "ManifestInvalid", "not valid"),
    "a larger size": ({"size": 16385}, "DigestMismatch", "sends 16384 bytes"),
    "a smaller size": ({"size": 16383}, "DigestMismatch", "sends 16384 bytes"),
    "more than a blob may have": ({"size": 1 << 29}, "LimitExceeded", "536870912 bytes"),
    "more than there is": ({"size": 1 << 62}, "LimitExceeded", "bytes"),
    "annotations as a list": ({"annotations": ["a"]}, "ManifestInvalid", "not valid"),
}


@pytest.mark.parametrize("case", DESCRIPTORS)
def test_descriptors(world: World, case: str) -> None:
    changes, error, said = DESCRIPTORS[case]
    served(world, **changes)
    check(world, "pull", error, said)
