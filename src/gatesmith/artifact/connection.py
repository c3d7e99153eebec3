"""HTTP exchanges with one registry: authentication, redirects, time limits, tries, and errors that are ours.

Passwords and tokens go to the registry's own origin, and to a token server that :mod:`~gatesmith.artifact.challenge`
allows. Redirects are followed for reading only, a few times, never away from TLS, and without authorization elsewhere.
"""

# Ref: OCI distribution-spec 1.1; distribution "Token Authentication Specification", "OAuth2 Token Authentication"
# Ref: RFC 9110 sections 15.4 (redirects) and 11.6 (authentication)

from __future__ import annotations

import contextlib
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit, urlunsplit

import httpcore

from gatesmith.artifact.answer import Answer, plain, refusal
from gatesmith.artifact.challenge import Challenge, check_realm, parse_challenges
from gatesmith.artifact.credentials import Credential, find_credential
from gatesmith.artifact.network import Clock, make_pool, trust
from gatesmith.artifact.patience import Limits, Patience, retry_after_s
from gatesmith.errors import AuthenticationFailed, LimitExceeded, RegistryRefused, RegistryUnreachable

__all__ = ["TRANSIENT", "Access", "Body", "Connection"]

MAX_REDIRECTS = 5
MAX_PLACES = 16
MAX_WORDS_BYTES = 64 << 10
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=:-]{1,16384}")
_HUB = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
Body = Callable[[], Iterable[bytes]]
"""Makes the content of a request anew for every try."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """How registries are reached.

    Parameters
    ----------
    plain_http : bool
        Without TLS; never chosen without being asked for, not even for this machine.
    ca : Path, optional
        A PEM file with further certificates to trust.
    realms : tuple of str
        Hosts of token servers that may see passwords beside the registry's own.
    """

    plain_http: bool = False
    ca: Path | None = None
    realms: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    pause: Callable[[float], None] = time.sleep


class Connection:
    """Exchanges with one registry, for several threads at once."""

    def __init__(self, registry: str, access: Access) -> None:
        self.registry, self.access = registry, access
        scheme = "http" if access.plain_http else "https"
        self.base = f"{scheme}://{_HUB.get(registry, registry)}"
        self._clock, self._lock = Clock(), threading.Lock()
        self._pools: dict[tuple[str, str], httpcore.ConnectionPool] = {}
        self._context: ssl.SSLContext | None = None
        self._authorizations: dict[str, str] = {}

    def close(self) -> None:
        """End all connections."""
        with self._lock:
            for pool in self._pools.values():
                pool.close()
            self._pools.clear()

    def patience(self) -> Patience:
        """The tries of a new operation."""
        return Patience(self.access.limits, pause=self.access.pause)

    def call(
        self,
        method: str,
        url: str,
        *,
        scope: str,
        good: Collection[int],
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        most_bytes: int = MAX_WORDS_BYTES,
        what: str = "",
    ) -> Answer:
        """One small exchange, tried again as long as that may help.

        Raises
        ------
        ArtifactNotFound, AuthenticationFailed, LimitExceeded, RegistryRefused, RegistryUnreachable
        """
        patience = self.patience()

        def attempt() -> Answer:
            with self.exchange(method, url, scope=scope, headers=headers, body=body, patience=patience) as (head, raw):
                # the length that a HEAD is told is that of content that does not come
                return head if method == "HEAD" else replace(head, content=self._read(head, raw, most_bytes, good))

        return self._repeat(attempt, patience, good, what)

    @contextlib.contextmanager
    def exchange(
        self,
        method: str,
        url: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        patience: Patience,
    ) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        """One exchange, tried once: the answer's head, and its content as it comes in.

        Raises
        ------
        AuthenticationFailed, RegistryRefused, RegistryUnreachable
        """
        url = urljoin(self.base, url)
        authorized, redirects = False, 0
        while True:
            own = _origin(url) == _origin(self.base)
            sent = dict(headers or {})
            known = self._authorizations.get(scope)
            if own and known:
                sent["authorization"] = known
            with self._send(method, url, sent, body, patience) as (answer, raw, challenges):
                if answer.status == 401 and own and not authorized:
                    authorized = True
                elif answer.status in {301, 302, 303, 307, 308} and "location" in answer.headers:
                    redirects += 1
                    url = self._next(method, answer, redirects)
                    continue
                else:
                    yield answer, raw
                    return
            self._authorize(challenges, scope, patience)

    def target(self, answer: Answer) -> str:
        """Where an answer's ``Location`` sends what follows, checked.

        Raises
        ------
        RegistryRefused
        """
        location = answer.headers.get("location", "")
        if not location or not location.isascii() or not location.isprintable() or " " in location:
            raise self._odd("names a location that is not a URL")
        try:
            url = urljoin(answer.url, location)
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise self._odd("names a location that is not a URL") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
            raise self._odd("names a location that is not a URL")
        if parts.scheme == "http" and _origin(url) != _origin(self.base):
            raise self._odd(f"sends on to {parts.hostname} without TLS")
        return urlunsplit(parts._replace(fragment=""))

    def _repeat(self, attempt: Callable[[], Answer], patience: Patience, good: Collection[int], what: str) -> Answer:
        while True:
            try:
                answer = attempt()
            except RegistryUnreachable as error:
                if error.facts.get("final"):
                    raise
                patience.wait(error)
                continue
            if answer.status in good:
                return answer
            failure = refusal(self.registry, answer, what)
            if answer.status not in TRANSIENT:
                raise failure
            patience.wait(failure, wanted_s=retry_after_s(answer.headers.get("retry-after", "")))

    def expect(self, answer: Answer, raw: Iterator[bytes], good: Collection[int], what: str) -> Answer:
        """The whole of a short answer, when its status is among the good ones.

        Raises
        ------
        ArtifactNotFound, AuthenticationFailed, RegistryRefused, RegistryUnreachable
        """
        whole = replace(answer, content=self._read(answer, raw, MAX_WORDS_BYTES, good))
        if whole.status not in good:
            raise refusal(self.registry, whole, what)
        return whole

    def _next(self, method: str, answer: Answer, redirects: int) -> str:
        if method not in {"GET", "HEAD"}:
            raise self._odd(f"sends a {method} on to another place")
        if redirects > MAX_REDIRECTS:
            raise self._odd(f"sends on more than {MAX_REDIRECTS} times")
        return self.target(answer)

    def _odd(self, what: str) -> RegistryRefused:
        return RegistryRefused(f"registry {self.registry} {what}", registry=self.registry)

    def _read(self, answer: Answer, raw: Iterator[bytes], most_bytes: int, good: Collection[int]) -> bytes:
        is_good = answer.status in good
        most = most_bytes if is_good else MAX_WORDS_BYTES
        if is_good and answer.size is not None and answer.size > most:
            raise self._too_long(most)
        parts, size = [], 0
        for chunk in raw:
            parts.append(chunk)
            size += len(chunk)
            if size > most:
                if is_good:
                    raise self._too_long(most)
                break
        return b"".join(parts)

    def _too_long(self, most: int) -> LimitExceeded:
        return LimitExceeded(
            f"registry {self.registry} answers with more than {most} bytes where that is the most", limit=most
        )

    @contextlib.contextmanager
    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, patience: Patience
    ) -> Iterator[tuple[Answer, Iterator[bytes], list[Challenge]]]:
        """One request and its answer; whatever breaks on the way is told as unreachable."""
        parts, limits = urlsplit(url), self.access.limits
        self._clock.set(max(0.0, min(limits.answer_s, patience.left_s())) if body is None else limits.answer_s)
        fields = {"host": parts.netloc, "user-agent": "gatesmith", "accept-encoding": "identity", **headers}
        if body is None and method not in {"GET", "HEAD"}:
            fields["content-length"] = "0"
        read = limits.stall_s if body is None else limits.patience_s  # what was sent may take a while to be stored
        timeout = {"connect": limits.connect_s, "read": read, "write": limits.stall_s, "pool": 600.0}
        request = httpcore.Request(
            method,
            url,
            headers=[(name.encode(), value.encode()) for name, value in fields.items()],
            content=self._sending(body) if body else None,
            extensions={"timeout": timeout},
        )
        try:
            response = self._pool(parts).handle_request(request)
            try:
                many = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers]
                answer = Answer(status=response.status, url=url, headers=dict(reversed(many)))
                challenges = parse_challenges([value for name, value in many if name == "www-authenticate"])
                yield answer, self._receiving(response), challenges
            finally:
                response.close()
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            self._unreachable(parts, error)
        except (httpcore.ProxyError, httpcore.UnsupportedProtocol, UnicodeError) as error:
            raise RegistryUnreachable(
                f"registry {self.registry} cannot be reached: {type(error).__name__} {plain(str(error))}", final=True
            ) from error

    def _receiving(self, response: httpcore.Response) -> Iterator[bytes]:
        """Content as it comes in, as long as enough comes in."""
        limits = self.access.limits
        begin, received = time.monotonic(), 0
        stream = iter(response.iter_stream())
        while True:
            self._clock.set(limits.stall_s)
            chunk = next(stream, None)
            if chunk is None:
                return
            received += len(chunk)
            yield chunk
            if (now := time.monotonic()) - begin > limits.stall_s:
                if received < limits.slowest_bytes_per_s * limits.stall_s:
                    raise httpcore.ReadTimeout(f"{received} bytes in {limits.stall_s:g} s")
                begin, received = now, 0

    def _sending(self, body: Body) -> Iterator[bytes]:
        limits = self.access.limits
        for chunk in body():
            self._clock.set(limits.stall_s)
            yield chunk
        self._clock.set(limits.patience_s)

    def _unreachable(self, parts: SplitResult, error: Exception) -> NoReturn:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ssl.SSLError):
            cause = cause.__cause__ or cause.__context__
        where = f"{parts.netloc} (for {self.registry})" if parts.netloc != self.registry else self.registry
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise RegistryUnreachable(
                f"certificate of {where} is not trusted: {cause.verify_message}; give its CA with --ca", final=True
            ) from error
        if cause is not None and "WRONG_VERSION_NUMBER" in str(cause):
            raise RegistryUnreachable(
                f"{where} does not speak TLS; use --plain-http if that is meant", final=True
            ) from error
        kind = "does not answer in time" if isinstance(error, httpcore.TimeoutException) else "cannot be reached"
        raise RegistryUnreachable(f"registry {where} {kind}: {plain(str(error)) or type(error).__name__}") from error

    def _pool(self, parts: SplitResult) -> httpcore.ConnectionPool:
        with self._lock:
            key = (parts.scheme, parts.netloc)
            if key not in self._pools:
                if len(self._pools) == MAX_PLACES:
                    raise self._odd(f"sends on to more than {MAX_PLACES} places")
                if self._context is None:
                    self._context = trust(self.access.ca)
                self._pools[key] = make_pool(
                    parts.scheme, parts.hostname or "", context=self._context, clock=self._clock
                )
            return self._pools[key]

    def _authorize(self, challenges: list[Challenge], scope: str, patience: Patience) -> None:
        by_scheme = {challenge.scheme: challenge for challenge in reversed(challenges)}
        repository = scope.split(":")[1] if scope.count(":") > 1 else ""
        credential = find_credential(self.registry, repository)
        if "bearer" in by_scheme:
            self._authorizations[scope] = f"Bearer {self._token(by_scheme['bearer'], credential, scope, patience)}"
        elif "basic" in by_scheme and credential and not credential.identity_token:
            self._authorizations[scope] = credential.basic
        elif "basic" in by_scheme:
            raise AuthenticationFailed(
                f"registry {self.registry} wants a password and none is known; log in with 'docker login'",
                registry=self.registry,
            )
        else:
            raise AuthenticationFailed(
                f"registry {self.registry} wants an authentication that is not known here", registry=self.registry
            )

    def _token(self, challenge: Challenge, credential: Credential | None, scope: str, patience: Patience) -> str:
        realm = check_realm(
            challenge.parameters.get("realm", ""),
            registry=urlsplit(self.base).netloc,
            plain_http=self.access.plain_http,
            allowed=self.access.realms,
        )
        query = [("service", challenge.parameters.get("service", "")), *(("scope", one) for one in scope.split(" "))]
        headers: dict[str, str] = {}
        body: Body | None = None
        method, url = "GET", f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
        if credential and credential.identity_token:
            form = [*query, ("grant_type", "refresh_token"), ("client_id", "gatesmith")]
            content = urlencode([*form, ("refresh_token", credential.identity_token)]).encode()
            method, url, body = "POST", realm, lambda: [content]
            headers = {"content-type": "application/x-www-form-urlencoded", "content-length": str(len(content))}
        elif credential:
            headers = {"authorization": credential.basic}

        def attempt() -> Answer:
            with self._send(method, url, headers, body, patience) as (head, raw, _):
                return replace(head, content=self._read(head, raw, MAX_WORDS_BYTES, {200}))

        return self._token_in(self._repeat(attempt, patience, {200}, "a token").content)

    def _token_in(self, content: bytes) -> str:
        try:
            data = json.loads(content)
            token = data.get("token") or data.get("access_token")
        except (ValueError, RecursionError, AttributeError):
            token = None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise self._odd("gives a token that cannot be used")
        return token


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
