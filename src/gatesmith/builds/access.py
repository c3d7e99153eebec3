"""Who may use the build service: bearer tokens from a file, each with a name and the builds it may have waiting.

A line of the file is ``NAME TOKEN [BUILDS]``; an empty line and one that starts with ``#`` say nothing. The name
``admin`` may cancel everybody's builds. Only digests of the tokens are kept in memory.
"""

# Ref: RFC 6750 section 2.1: Authorization: Bearer

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from pathlib import Path

from gatesmith.errors import AuthenticationFailed, ServerNotStarted

__all__ = ["ADMIN", "Access", "Caller", "read_tokens"]

ADMIN = "admin"
DEFAULT_BUILDS = 32
SHORTEST_TOKEN = 16
_LINE = re.compile(r"([A-Za-z0-9._-]{1,64})\s+(\S+)(?:\s+([1-9][0-9]{0,5}))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who asks, and how many builds of theirs may be queued or running; 0 for any number."""

    name: str
    builds: int = 0

    @property
    def is_admin(self) -> bool:
        """Whether they may end other people's builds."""
        return self.name == ADMIN


class Access:
    """Callers by token; with no tokens everybody is the administrator, which is for loopback alone."""

    def __init__(self, callers: dict[bytes, Caller]) -> None:
        self._callers = callers

    @property
    def is_open(self) -> bool:
        """Whether no token is asked for."""
        return not self._callers

    def caller(self, authorization: str) -> Caller:
        """Who sent this Authorization header.

        Raises
        ------
        AuthenticationFailed
        """
        if self.is_open:
            return Caller(name=ADMIN)
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise AuthenticationFailed("a token is needed: Authorization: Bearer TOKEN")
        given = _digest(token.strip())
        found = [caller for known, caller in self._callers.items() if hmac.compare_digest(known, given)]
        if not found:
            raise AuthenticationFailed("the token is not known here")
        return found[0]


def read_tokens(path: Path | None) -> Access:
    """Read a file of tokens.

    Raises
    ------
    ServerNotStarted
        When it cannot be read or a line of it is wrong; the message holds no token.
    """
    if path is None:
        return Access({})
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ServerNotStarted(f"token file {path} cannot be read: {error}", path=str(path)) from error
    callers = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or len(match[2]) < SHORTEST_TOKEN:
            raise ServerNotStarted(
                f"token file {path}, line {number}: NAME TOKEN [BUILDS] is needed, the token of {SHORTEST_TOKEN} "
                "characters or more",
                path=str(path),
                line=number,
            )
        callers[_digest(match[2])] = Caller(name=match[1], builds=int(match[3] or DEFAULT_BUILDS))
    if not callers:
        raise ServerNotStarted(f"token file {path} holds no token", path=str(path))
    return Access(callers)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
