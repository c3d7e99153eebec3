"""Real registries on this machine for tests: Debian's docker-registry, plain, with a password, with TLS."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from ports import free_port

from gatesmith.artifact import media_types
from gatesmith.artifact.descriptor import Descriptor
from gatesmith.artifact.layout import Layout
from gatesmith.artifact.reference import Reference

__all__ = [
    "HTPASSWD",
    "PASSWORD",
    "USER",
    "RealRegistry",
    "artifact",
    "document",
    "make_certificates",
    "real_registry",
]
__all__ += ["skopeo"]

USER, PASSWORD = "lab", "a password: with colon"
HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuun4inzDyJ/ju.XxqdYPfFpACpwzO6WhS\n"  # bcrypt of PASSWORD


@dataclass(frozen=True)
class RealRegistry:
    """One that runs; ``log`` grows with every request."""

    address: str
    folder: Path
    log: Path

    def requests(self, *methods: str, of: str = "") -> int:
        """How many requests of these methods there were, of all or of paths that hold ``of``."""
        lines = self.log.read_text().splitlines()
        return sum(any(f'] "{method} ' in line for method in methods) and of in line for line in lines)


def program() -> str:
    """Path of docker-registry: on PATH, or where scripts/setup.sh unpacks it."""
    beside = Path(sys.executable).parent / "docker-registry"
    found = str(beside) if beside.is_file() else shutil.which("docker-registry")
    if not found and os.environ.get("GATESMITH_REQUIRE_TOOLS") == "1":
        pytest.fail("docker-registry is not installed")
    if not found:
        pytest.skip("docker-registry is not installed")
    return found


@contextmanager
def real_registry(
    folder: Path, *, htpasswd: str = "", certificate: tuple[Path, Path] | None = None, port: int = 0
) -> Iterator[RealRegistry]:
    """Run one on a free port of this machine, or a given one, until the block ends; the folder keeps its content."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    lines = ["version: 0.1", "log: {level: info, formatter: text, accesslog: {disabled: false}}", "storage:"]
    lines += [f"  filesystem: {{rootdirectory: {folder}/data}}", "  delete: {enabled: true}"]
    lines += ["http:", f"  addr: 127.0.0.1:{port}", "  secret: tests"]
    if certificate:
        lines += [f"  tls: {{certificate: {certificate[0]}, key: {certificate[1]}}}"]
    if htpasswd:
        (folder / "htpasswd").write_text(htpasswd)
        lines += ["auth:", f"  htpasswd: {{realm: tests, path: {folder}/htpasswd}}"]
    (folder / "config.yml").write_text("\n".join(lines) + "\n")
    log = folder / "log"
    command = [program(), "serve", str(folder / "config.yml")]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _wait(process, port, log=log)
        yield RealRegistry(address=f"127.0.0.1:{port}", folder=folder, log=log)
    finally:
        process.kill()
        process.wait(30)


def _wait(process: subprocess.Popen[bytes], port: int, *, log: Path) -> None:
    """Until it answers; one with TLS answers without TLS too, that it wants TLS."""
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        try:
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            line.request("GET", "/v2/")
            line.getresponse().read()
            line.close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    pytest.fail(f"docker-registry does not start: {log.read_text()[-500:]}")


def make_certificates(folder: Path) -> tuple[Path, tuple[Path, Path]]:
    """A CA, and a certificate of it for 127.0.0.1 with its key."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
    for arguments in (
        ["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test CA"],
        ["req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1"],
        ["x509", "-req", *sign, "-in", "server.csr", "-out", "server.pem", "-days", "2", "-extfile", "san"],
    ):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=30)
    return folder / "ca.pem", (folder / "server.pem", folder / "server.key")


def skopeo(*arguments: str) -> bytes:
    """Run skopeo; its words are the assertion's message when it fails."""
    done = subprocess.run(["skopeo", "--insecure-policy", *arguments], capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def document(
    layout: Layout, *layers: bytes, config: bytes = b"{}", subject: Descriptor | None = None, **more: object
) -> Descriptor:
    """Put a manifest with these layers, of types that nobody knows, into a layout."""
    descriptors = [Descriptor.of("application/vnd.unknown.layer.v7", layer) for layer in layers]
    config_descriptor = Descriptor.of("application/vnd.unknown.config.v7+json", config)
    for descriptor, content in zip([config_descriptor, *descriptors], [config, *layers], strict=True):
        layout.put(descriptor, content)
    data: dict[str, object] = {"schemaVersion": 2, "mediaType": media_types.MANIFEST, **more}
    data |= {"config": config_descriptor.to_json(), "layers": [d.to_json() for d in descriptors]}
    if subject:
        data["subject"] = Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size).to_json()
    return _put(layout, media_types.MANIFEST, data)


def artifact(layout: Layout, name: str, *manifests: Descriptor, **more: object) -> Descriptor:
    """Put an index over manifests into a layout, under a name."""
    data: dict[str, object] = {"schemaVersion": 2, "mediaType": media_types.INDEX, **more}
    top = _put(layout, media_types.INDEX, data | {"manifests": [m.to_json() for m in manifests]})
    layout.tag(Reference.parse(name), top)
    return top


def _put(layout: Layout, media_type: str, data: dict[str, object]) -> Descriptor:
    content = json.dumps(data, indent=3).encode()  # not our canonical form: bytes have to stay as they are
    descriptor = Descriptor.of(media_type, content)
    layout.put(descriptor, content)
    return descriptor
