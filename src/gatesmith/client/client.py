"""The client: one object, used by any number of threads, that hides retries, datatypes and the way to the server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import ArrayLike

from gatesmith.client.tensors import as_datatype
from gatesmith.client.transport import Arrays, Input, Request, Transport
from gatesmith.errors import DeadlineExceeded, GatesmithError, ModelNotReady, ServerUnreachable, TensorMismatch

__all__ = ["Client"]

T = TypeVar("T")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0
_LOOK_S = 0.05


class Client:
    """A server that speaks the Open Inference Protocol.

    Parameters
    ----------
    url : str
        ``http://host:port``, ``https://...``, or ``grpc://host:port`` and ``grpcs://...`` where grpcio is installed.
    token : str, optional
        Bearer token, which loading and unloading may need.
    timeout_s : float
        How long one call may take, tries and pauses included.
    tries : int
        How often a request is sent at most, when what went wrong may pass: inference changes nothing, so it is safe.
    connections : int
        How many connections are kept at most.
    ca_file : str, optional
        PEM file with the authority that signed the server's certificate; the system's ones without.

    Raises
    ------
    ServerUnreachable
        When the URL names no server, or the authority cannot be read.
    NotInstalled
        When it needs gRPC and grpcio is missing.

    Examples
    --------
    >>> with Client("http://localhost:8080") as client:      # doctest: +SKIP
    ...     client.infer("iris", {"x": np.zeros((1, 4), np.float32)})["y"]
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout_s: float = 60.0,
        tries: int = 3,
        connections: int = 32,
        ca_file: str | None = None,
    ) -> None:
        self._transport = _transport(url, token, connections, ca_file)
        self._timeout_s, self._tries = timeout_s, max(tries, 1)
        self._specs: dict[tuple[str, str | None], dict[str, str]] = {}
        self._lock = threading.Lock()

    def infer(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike] | ArrayLike,
        *,
        version: str | None = None,
        outputs: Sequence[str] | None = None,
        priority: int = 0,
        timeout_us: int = 0,
    ) -> Arrays:
        """Run a model.

        Parameters
        ----------
        inputs : mapping of str to array, or array
            Each of shape (batch, ...); a lone array is for a model with one input. Whole numbers may stand for floats.
        version : str, optional
            Short digest, whole digest or tag.
        outputs : sequence of str, optional
            Which outputs, in this order; all of them without.
        priority : int
            1 is the highest, 0 the server's default.
        timeout_us : int
            How long the request may wait for a device; 0: as long as it takes.

        Returns
        -------
        dict of str to ndarray, each of shape (batch, ...)

        Raises
        ------
        TensorMismatch, ModelNotFound, ModelNotReady, Overloaded, DeadlineExceeded, ServerUnreachable
        """
        key = (model, version)
        known = key in self._specs
        try:
            return self._infer(key, inputs, outputs or (), priority, timeout_us)
        except TensorMismatch:
            if not known:
                raise
        # What is remembered of the model may be of its last version.
        with self._lock:
            self._specs.pop(key, None)
        return self._infer(key, inputs, outputs or (), priority, timeout_us)

    def metadata(self, model: str | None = None, version: str | None = None) -> dict[str, Any]:
        """What the server says of itself, or of a model.

        Raises
        ------
        ModelNotFound, ServerUnreachable
        """
        if model is None:
            return self._tried(self._transport.server)
        return self._tried(lambda left_s: self._transport.model(model, version, left_s))

    def ready(self, model: str | None = None, version: str | None = None) -> bool:
        """Whether a model, or every model, can answer; a server that cannot be reached is not ready either.

        Raises
        ------
        ModelNotFound
        """
        return self._ready(model, version, self._timeout_s)

    def wait_ready(self, timeout_s: float, model: str | None = None, version: str | None = None) -> None:
        """Wait until a model, or every model, can answer.

        Raises
        ------
        ModelNotReady
            When the time is over.
        ModelNotFound
        """
        end = time.monotonic() + timeout_s
        while not self._ready(model, version, min(max(end - time.monotonic(), 0.001), self._timeout_s)):
            if time.monotonic() + _LOOK_S > end:
                raise ModelNotReady(f"{model or 'the server'} did not become ready in {timeout_s:g} s", model=model)
            time.sleep(_LOOK_S)

    def load(self, model: str, **parameters: str | int | bool) -> None:
        """Make a model of the server's repository ready.

        Raises
        ------
        ModelNotFound, ModelNotReady, TokenInvalid, AccessRefused, ServerUnreachable
        """
        self._transport.load(model, parameters, self._timeout_s)

    def unload(self, model: str) -> None:
        """Take a model off its devices once its requests are answered.

        Raises
        ------
        ModelNotFound, TokenInvalid, AccessRefused, ServerUnreachable
        """
        self._transport.unload(model, self._timeout_s)

    def index(self, *, ready_only: bool = False) -> list[dict[str, Any]]:
        """Every version that the server knows: name, version, state, reason."""
        return self._tried(lambda left_s: self._transport.index(ready_only, left_s))

    def statistics(self, model: str | None = None, version: str | None = None) -> list[dict[str, Any]]:
        """Counters of a model, or of all.

        Raises
        ------
        ModelNotFound, ServerUnreachable
        """
        return self._tried(lambda left_s: self._transport.statistics(model, version, left_s))

    def close(self) -> None:
        """Give connections back."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()

    def _ready(self, model: str | None, version: str | None, timeout_s: float) -> bool:
        try:
            return self._transport.ready(model, version, timeout_s)
        except ServerUnreachable:
            return False

    def _infer(
        self, key: tuple[str, str | None], inputs: Any, outputs: Sequence[str], priority: int, timeout_us: int
    ) -> Arrays:
        request = Request(
            model=key[0],
            version=key[1],
            inputs=_inputs(self._spec(key), inputs),
            outputs=outputs,
            priority=priority,
            timeout_us=timeout_us,
        )
        return self._tried(lambda left_s: self._transport.infer(request, left_s))

    def _spec(self, key: tuple[str, str | None]) -> dict[str, str]:
        """Datatypes of a model's inputs, asked for once."""
        found = self._specs.get(key)
        if found is None:
            found = {tensor["name"]: tensor["datatype"] for tensor in self.metadata(*key)["inputs"]}
            with self._lock:
                self._specs[key] = found
        return found

    def _tried(self, call: Callable[[float], T]) -> T:
        """Call until it works, the error is one that stays, or tries or time are used up."""
        end, number = time.monotonic() + self._timeout_s, 0
        while True:
            number += 1
            try:
                return call(max(end - time.monotonic(), 0.001))
            except GatesmithError as error:
                pause_s = _pause_s(error, number)
                final = number >= self._tries or time.monotonic() + pause_s >= end
                if final or not error.retryable or isinstance(error, DeadlineExceeded):
                    raise
            time.sleep(pause_s)


def _pause_s(error: GatesmithError, number: int) -> float:
    """What the server asked for; else longer each time, and different for each client."""
    asked = error.facts.get("retry_after_s")
    if isinstance(asked, int | float):
        return min(float(asked), _LONGEST_PAUSE_S)
    spread = 0.5 + time.monotonic_ns() // 1000 % 1000 / 2000
    return float(_FIRST_PAUSE_S * 2**number * spread)


def _inputs(spec: Mapping[str, str], inputs: Any) -> list[Input]:
    if not isinstance(inputs, Mapping):
        if len(spec) != 1:
            raise TensorMismatch(f"the model has inputs {list(spec)}; give a mapping with these names")
        inputs = {next(iter(spec)): inputs}
    unknown = [name for name in inputs if name not in spec]
    if unknown:
        raise TensorMismatch(f"the model has no input {unknown[0]!r}; its inputs are {list(spec)}", tensor=unknown[0])
    return [Input(name, spec[name], as_datatype(name, spec[name], np.asarray(array))) for name, array in inputs.items()]


def _transport(url: str, token: str | None, connections: int, ca_file: str | None) -> Transport:
    try:
        parts = urlsplit(url)
        known = (
            url.isascii()
            and bool(parts.hostname)
            and parts.scheme in {"http", "https", "grpc", "grpcs"}
            and parts.port != 0
        )
    except ValueError:  # a port that is none, an address that does not end
        known = False
    if not known:
        raise ServerUnreachable(f"{url!r} names no server; give http://HOST:PORT or grpc://HOST:PORT", url=url)
    if parts.scheme.startswith("grpc"):
        from gatesmith.client.grpc import GrpcTransport

        return GrpcTransport(parts.netloc, secure=parts.scheme == "grpcs", token=token, ca_file=ca_file)
    from gatesmith.client.http import HttpTransport

    base = url.rstrip("/").removesuffix("/v2")
    return HttpTransport(base, token=token, connections=connections, ca_file=ca_file)
