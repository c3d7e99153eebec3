"""What a registry asks for with a 401, and which hosts may be shown a password for it.

A registry names the token server, so a registry that was broken into, or one in a typing mistake, could have passwords
sent anywhere. A password goes to the registry itself, to a host above or below its name, to a sibling under a name that
one owner holds, or to a host that the user allowed by name.
"""

# Ref: RFC 9110 section 11.6.1 WWW-Authenticate; distribution "Token Authentication Specification"
# Ref: CVE-2020-15157: a client sent its password to any host that a manifest named

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from gatesmith.errors import AuthenticationFailed

__all__ = ["Challenge", "check_realm", "parse_challenges"]

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # Ref: RFC 9110 section 5.6.2
_PARAMETER = re.compile(rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))')
_SCHEME = re.compile(rf"\s*({_WORD})(?:\s+|\s*$|\s*(?=,))")
_SEPARATOR = re.compile(r"\s*,")
_LONGEST = 4096
_KNOWN = {"registry-1.docker.io": "auth.docker.io", "nvcr.io": "authn.nvidia.com"}
# Names under which strangers get names of their own. Not complete, so it only ever makes the rule stricter.
_SHARED = re.compile(
    r"(?:com?|net|org|edu|gov|ac|or|ne)\.[a-z]{2}"
    r"|(?:.+\.)?(?:amazonaws\.com|azurecr\.io|azure\.com|cloudapp\.net|cloudfront\.net|github\.io|gitlab\.io|pkg\.dev"
    r"|run\.app|web\.app|herokuapp\.com|appspot\.com|googleapis\.com|ngrok\.io|ngrok\.app|nip\.io|sslip\.io|duckdns\.org"
    r"|fly\.dev|pages\.dev|workers\.dev|vercel\.app|netlify\.app|digitaloceanspaces\.com|trycloudflare\.com)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """One way to authenticate that a server takes; names in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(headers: Collection[str]) -> list[Challenge]:
    """Every challenge in the ``WWW-Authenticate`` headers of an answer; what cannot be read is left out."""
    found: list[Challenge] = []
    for header in headers:
        text, place = header[:_LONGEST], 0
        while place < len(text):
            if found and (match := _PARAMETER.match(text, place)):
                value = match[2] if match[2] is not None else match[3]
                found[-1].parameters.setdefault(match[1].lower(), re.sub(r"\\(.)", r"\1", value))
            elif match := _SCHEME.match(text, place):
                found.append(Challenge(scheme=match[1].lower()))
            else:
                break
            place = match.end()
            if separator := _SEPARATOR.match(text, place):
                place = separator.end()
    return found


def check_realm(realm: str, *, registry: str, plain_http: bool, allowed: Collection[str] = ()) -> str:
    """The token server's URL, when passwords for the registry may go there.

    Parameters
    ----------
    registry : str
        Host, with or without port.
    allowed : collection of str
        Further hosts that the user trusts with the registry's passwords.

    Raises
    ------
    AuthenticationFailed
    """
    try:
        url = urlsplit(realm)
        host = (url.hostname or "").rstrip(".")
        _ = url.port
    except ValueError:
        host, url = "", urlsplit("")
    if not host or url.scheme not in {"https", "http"} or url.username is not None or url.fragment:
        raise AuthenticationFailed(f"registry {registry} names a token server that is not a URL", registry=registry)
    own = _host(registry)
    if url.scheme == "http" and not (plain_http and host == own):
        raise AuthenticationFailed(
            f"registry {registry} names the token server {host} without TLS; nothing was sent there",
            registry=registry,
            realm=host,
        )
    if host not in {own, _KNOWN.get(own), *map(_host, allowed)} and not _related(host, own):
        raise AuthenticationFailed(
            f"registry {registry} names the token server {host}, which is not its own; nothing was sent there, "
            f"allow it with --realm {host} if that is right",
            registry=registry,
            realm=host,
        )
    return realm


def _host(registry: str) -> str:
    return (urlsplit(f"//{registry}").hostname or "").rstrip(".")


def _related(host: str, own: str) -> bool:
    if any(_is_address(name) for name in (host, own)):
        return False
    if host.endswith(f".{own}"):
        return own.count(".") >= 1
    parent = own.partition(".")[2]
    if "." not in parent or _SHARED.fullmatch(parent):
        return False
    return host == parent or host.endswith(f".{parent}")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
