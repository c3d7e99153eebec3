"""What a hostile registry can do to a client: it is refused, by name, soon, in little memory, and it learns nothing.

Every case runs in one client process that measures itself; each states which error it has to end in.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from firmwares import tiny_firmware
from hostile import CLOSE, Content, HostileRegistry, Seen, answer, chunked, index, manifest, running

from gatesmith.artifact import media_types
from gatesmith.artifact.manifest import pack_firmware

SECONDS, MIB = 12.0, 64.0
HIDDEN = "must never be sent elsewhere"
BLOB = "application/octet-stream"
LAYER = Content(BLOB, bytes(range(256)) * 64)

CLIENT = """
import json, os, sys, time
from pathlib import Path
from gatesmith.artifact.connection import Access
from gatesmith.artifact.patience import Limits
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.remote import list_tags, pull_artifact, push_artifact
from gatesmith.artifact.store import Store
from gatesmith.errors import ArtifactError

limits = Limits(connect_s=2, answer_s=1.5, stall_s=0.6, slowest_bytes_per_s=2000, tries=3, patience_s=4,
                first_wait_s=0.01, settle_s=0)
access = Access(plain_http=True, limits=limits)

def memory(key):
    text = Path("/proc/self/status").read_text()
    return int(text.partition(key + ":")[2].split()[0]) / 1024

def run(verb, reference, store):
    layout, name = Store(Path(store)).layout, Reference.parse(reference)
    if verb == "tags":
        return list_tags(name, access)
    if verb == "push":
        return push_artifact(layout, Reference.parse("mine:v1"), name, access).digest
    digest = pull_artifact(layout, name, access).digest
    return Store(Path(store)).load(reference).name if verb == "load" else digest

for line in sys.stdin:
    task = json.loads(line)
    Path("/proc/self/clear_refs").write_text("5")
    before, start, result = memory("VmRSS"), time.monotonic(), {"error": "", "message": ""}
    try:
        result["value"] = run(**task)
    except ArtifactError as error:
        result |= {"error": type(error).__name__, "message": str(error)}
    result |= {"seconds": time.monotonic() - start, "mib": memory("VmHWM") - before}
    print(json.dumps(result), flush=True)
"""


@dataclass
class World:
    """The registry, a place that must learn nothing, and the client's folder."""

    registry: HostileRegistry
    elsewhere: HostileRegistry
    home: Path
    client: subprocess.Popen[str]

    @property
    def name(self) -> str:
        return f"{self.registry.address}/lab/iris:v1"

    def run(self, verb: str, reference: str) -> dict[str, Any]:
        assert self.client.stdin
        assert self.client.stdout
        task = {"verb": verb, "reference": reference, "store": str(self.home / "store")}
        self.client.stdin.write(json.dumps(task) + "\n")
        self.client.stdin.flush()
        result: dict[str, Any] = json.loads(self.client.stdout.readline())
        return result


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("client")
    with running() as registry, running("127.0.0.2") as elsewhere:
        auth = base64.b64encode(f"lab:{HIDDEN}".encode()).decode()
        (home / "auth.json").write_text(json.dumps({"auths": {registry.address: {"auth": auth}}}))
        environment = os.environ | {
            "REGISTRY_AUTH_FILE": str(home / "auth.json"),
            "GATESMITH_HOME": str(home / "home"),
            "HOME": str(home),
            "TMPDIR": str(home),
        }
        with subprocess.Popen(
            [sys.executable, "-W", "error", "-c", CLIENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=home,
            env=environment,
        ) as client:
            world = World(registry, elsewhere, home, client)
            registry.reset()
            registry.hold(LAYER, manifest(LAYER.describe()))
            assert world.run("pull", world.name)["error"] == ""  # what is loaded once is not counted below
            from gatesmith.artifact.store import Store

            Store(home / "store").save("mine:v1", [tiny_firmware()])
            yield world
            client.kill()


@pytest.fixture
def world(session: World) -> World:
    from gatesmith.artifact.store import Store

    session.registry.reset()
    session.elsewhere.reset()
    store = Store(session.home / "store")
    for entry in store.list():
        if entry.reference != "mine:v1":
            store.remove(entry.reference)
    return session


def check(world: World, verb: str, error: str, said: str, *, reference: str = "") -> dict[str, Any]:
    """Run the client, and see that all of the promises hold."""
    from gatesmith.artifact.store import Store

    before = [(entry.reference, entry.digest) for entry in Store(world.home / "store").list()]
    result = world.run(verb, reference or world.name)
    assert (result["error"], bool(re.search(said, result["message"]))) == (error, True), result
    assert "\n" not in result["message"]
    assert result["message"].isprintable()
    assert result["seconds"] < SECONDS
    assert result["mib"] < MIB
    assert {path.name for path in world.home.iterdir()} <= {"auth.json", "store"}
    store = Store(world.home / "store")
    assert not any(entry.problem for entry in store.list())
    if error:
        assert [(entry.reference, entry.digest) for entry in store.list()] == before
        assert not list((store.layout.path / "partial").iterdir())
    leaked = [seen for seen in world.elsewhere.seen if HIDDEN in str(seen) or "authorization" in seen.headers]
    assert not leaked
    return result


def served(world: World, **changes: Any) -> None:
    """The artifact is a manifest with one layer, whose descriptor says other things."""
    world.registry.hold(LAYER, manifest(LAYER.describe(**changes)))


def layer_route(world: World, answerer: Callable[[Seen], Any]) -> None:
    served(world)
    world.registry.routes[f"/blobs/{LAYER.digest}"] = answerer


def head(length: int | None, status: int = 200, media_type: str = BLOB, extra: str = "") -> bytes:
    size = f"content-length: {length}\r\n" if length is not None else "connection: close\r\n"
    return f"HTTP/1.1 {status} x\r\ncontent-type: {media_type}\r\n{size}{extra}\r\n".encode()


def forever(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


def dripping(world: World, piece: bytes = b"x") -> Iterator[bytes]:
    import threading

    pace = threading.Event()
    while True:
        yield piece
        pace.wait(0.05)


def silent(_: Seen) -> Iterator[bytes]:
    import threading

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
    import threading

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


def raw(body: bytes | str, media_type: str = media_types.MANIFEST) -> Content:
    return Content(media_type, body.encode() if isinstance(body, str) else body)


def both_kinds() -> Content:
    return manifest(LAYER.describe(), manifests=[])


def one_blob_of_two_sizes() -> Content:
    return manifest(LAYER.describe(), LAYER.describe(size=5))


def bomb(values: bytes) -> Content:
    start, end = b'{"schemaVersion":2,"layers":[', b"1]}"
    return raw(start + values * ((4_000_000 - 100) // len(values)) + end)


MANIFESTS: dict[str, tuple[Callable[[], Content], str, str]] = {
    "an index and a manifest at once": (both_kinds, "ManifestInvalid", "is something else"),
    "an index with layers": (lambda: index(layers=[LAYER.describe()]), "ManifestInvalid", "is something else"),
    "an index with a config": (lambda: index(config=LAYER.describe()), "ManifestInvalid", "is something else"),
    "one type outside, another inside": (
        lambda: manifest(LAYER.describe(), mediaType=media_types.INDEX),
        "ManifestInvalid",
        "is something else",
    ),
    "a web page": (lambda: raw("<html>", "text/html"), "ManifestInvalid", "is a text/html, not an artifact"),
    "an old kind": (
        lambda: raw('{"schemaVersion":1}', "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        "ManifestInvalid",
        "not an artifact",
    ),
    "schema version 1": (lambda: manifest(LAYER.describe(), schemaVersion=1), "ManifestInvalid", "something else"),
    "no type": (lambda: raw("{}", ""), "ManifestInvalid", "not an artifact"),
    "not JSON": (lambda: raw("{"), "ManifestInvalid", "is not JSON"),
    "a list": (lambda: raw("[]"), "ManifestInvalid", "is not a JSON object"),
    "not a number": (lambda: raw('{"schemaVersion":1' + "0" * 5000 + "}"), "ManifestInvalid", "is not JSON"),
    "nested JSON": (lambda: raw("[" * 100_000), "ManifestInvalid", "is not JSON"),
    "layers that are no list": (lambda: manifest(layers={}), "ManifestInvalid", "no list of layers"),
    "no config": (lambda: manifest(config=None), "ManifestInvalid", "descriptor is not valid"),
    "one blob of two sizes": (one_blob_of_two_sizes, "ManifestInvalid", "announced with 16384 and with 5"),
    "a bomb of lists": (lambda: bomb(b"[],"), "LimitExceeded", "values"),
    "a bomb of objects": (lambda: bomb(b"{},"), "LimitExceeded", "values"),
    "a bomb of numbers": (lambda: bomb(b"1,"), "LimitExceeded", "values"),
    "too many layers": (lambda: manifest(*[LAYER.describe()] * 5000), "LimitExceeded", "layers|values"),
    "five megabytes": (lambda: raw(b" " * (5 << 20) + b"{}"), "LimitExceeded", "more than 4194304 bytes"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_manifests(world: World, case: str) -> None:
    make, error, said = MANIFESTS[case]
    world.registry.hold(LAYER, make())
    check(world, "pull", error, said)


def test_an_endless_manifest(world: World) -> None:
    world.registry.routes["/manifests/v1"] = lambda _: chunked(forever(bytes(1 << 18)), media_type=media_types.INDEX)
    check(world, "pull", "LimitExceeded", "more than 4194304 bytes")


def test_a_registry_that_lies_about_a_digest(world: World) -> None:
    top = manifest(LAYER.describe())
    world.registry.routes["/manifests/v1"] = lambda _: [
        answer(top.body, media_type=top.media_type, docker_content_digest=LAYER.digest)
    ]
    check(world, "pull", "DigestMismatch", "is wanted")


def test_another_manifest_than_the_digest_asked_for(world: World) -> None:
    world.registry.hold(LAYER, manifest(LAYER.describe()))
    wanted = "sha256:" + "1" * 64
    world.registry.contents[wanted] = world.registry.contents["v1"]
    check(world, "pull", "DigestMismatch", "is wanted", reference=f"{world.registry.address}/lab/iris@{wanted}")


def test_another_manifest_than_the_index_names(world: World) -> None:
    good, evil = manifest(LAYER.describe()), manifest(LAYER.describe(), annotations={"a": "b"})
    for size, said in ((len(good.body), "answers with more|has .* bytes"), (len(evil.body), "has digest sha256")):
        world.registry.hold(LAYER, index(good.describe(size=size)))
        world.registry.contents[good.digest] = evil
        check(world, "pull", "DigestMismatch" if "digest" in said else "LimitExceeded", said)


def test_a_child_of_another_type_than_announced(world: World) -> None:
    child = manifest(LAYER.describe())
    world.registry.hold(LAYER, child, index(child.describe(mediaType=media_types.INDEX)))
    check(world, "pull", "ManifestInvalid", "was announced")


def test_an_index_that_holds_itself(world: World) -> None:
    fake = "sha256:" + "2" * 64
    top = index({"mediaType": media_types.INDEX, "digest": fake, "size": 300})
    world.registry.hold(top)
    world.registry.contents[fake] = index(top.describe())
    check(world, "pull", "DigestMismatch", fake)


def test_deep_nesting(world: World) -> None:
    level = manifest(LAYER.describe())
    world.registry.hold(LAYER, level)
    for _ in range(12):
        level = index(level.describe())
        world.registry.hold(level)
    check(world, "pull", "LimitExceeded", "nested more than 8 deep")


def test_more_manifests_than_fit(world: World) -> None:
    children = [manifest(LAYER.describe(), annotations={"n": str(n), "x": "y" * 1_000_000}) for n in range(12)]
    world.registry.hold(LAYER, *children, index(*(child.describe() for child in children)))
    check(world, "pull", "LimitExceeded", "12|13 manifests")


def test_a_manifest_that_is_announced_huge(world: World) -> None:
    child = manifest(LAYER.describe())
    world.registry.hold(LAYER, child, index(child.describe(size=1 << 50)))
    check(world, "pull", "LimitExceeded", "manifests of")


def test_too_many_layers_in_all(world: World) -> None:
    children = []
    for n in range(6):
        fakes = [{"mediaType": BLOB, "digest": f"sha256:{n:032x}{m:032x}", "size": 1} for m in range(4000)]
        children.append(manifest(*fakes))
    world.registry.hold(*children, index(*(child.describe() for child in children)))
    check(world, "pull", "LimitExceeded", "16384")


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


# Lists, uploads, and what is inside


def test_tags_in_a_circle_and_tags_elsewhere(world: World) -> None:
    page = b'{"name":"x","tags":["a","../b","c\\nd"]}'
    for link, error, said in (
        ("/v2/lab/iris/tags/list?n=1000", "RegistryRefused", "in a circle"),
        (f"http://{world.elsewhere.address}/v2/lab/iris/tags/list", "RegistryRefused", "without TLS"),
    ):
        world.registry.routes["/tags/list"] = lambda _, link=link: [answer(page, link=f'<{link}>; rel="next"')]
        check(world, "tags", error, said)


@pytest.mark.parametrize("count", [0, 1, 20_000])
def test_pages_without_end(world: World, count: int) -> None:
    numbers = iter(range(10**9))
    body = json.dumps({"tags": [f"t{n}" for n in range(count)]}).encode()
    world.registry.routes["/tags/list"] = lambda _: [
        answer(body, link=f'</v2/lab/iris/tags/list?n={next(numbers)}>; rel="next"')
    ]
    check(world, "tags", "LimitExceeded", "1000 pages|100000 tags")
    top, listed = manifest(LAYER.describe(), annotations={"a": f"pages {count}"}), index()
    world.registry.hold(LAYER, top)
    world.registry.routes[f"/referrers/{top.digest}"] = lambda _: [
        answer(
            listed.body,
            media_type=listed.media_type,
            link=f'</v2/lab/iris/referrers/{top.digest}?{next(numbers)}>; rel="next"',
        )
    ]
    check(world, "pull", "LimitExceeded", "1000 pages")


def test_pages_of_tags(world: World) -> None:
    def page(seen: Seen) -> list[bytes]:
        if "last=b" in seen.path:
            return [answer(b'{"tags":["c"]}')]
        return [answer(b'{"tags":["b","../b","a"]}', link='</v2/lab/iris/tags/list?n=2&last=b>; rel="next"')]

    world.registry.routes["/tags/list"] = page
    assert check(world, "tags", "", "")["value"] == ["a", "b", "c"]


def test_referrers_of_another_subject_and_referrers_that_are_gone(world: World) -> None:
    top, stranger = manifest(LAYER.describe()), manifest(annotations={"a": "stranger"})
    gone = {"mediaType": media_types.MANIFEST, "digest": "sha256:" + "3" * 64, "size": 10}
    world.registry.hold(LAYER, stranger, top)
    listed = index(stranger.describe(), gone)
    world.registry.routes[f"/referrers/{top.digest}"] = lambda _: [answer(listed.body, media_type=listed.media_type)]
    check(world, "pull", "", "")
    from gatesmith.artifact.store import Store

    assert Store(world.home / "store").layout.referrers(top.digest) == ()


def test_endless_referrers(world: World) -> None:
    top = manifest(LAYER.describe(), annotations={"a": "endless"})
    world.registry.hold(LAYER, top)
    numbers = iter(range(10**9))

    def page(_: Seen) -> list[bytes]:
        fakes = [{"mediaType": BLOB, "digest": f"sha256:{next(numbers):064x}", "size": 1} for _ in range(500)]
        content = index(*fakes)
        link = f'</v2/lab/iris/referrers/{top.digest}?page={next(numbers)}>; rel="next"'
        return [answer(content.body, media_type=content.media_type, link=link)]

    world.registry.routes[f"/referrers/{top.digest}"] = page
    check(world, "pull", "LimitExceeded", "more than 4096 referrers")


def test_an_endless_chain_of_referrers(world: World) -> None:
    world.registry.hold(LAYER, manifest(LAYER.describe(), annotations={"a": "chain"}))

    def referrers(seen: Seen) -> list[bytes]:
        subject = {"mediaType": media_types.MANIFEST, "digest": seen.path.rpartition("/")[2], "size": 5}
        next_one = manifest(subject=subject)
        world.registry.contents[next_one.digest] = next_one
        listed = index(next_one.describe())
        return [answer(listed.body, media_type=listed.media_type)]

    respond = world.registry.respond
    world.registry.respond = lambda seen: referrers(seen) if "/referrers/" in seen.path else respond(seen)  # type: ignore[method-assign]
    try:
        check(world, "pull", "LimitExceeded", "nested more than 8 deep")
    finally:
        del world.registry.respond


UPLOADS: dict[str, tuple[dict[str, Callable[[World, Seen], Any]], str, str]] = {
    "to another place without TLS": (
        {"/uploads/": lambda w, _: [answer(status=202, location=f"http://{w.elsewhere.address}/take")]},
        "RegistryRefused",
        "without TLS",
    ),
    "to nowhere": ({"/uploads/": lambda w, _: [answer(status=202)]}, "RegistryRefused", "not a URL"),
    "not allowed": ({"/uploads/": lambda w, _: [answer(status=403)]}, "AuthenticationFailed", "answers 403"),
    "sent on": (
        {"/uploads/": lambda w, _: [answer(status=307, location="/v2/other/")]},
        "RegistryRefused",
        "sends a POST on",
    ),
    "nothing is taken": (
        {
            "/uploads/": lambda w, _: [answer(status=202, location="/v2/lab/iris/blobs/uploads/1")],
            "/uploads/1": lambda w, _: [answer(status=500)],
        },
        "RegistryRefused",
        "answers 500",
    ),
    "more is there than was sent": (
        {
            "/uploads/": lambda w, _: [answer(status=202, location="/v2/lab/iris/blobs/uploads/1")],
            "/uploads/1": lambda w, s: [
                answer(status=413)
                if s.method == "PUT"
                else answer(status=202, location="/v2/lab/iris/blobs/uploads/1", range="0-99999999")
            ],
        },
        "RegistryRefused",
        "it has 100000000 bytes",
    ),
    "pieces without end": (
        {
            "/uploads/": lambda w, _: [
                answer(status=202, location="/v2/lab/iris/blobs/uploads/1", oci_chunk_min_length="99999999999")
            ],
            "/uploads/1": lambda w, s: [answer(status=413)],
        },
        "RegistryRefused",
        "wants pieces of 99999999999 bytes",
    ),
    "never any further": (
        {
            "/uploads/": lambda w, _: [answer(status=202, location="/v2/lab/iris/blobs/uploads/1")],
            "/uploads/1": lambda w, s: [
                answer(status=413)
                if s.method == "PUT"
                else answer(status=202, location="/v2/lab/iris/blobs/uploads/1", range="0-0")
            ],
        },
        "RegistryRefused",
        "takes no more",
    ),
    "stored as something else": (
        {
            "/uploads/": lambda w, _: [answer(status=202, location="/v2/lab/iris/blobs/uploads/1")],
            "/uploads/1": lambda w, _: [answer(status=201)],
            "": lambda w, s: [
                answer(status=201, docker_content_digest=LAYER.digest) if s.method == "PUT" else answer(status=404)
            ],
        },
        "DigestMismatch",
        "stored manifest",
    ),
}


@pytest.mark.parametrize("case", UPLOADS)
def test_uploads(world: World, case: str) -> None:
    routes, error, said = UPLOADS[case]
    for path, answerer in routes.items():
        world.registry.routes[path] = lambda seen, answerer=answerer: answerer(world, seen)
    check(world, "push", error, said)
    assert world.elsewhere.seen == []


def member(name: str, **changes: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = 4
    for key, value in changes.items():
        setattr(info, key, value)
    return info, b"evil"[: info.size]


INSIDE = {
    "a path upwards": member("../evil"),
    "a path from the root": member("/evil"),
    "a link": member("link", type=tarfile.SYMTYPE, linkname="/etc/passwd", size=0),
    "a hard link": member("link", type=tarfile.LNKTYPE, linkname="../../auth.json", size=0),
    "a device": member("null", type=tarfile.CHRTYPE, size=0),
    "a pipe": member("pipe", type=tarfile.FIFOTYPE, size=0),
    "a hidden file": member(".bashrc"),
    "a bomb": member("bomb", size=1 << 33),
}


@pytest.mark.parametrize("case", INSIDE)
def test_archives(world: World, case: str) -> None:
    packed = pack_firmware(replace(tiny_firmware()))
    blobs = {descriptor.media_type: (descriptor, content) for descriptor, content in packed.blobs}
    info, content = INSIDE[case]
    buffer = io.BytesIO()
    buffer.write(info.tobuf(tarfile.USTAR_FORMAT if info.size < 1 << 33 else tarfile.GNU_FORMAT))
    buffer.write(content.ljust(512, b"\0") + bytes(1024))
    evil = Content(media_types.HDL, buffer.getvalue())
    data = json.loads(packed.blobs[-1][1])
    data["layers"] = [evil.describe() if d["mediaType"] == media_types.HDL else d for d in data["layers"]]
    world.registry.hold(*(Content(d.media_type, c) for d, c in blobs.values()), evil)
    world.registry.hold(Content(media_types.MANIFEST, json.dumps(data).encode()))
    result = world.run("load", world.name)
    assert result["error"] == "ManifestInvalid", result
    assert result["mib"] < MIB
    assert {path.name for path in world.home.iterdir()} <= {"auth.json", "store"}


# The other side: what is slow, broken once or busy for a moment is not refused


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
