"""Lists without end, uploads that go wrong, and archives that would write elsewhere."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from firmwares import tiny_firmware
from hostile import Content, Seen, answer, index, manifest
from hostile_client import BLOB, LAYER, MIB, World, check

from gatesmith.artifact import media_types
from gatesmith.artifact.manifest import pack_firmware
from gatesmith.artifact.store import Store

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
    world.registry.respond = lambda seen: referrers(seen) if "/referrers/" in seen.path else respond(seen)
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
