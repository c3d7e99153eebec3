from __future__ import annotations

import pytest

from gatesmith.artifact.challenge import Challenge, check_realm, parse_challenges
from gatesmith.errors import AuthenticationFailed


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (["Basic realm=x"], [("basic", {"realm": "x"})]),
        (['Bearer realm="https://a/t",service="s"'], [("bearer", {"realm": "https://a/t", "service": "s"})]),
        (['BEARER Realm="a, b=\\"c\\"" , service = s'], [("bearer", {"realm": 'a, b="c"', "service": "s"})]),
        (['Basic realm="x", Bearer realm="y",a=b'], [("basic", {"realm": "x"}), ("bearer", {"realm": "y", "a": "b"})]),
        (["Negotiate", "Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (["Negotiate, Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (['Bearer realm="first",realm="second"'], [("bearer", {"realm": "first"})]),
        (['Bearer realm="not closed'], [("bearer", {})]),
        (["", ",,,", "\x00"], []),
    ],
)
def test_challenges(headers: list[str], found: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges(headers)[: len(found)] == [Challenge(scheme=s, parameters=p) for s, p in found]
    assert len(parse_challenges(headers)) <= len(found) + 2


def test_a_header_of_any_length_is_read_quickly() -> None:
    for text in ('Bearer realm="' + "\\" * 100_000, "a=" * 100_000, "Bearer " * 100_000, '"' * 100_000):
        assert len(parse_challenges([text])) <= 4096


ALLOWED = [
    ("r.example.org", "https://r.example.org/token"),
    ("r.example.org:5000", "https://r.example.org:5001/token"),
    ("registry.example.org", "https://example.org/jwt/auth"),
    ("registry.example.org", "https://auth.example.org/token"),
    ("registry.example.org", "https://a.b.example.org/token"),
    ("example.org", "https://auth.example.org/token"),
    ("registry-1.docker.io", "https://auth.docker.io/token"),
    ("nvcr.io", "https://authn.nvidia.com/token"),
    ("127.0.0.1:5000", "https://127.0.0.1:5001/token"),
    ("[::1]:5000", "https://[::1]:5001/token"),
]
REFUSED = [
    ("r.example.org", "https://evil.org/token"),
    ("r.example.org", "https://r.example.org.evil.org/token"),
    ("r.example.org", "https://evil-r.example.org.evil.org/r.example.org"),
    ("r.example.org", "https://r.example.org@evil.org/token"),
    ("r.example.org", "https://evilexample.org/token"),
    ("r.example.org", "http://r.example.org/token"),
    ("r.example.org", "ftp://r.example.org/token"),
    ("r.example.org", "//r.example.org/token"),
    ("example.org", "https://org/token"),
    ("example.org", "https://evil.org/token"),
    ("mine.co.uk", "https://evil.co.uk/token"),
    ("mine.azurecr.io", "https://evil.azurecr.io/token"),
    ("lab.github.io", "https://evil.github.io/token"),
    ("localhost:5000", "https://evil.localhost:5000/token"),
    ("10.0.0.1:5000", "https://10.0.0.2/token"),
    ("10.0.0.1", "https://evil.10.0.0.1/token"),
    ("r.example.org", "https://[::1/token"),
    ("r.example.org", "https://r.example.org:99999/token"),
    ("r.example.org", ""),
]


@pytest.mark.parametrize(("registry", "realm"), ALLOWED)
def test_realms_that_may_see_a_password(registry: str, realm: str) -> None:
    assert check_realm(realm, registry=registry, plain_http=False) == realm


@pytest.mark.parametrize(("registry", "realm"), REFUSED)
def test_realms_that_may_not(registry: str, realm: str) -> None:
    with pytest.raises(AuthenticationFailed, match="token server"):
        check_realm(realm, registry=registry, plain_http=False)


def test_what_the_user_allows_by_name() -> None:
    realm = "https://auth.other.example/token"
    with pytest.raises(AuthenticationFailed, match=r"allow it with --realm auth.other.example"):
        check_realm(realm, registry="r.example.org", plain_http=False)
    assert check_realm(realm, registry="r.example.org", plain_http=False, allowed=["auth.other.example"]) == realm
    with pytest.raises(AuthenticationFailed):
        check_realm("https://evil.example/", registry="r.example.org", plain_http=False, allowed=["other.example"])
    with pytest.raises(AuthenticationFailed, match="without TLS"):
        check_realm("http://auth.other.example/", registry="r", plain_http=True, allowed=["auth.other.example"])


def test_plain_http_is_for_the_registry_itself() -> None:
    assert check_realm("http://r:5001/token", registry="r:5000", plain_http=True)
    with pytest.raises(AuthenticationFailed, match="without TLS"):
        check_realm("http://auth.r.example/token", registry="r.example", plain_http=True)
