"""A client process before a hostile registry: it does what a test says and measures itself."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmwares import tiny_firmware
from hostile import Content, HostileRegistry, manifest, running

from gatesmith.artifact.store import Store

__all__ = ["BLOB", "LAYER", "MIB", "World", "a_world", "check", "forever", "head", "served"]

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


@contextlib.contextmanager
def a_world(home: Path) -> Iterator[World]:
    """Start everything, and end it."""
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
            Store(home / "store").save("mine:v1", [tiny_firmware()])
            yield world
            client.kill()


def check(world: World, verb: str, error: str, said: str, *, reference: str = "") -> dict[str, Any]:
    """Run the client, and see that all of the promises hold."""
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


def head(length: int | None, status: int = 200, media_type: str = BLOB, extra: str = "") -> bytes:
    size = f"content-length: {length}\r\n" if length is not None else "connection: close\r\n"
    return f"HTTP/1.1 {status} x\r\ncontent-type: {media_type}\r\n{size}{extra}\r\n".encode()


def forever(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece
