"""Requests and replies of the REST door, apart from how they come and go, and the table that finds an endpoint.

A path is matched as a whole: number of segments first, then the fixed ones. What was found for a URL is remembered,
so that a busy endpoint costs one look-up.
"""

# Ref: RFC 9110 section 9.3.2 (HEAD), 9.3.7 (OPTIONS), 15.5.6 (405 names what is allowed)

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson

__all__ = ["Endpoint", "Headers", "HttpError", "Match", "Reply", "Request", "Route", "Router", "json_reply"]

Headers = dict[bytes, bytes]
"""Names in lower case; values of a repeated name joined by commas."""
JSON = b"application/json"
_REMEMBERED, _SHORT = 1024, 256


class HttpError(Exception):
    """A failure that only HTTP knows: its status, what to say, and further headers."""

    def __init__(self, status: int, detail: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(detail)
        self.status, self.headers = status, headers


@dataclass(slots=True)
class Request:
    """One request whose body is complete."""

    method: str
    names: dict[str, str]
    headers: Headers
    body: bytes = b""
    query: bytes = b""


class Reply(NamedTuple):
    """What goes back."""

    body: bytes
    status: int = 200
    kind: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


Endpoint = Callable[[Request], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path whose ``{name}`` segments are free; ``admin`` endpoints change what is served.

    ``is_prompt`` says of a request that its endpoint needs no task: it sets no time limits and waits for little.
    """

    method: str
    path: str
    endpoint: Endpoint
    admin: bool = False
    is_prompt: Callable[[Request], bool] | None = None
    segments: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(self.path.split("/")[1:]))

    def names_in(self, segments: list[str]) -> dict[str, str] | None:
        """What the free segments hold, or nothing when a fixed one differs."""
        names: dict[str, str] = {}
        for pattern, segment in zip(self.segments, segments, strict=True):
            head, brace, tail = pattern.partition("{")
            name, _, end = tail.partition("}")
            if not brace:
                if pattern != segment:
                    return None
            elif len(segment) > len(head) + len(end) and segment.startswith(head) and segment.endswith(end):
                names[name] = segment[len(head) : len(segment) - len(end)]
            else:
                return None
        return names


class Match(NamedTuple):
    """The route of a request, and what its free segments hold."""

    route: Route
    names: dict[str, str]


class Router:
    """All routes; among those of one path the first wins."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes: dict[int, list[Route]] = {}
        for route in routes:
            self._routes.setdefault(len(route.segments), []).append(route)
        self._remembered: dict[tuple[bytes, bytes], Match] = {}

    def find(self, method: bytes, url: bytes) -> Match:
        """The endpoint of a method and a URL without its query.

        Raises
        ------
        HttpError
            404 or 405.
        """
        match = self._remembered.get((method, url))
        if match is None:
            match = self._search(method.decode("latin-1"), unquote(url.decode("latin-1")))
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            if len(url) <= _SHORT:
                self._remembered[method, url] = match
        return match

    def _search(self, method: str, path: str) -> Match:
        segments = path.split("/")[1:]
        found: dict[str, Match] = {}
        first = ""
        for route in self._routes.get(len(segments), ()):
            names = route.names_in(segments) if route.path == first or not found else None
            if names is not None:
                first, found[route.method] = route.path, Match(route, names)
        if not found:
            raise HttpError(404, f"no such path: {path[:80]!r}")
        match = found.get("GET" if method == "HEAD" else method)
        if match is None:
            allowed = sorted({*found, "OPTIONS", *(["HEAD"] if "GET" in found else [])})
            listed = (b"allow", ", ".join(allowed).encode())
            if method == "OPTIONS":
                raise HttpError(204, "", listed)
            raise HttpError(405, f"method {method[:20]} is not possible here; {', '.join(allowed)} are", listed)
        return match


def json_reply(content: Any, status: int = 200) -> Reply:
    """A reply of JSON, numpy arrays included."""
    return Reply(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), status)
