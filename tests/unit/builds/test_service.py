"""The service's door and its process, as far as nothing is built."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from gatesmith.artifact.policy import UNCHECKED
from gatesmith.artifact.store import Store
from gatesmith.builds.access import Access, read_tokens
from gatesmith.builds.blobs import Blobs
from gatesmith.builds.depot import Depot
from gatesmith.builds.foreman import Foreman
from gatesmith.builds.local import LocalBuilder
from gatesmith.builds.queue import Queue
from gatesmith.builds.server import BuildServer, Listening
from gatesmith.builds.service import service_app
from gatesmith.errors import ServerNotStarted

TOKEN = "a-token-of-tests"


def ask(folder: Path, access: Access, method: str, path: str, **more: Any) -> httpx.Response:
    async def main() -> httpx.Response:
        blobs, queue = Blobs(folder / "files"), Queue(folder / "queue.sqlite")
        foreman = Foreman(queue, blobs, depot(folder), LocalBuilder(), folder / "work")
        transport = httpx.ASGITransport(service_app(foreman, blobs, access))
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                return await client.request(method, path, **more)
        finally:
            queue.close()

    return asyncio.run(main())


def depot(folder: Path) -> Depot:
    return Depot(store=Store(folder / "store", policy=UNCHECKED))


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/builds"), ("POST", "/v1/builds"), ("POST", "/v1/builds/x/cancel")]
)
def test_web_pages_do_not_use_a_service_without_tokens(method: str, path: str, tmp_path: Path) -> None:
    page = {"origin": "http://evil.example", "content-type": "text/plain"}
    answer = ask(tmp_path, Access({}), method, path, headers=page)
    assert answer.status_code == 403
    assert "Origin" in answer.json()["error"]["message"]
    (tmp_path / "tokens").write_text(f"anna {TOKEN}\n")
    known = {**page, "authorization": f"Bearer {TOKEN}"}
    assert ask(tmp_path, read_tokens(tmp_path / "tokens"), "GET", "/v1/builds", headers=known).status_code == 200


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "9" * 5000, "\u0663"])
def test_limits_that_are_none(limit: str, tmp_path: Path) -> None:
    answer = ask(tmp_path, Access({}), "GET", "/v1/builds", params={"limit": limit})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("limit is '")


def test_a_second_service_leaves_the_uploads_of_the_first(tmp_path: Path) -> None:
    upload = tmp_path / "files" / ".upload"
    first = BuildServer(tmp_path, LocalBuilder(), depot(tmp_path), Listening(port=0))
    upload.write_bytes(b"part of a model")

    def try_another(_url: str) -> None:
        assert not upload.exists()  # of a service that was killed
        upload.write_bytes(b"part of a model")
        second = BuildServer(tmp_path, LocalBuilder(), depot(tmp_path), Listening(port=0))
        try:
            with pytest.raises(ServerNotStarted, match="another build service works in"):
                second.run()
            seen.append(upload.read_bytes())
        finally:
            first.stop()

    seen: list[bytes] = []
    first.run(try_another)
    assert seen == [b"part of a model"]


def test_a_certificate_that_is_none_is_told(tmp_path: Path) -> None:
    noise = tmp_path / "noise.pem"
    noise.write_text("no certificate")
    listening = Listening(port=0, tls_certificate=noise, tls_key=noise)
    with pytest.raises(ServerNotStarted, match=r"the TLS certificate .*noise\.pem and key .* cannot be used"):
        BuildServer(tmp_path, LocalBuilder(), depot(tmp_path), listening).run()
