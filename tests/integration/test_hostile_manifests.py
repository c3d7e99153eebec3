"""What a hostile registry can send as manifests and indexes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hostile import Content, answer, chunked, index, manifest
from hostile_client import BLOB, LAYER, World, check, forever

from gatesmith.artifact import media_types


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
