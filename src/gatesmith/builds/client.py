"""A build service's client: what a local build needs, asked of another machine."""

# Ref: WHATWG HTML, "Server-sent events": lines of a field and a value, an empty one ends an event

from __future__ import annotations

import hashlib
import json
import ssl
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpcore

from gatesmith.aim import Aim
from gatesmith.artifact.store import Store
from gatesmith.builds.job import error_of, unpack_layout
from gatesmith.builds.order import Order
from gatesmith.client.transport import unreadable_authority
from gatesmith.errors import BuildCancelled, BuildError, BuildLost, ModelUnreadable, ServerUnreachable
from gatesmith.firmware import Firmware
from gatesmith.frontends import default_name, model_content

__all__ = ["BuildClient", "file_digest", "order_of"]

MAX_ANSWER_BYTES = 1 << 30
PATIENCE_S = 120.0
ENDS = {"done", "failed", "cancelled"}
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
TIMEOUTS = {"connect": 10.0, "read": 60.0, "write": 60.0, "pool": 10.0}


def file_digest(path: Path) -> str:
    """``sha256:`` of a file's content.

    Raises
    ------
    ModelUnreadable
    """
    return _digest(_content(path))


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def order_of(
    model: Path,
    board: str,
    *,
    calibration: Path | None = None,
    precision: int | str | Aim = 8,
    engine: str = "auto",
    clock_hz: int | None = None,
    seed: int = 1,
    name: str | None = None,
) -> Order:
    """The order of a build of local files; an aim's labels are a file too.

    Raises
    ------
    BuildError, BoardNotFound, ModelUnreadable
    """
    aim = precision if isinstance(precision, Aim) else Aim(precision=precision)
    labels = None if aim.labels is None else _labels_file(aim.labels)
    return Order(
        model=_digest(model_content(model)),
        model_file=model.name,
        name=name or default_name(model),
        board=board,
        calibration=file_digest(calibration) if calibration else "",
        calibration_file=calibration.name if calibration else "",
        labels=file_digest(labels) if labels else "",
        labels_file=labels.name if labels else "",
        precision=aim.precision,
        tolerance=aim.tolerance,
        max_error=aim.max_error,
        prune=aim.prune,
        engine=engine,
        clock_hz=clock_hz or 0,
        seed=seed,
    )


class BuildClient:
    """Talks to one build service; blocks; not for several threads at once.

    Parameters
    ----------
    url : str
        ``http://host:port`` or ``https://host:port``.
    ca : Path, optional
        PEM file with further certificates to trust.
    """

    def __init__(self, url: str, *, token: str = "", ca: Path | None = None) -> None:
        self.url = url.rstrip("/")
        if not _is_url(self.url):
            raise ServerUnreachable(f"{url!r} is no URL of a build service; http://HOST:PORT is needed", url=url)
        try:
            trust = ssl.create_default_context(cafile=ca) if self.url.startswith("https://") else None
        except OSError as error:  # ssl.SSLError is one
            raise unreadable_authority(str(ca), error) from error
        self._pool = httpcore.ConnectionPool(ssl_context=trust, max_connections=2)
        self._headers = [("authorization", f"Bearer {token}")] if token else []

    def __enter__(self) -> BuildClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def submit(self, order: Order, files: Mapping[str, Path], *, again: bool = False) -> dict[str, Any]:
        """Ask for a build; files that the service lacks are uploaded.

        Parameters
        ----------
        files : mapping of str to Path
            The order's files by digest.

        Returns
        -------
        dict
            The build, with ``id``, ``state`` and ``new``.

        Raises
        ------
        ServerUnreachable, AuthenticationFailed, QuotaExceeded, BuildError, LimitExceeded
        """
        body = json.dumps({"order": order.to_json(), "again": again}).encode()
        found = self._json("GET", f"/v1/builds/{order.digest.removeprefix('sha256:')}", allow={404})
        if found is None or self._build(found)["state"] not in {"queued", "running", "done"}:
            for digest, path in files.items():
                if self._json("GET", f"/v1/files/{digest}", allow={404}) is None:
                    content = model_content(path) if digest == order.model else _content(path)
                    self._json("PUT", f"/v1/files/{digest}", body=content)
        return self._build(self._json("POST", "/v1/builds", body=body))

    def watch(self, id: str) -> Iterator[dict[str, Any]]:
        """What happens to a build until it has ended: dictionaries with ``kind`` and its facts.

        Kinds are state, progress and line; and alive, which says that nothing happened for some seconds. A service that
        restarts is waited for, and nothing is told twice.

        Raises
        ------
        ServerUnreachable
            When it stays away for two minutes.
        """
        last, away_since, pause_s = 0, 0.0, FIRST_PAUSE_S
        while True:
            try:
                is_over = self.get(id)["state"] in ENDS
                away_since, pause_s = 0.0, FIRST_PAUSE_S
                for number, event in self._events(id, last):
                    last = max(last, number)
                    yield event
                if is_over:
                    return
            except ServerUnreachable:
                away_since = away_since or time.monotonic()
                if time.monotonic() > away_since + PATIENCE_S:
                    raise
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def result(self, id: str) -> dict[str, Any]:
        """The result of a build that has ended.

        Raises
        ------
        BuildCancelled, BuildLost
        ModelError, BuildError
            What the build ended with.
        """
        record = self.get(id)
        if record["state"] == "done" and isinstance(record["result"], dict):
            return record["result"]
        if record["state"] == "cancelled":
            raise BuildCancelled(str((record["error"] or {}).get("message", "the build was cancelled")), id=id)
        if record["error"]:
            raise error_of(record["error"])
        raise BuildLost(f"build {id[:12]} is {record['state']}, it has no result yet", id=id)

    def get(self, id: str) -> dict[str, Any]:
        """A build as it stands."""
        return self._build(self._json("GET", f"/v1/builds/{id}"))

    def list(self) -> list[dict[str, Any]]:
        """Builds, the newest first."""
        answer = self._json("GET", "/v1/builds")
        found = answer.get("builds") if isinstance(answer, dict) else None
        if not isinstance(found, list):
            raise self._stranger()
        return [self._build(one) for one in found]

    def cancel(self, id: str) -> dict[str, Any]:
        """End a build."""
        return self._build(self._json("POST", f"/v1/builds/{id}/cancel"))

    def fetch(self, id: str, folder: Path) -> None:
        """Write the firmware of a build that is done into a folder, as an OCI layout."""
        status, content = self._request("GET", f"/v1/builds/{id}/firmware")
        if status != 200:
            raise _refusal(self.url, status, content)
        unpack_layout(content, folder)

    def firmware(self, id: str, order: Order, model: bytes) -> Firmware:
        """The firmware of a build that is done, checked against the order and this machine's policy, with its model.

        Raises
        ------
        BuildError
            When it is not what was ordered.
        ArtifactError
        """
        with tempfile.TemporaryDirectory(prefix="gatesmith-") as folder:
            self.fetch(id, Path(folder))
            store = Store(Path(folder))
            entries = store.list()
            if len(entries) != 1:
                raise BuildError(f"{self.url} sent {len(entries)} artifacts, one was asked for", url=self.url)
            firmware = store.load(entries[0].reference, board=order.board)
        if firmware.model_digest != order.model or firmware.board != order.board:
            raise BuildError(
                f"{self.url} sent firmware of model {firmware.model_digest[:19]} for {firmware.board}, "
                f"{order.model[:19]} for {order.board} was asked for",
                url=self.url,
            )
        return replace(firmware, model_file=(order.model_file, model))

    def _json(self, method: str, path: str, *, body: bytes | None = None, allow: set[int] | None = None) -> Any:
        status, content = self._request(method, path, body)
        if status in (allow or ()):
            return None
        if status >= 400:
            raise _refusal(self.url, status, content)
        try:
            return json.loads(content)
        except ValueError as error:
            raise self._stranger() from error

    def _build(self, data: Any) -> dict[str, Any]:
        facts = data if isinstance(data, dict) else {}
        if not isinstance(facts.get("id"), str) or not isinstance(facts.get("state"), str):
            raise self._stranger()
        return {"result": None, "error": None, **facts}

    def _stranger(self) -> ServerUnreachable:
        return ServerUnreachable(f"{self.url} does not answer as a build service does; check the URL", url=self.url)

    def _request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        with self._stream(method, path, body) as response:
            content = bytearray()
            for part in response.iter_stream():
                content += part
                if len(content) > MAX_ANSWER_BYTES:
                    raise ServerUnreachable(f"{self.url} answers with more than {MAX_ANSWER_BYTES} bytes", url=self.url)
        return response.status, bytes(content)

    def _events(self, id: str, after: int) -> Iterator[tuple[int, dict[str, Any]]]:
        with self._stream("GET", f"/v1/builds/{id}/events?after={after}") as response:
            if response.status != 200:
                raise _refusal(self.url, response.status, b"".join(response.iter_stream()))
            fields: dict[str, str] = {}
            for line in _lines(response.iter_stream()):
                if line.startswith(":"):
                    yield 0, {"kind": "alive"}
                elif line:
                    name, _, value = line.partition(":")
                    fields[name] = value.removeprefix(" ")
                elif "data" in fields:
                    yield self._event(fields)
                    fields = {}

    def _event(self, fields: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        try:
            return int(fields["id"]), {**json.loads(fields["data"]), "kind": fields["event"]}
        except (KeyError, TypeError, ValueError) as error:
            raise self._stranger() from error

    @contextmanager
    def _stream(self, method: str, path: str, body: bytes | None = None) -> Iterator[httpcore.Response]:
        try:
            with self._pool.stream(
                method, self.url + path, headers=self._headers, content=body, extensions={"timeout": TIMEOUTS}
            ) as response:
                yield response
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError) as error:
            words = " ".join(str(error).split()) or type(error).__name__
            raise ServerUnreachable(
                f"{self.url} does not answer: {words}; check that a build service runs there", url=self.url
            ) from error


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return url.isascii() and parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, an address that does not end
        return False


def _labels_file(labels: object) -> Path:
    if not isinstance(labels, str | Path):
        raise BuildError("labels for a build service are a file; write the array to a .npy file")
    return Path(labels)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelUnreadable(f"file {str(path)!r} cannot be read: {error.strerror}", path=str(path)) from error


def _lines(parts: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)


def _refusal(url: str, status: int, content: bytes) -> Exception:
    with suppress(ValueError, KeyError, TypeError):
        if isinstance(told := json.loads(content)["error"], dict):
            return error_of(told)
    return ServerUnreachable(f"{url} answered {status}: {content[:200].decode(errors='replace')}", url=url)
