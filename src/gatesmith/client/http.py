"""The way over HTTP: JSON for what people read, binary tensors for what models read, on connections that are kept."""

# Ref: Open Inference Protocol v2, inference_rest.md; Triton binary tensor data, model repository, statistics extensions
# Ref: RFC 9110 section 10.2.3 Retry-After

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import httpcore
import numpy as np

from gatesmith import errors
from gatesmith.client.tensors import array_of, raw_of
from gatesmith.client.transport import Arrays, Request, unreadable_authority
from gatesmith.errors import GatesmithError, ServerUnreachable
from gatesmith.tensor import Datatype

__all__ = ["HttpTransport"]

_KEPT_S = 60.0  # our server closes idle connections after 75
_HEADER_LENGTH = "inference-header-content-length"
_ERRORS: dict[int, type[GatesmithError]] = {
    400: errors.TensorMismatch,
    401: errors.TokenInvalid,
    403: errors.AccessRefused,
    404: errors.ModelNotFound,
    408: errors.ServerUnreachable,
    413: errors.TensorMismatch,
    429: errors.Overloaded,
    502: errors.ServerUnreachable,
    503: errors.ModelNotReady,
    504: errors.DeadlineExceeded,
}


class HttpTransport:
    """One server over HTTP or HTTPS.

    Parameters
    ----------
    url : str
        Scheme, host and port, and a path before ``/v2`` where there is one.
    """

    def __init__(self, url: str, *, token: str | None, connections: int, ca_file: str | None) -> None:
        self._url = url
        try:
            context = ssl.create_default_context(cafile=ca_file) if url.startswith("https:") else None
        except OSError as error:  # ssl.SSLError is one
            raise unreadable_authority(str(ca_file), error) from error
        self._headers = [("authorization", f"Bearer {token}")] if token else []
        self._pool = httpcore.ConnectionPool(ssl_context=context, max_connections=connections, keepalive_expiry=_KEPT_S)

    def infer(self, request: Request, timeout_s: float) -> Arrays:
        """Run a model."""
        parts = [raw_of(tensor.datatype, tensor.array) for tensor in request.inputs]
        head: dict[str, Any] = {
            "inputs": [
                {
                    "name": tensor.name,
                    "datatype": tensor.datatype,
                    "shape": list(tensor.array.shape),
                    "parameters": {"binary_data_size": len(part)},
                }
                for tensor, part in zip(request.inputs, parts, strict=True)
            ],
            "parameters": {"binary_data_output": True},
        }
        if request.outputs:
            head["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in request.outputs]
        if request.priority:
            head["parameters"]["priority"] = request.priority
        if request.timeout_us:
            head["parameters"]["timeout"] = request.timeout_us
        text = json.dumps(head).encode()
        headers = [("content-type", "application/octet-stream"), (_HEADER_LENGTH, str(len(text)))]
        path = f"{_model_path(request.model, request.version)}/infer"
        answer = self._send("POST", path, b"".join([text, *parts]), headers, timeout_s)
        arrays: Arrays = self._understood(_tensors, answer)
        return arrays

    def server(self, timeout_s: float) -> dict[str, Any]:
        """The server's metadata."""
        found: dict[str, Any] = self._json("GET", "/v2", None, timeout_s)
        return found

    def model(self, name: str, version: str | None, timeout_s: float) -> dict[str, Any]:
        """A model's metadata."""
        found: dict[str, Any] = self._understood(_model, self._json("GET", _model_path(name, version), None, timeout_s))
        return found

    def ready(self, name: str | None, version: str | None, timeout_s: float) -> bool:
        """Whether a model, or with no name every model, can answer."""
        path = f"{_model_path(name, version)}/ready" if name else "/v2/health/ready"
        try:
            self._send("GET", path, b"", [], timeout_s)
        except errors.ModelNotReady:
            return False
        return True

    def load(self, name: str, parameters: Mapping[str, Any], timeout_s: float) -> None:
        """Make a model ready."""
        self._json("POST", f"/v2/repository/models/{quote(name, safe='')}/load", {"parameters": parameters}, timeout_s)

    def unload(self, name: str, timeout_s: float) -> None:
        """Take a model off its devices."""
        self._json("POST", f"/v2/repository/models/{quote(name, safe='')}/unload", {}, timeout_s)

    def index(self, ready_only: bool, timeout_s: float) -> list[dict[str, Any]]:
        """What the repository holds."""
        found: list[dict[str, Any]] = self._json("POST", "/v2/repository/index", {"ready": ready_only}, timeout_s)
        return found

    def statistics(self, name: str | None, version: str | None, timeout_s: float) -> list[dict[str, Any]]:
        """Counters of one model, or of all."""
        path = f"{_model_path(name, version)}/stats" if name else "/v2/models/stats"
        found: list[dict[str, Any]] = self._understood(
            lambda answer: answer["model_stats"], self._json("GET", path, None, timeout_s)
        )
        return found

    def close(self) -> None:
        """Give connections back."""
        self._pool.close()

    def _json(self, method: str, path: str, content: Any, timeout_s: float) -> Any:
        body = b"" if content is None else json.dumps(content).encode()
        headers = [("content-type", "application/json")] if body else []
        answer = self._send(method, path, body, headers, timeout_s)
        return self._understood(lambda response: json.loads(response.content or b"{}"), answer)

    def _send(
        self, method: str, path: str, body: bytes, headers: list[tuple[str, str]], timeout_s: float
    ) -> httpcore.Response:
        times = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)}
        try:
            answer = self._pool.request(
                method, f"{self._url}{path}", headers=[*headers, *self._headers], content=body, extensions=times
            )
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
            raise ServerUnreachable(
                f"{self._url} cannot be used: {str(error) or type(error).__name__}; check that a server runs there",
                url=self._url,
            ) from error
        except httpcore.TimeoutException as error:
            raise ServerUnreachable(f"{self._url} did not answer in {timeout_s:.3g} s", url=self._url) from error
        if answer.status >= 300:
            raise self._error(answer)
        return answer

    def _understood(self, read: Callable[[Any], Any], answer: Any) -> Any:
        try:
            return read(answer)
        except (KeyError, TypeError, ValueError) as error:
            raise ServerUnreachable(
                f"{self._url} does not answer as the protocol says ({error!r}); check the URL", url=self._url
            ) from error

    def _error(self, answer: httpcore.Response) -> GatesmithError:
        try:
            words = str(json.loads(answer.content)["error"])
        except (ValueError, KeyError, TypeError):
            words = answer.content[:200].decode(errors="replace") or "nothing"
        kind = _ERRORS.get(answer.status, errors.InferenceError)
        facts: dict[str, Any] = {"status": answer.status, "url": self._url}
        after = dict(answer.headers).get(b"retry-after", b"")
        if after.isdigit():
            facts["retry_after_s"] = int(after)
        return kind(f"{self._url} answered {answer.status}: {words}", **facts)


def _model_path(name: str, version: str | None) -> str:
    path = f"/v2/models/{quote(name, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _model(metadata: Any) -> Any:
    for tensor in (*metadata["inputs"], *metadata["outputs"]):
        Datatype(tensor["datatype"]), str(tensor["name"]), list(tensor["shape"])
    return metadata


def _tensors(answer: httpcore.Response) -> Arrays:
    headers = {name.lower(): value for name, value in answer.headers}
    size = int(headers.get(_HEADER_LENGTH.encode(), len(answer.content)))
    raw = memoryview(answer.content)[size:]
    arrays, place = {}, 0
    for output in json.loads(answer.content[:size])["outputs"]:
        name, datatype, shape = output["name"], output["datatype"], output["shape"]
        count = (output.get("parameters") or {}).get("binary_data_size")
        if count is None:
            arrays[name] = np.array(output["data"], Datatype(datatype).dtype).reshape(shape)
            continue
        arrays[name] = array_of(datatype, shape, raw[place : place + count])
        place += count
    return arrays
