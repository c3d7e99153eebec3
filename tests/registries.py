"""Real registries on this machine for tests: Debian's docker-registry, plain, with a password, with TLS."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["PASSWORD", "USER", "RealRegistry", "make_certificates", "real_registry", "skopeo"]

USER, PASSWORD = "lab", "a password: with colon"
HTPASSWD = f"{USER}:$2y$05$vDqjuOPDRtqs5TPPQMaKxe6MAT8dUgjFASFVQqTSxSn/fYSgVDkUu\n"


@dataclass(frozen=True)
class RealRegistry:
    """One that runs; ``log`` grows with every request."""

    address: str
    folder: Path
    log: Path

    def requests(self, method: str) -> int:
        """How many requests of a method were answered."""
        return self.log.read_text().count(f"http.request.method={method} ")


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
    folder: Path, *, htpasswd: str = "", certificate: tuple[Path, Path] | None = None
) -> Iterator[RealRegistry]:
    """Run one on a free port of this machine until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = ["version: 0.1", "log: {level: info, formatter: text}", "storage:"]
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
