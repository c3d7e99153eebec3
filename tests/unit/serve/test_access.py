from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from gatesmith.errors import AccessRefused, ServerNotStarted, TokenInvalid
from gatesmith.serve.access import Access, is_loopback
from gatesmith.serve.settings import Settings

EVERYWHERE = str(ip_address(0))


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("secret\n")
    return file


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), (EVERYWHERE, False), ("::", False),
     ("192.168.1.1", False), ("example.org", False), ("", False)],
)  # fmt: skip
def test_this_machine_alone_may_without_a_token(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback
    access = Access(Settings(host=host))
    if loopback:
        access.check("")
    else:
        with pytest.raises(AccessRefused, match="needs a token on a server that listens beyond its own machine"):
            access.check("Bearer anything")


def test_web_pages_may_not() -> None:
    with pytest.raises(AccessRefused, match="not for web pages"):
        Access(Settings()).check("", web_page=True)


@pytest.mark.parametrize("host", ["127.0.0.1", EVERYWHERE])
def test_a_token_is_asked_for_where_one_is_set(token_file: Path, host: str) -> None:
    access = Access(Settings(host=host, admin_token_file=str(token_file)))
    access.check("Bearer secret")
    access.check("bearer  secret ", web_page=True)
    with pytest.raises(TokenInvalid, match="the request has none"):
        access.check("")
    for wrong in ("Bearer", "Bearer ", "Bearer secret2", "Bearer secre", "Basic secret", "secret", "Bearer \xff"):
        with pytest.raises(TokenInvalid, match="has another one"):
            access.check(wrong)


def test_a_token_that_is_replaced_counts_at_once(token_file: Path) -> None:
    access = Access(Settings(admin_token_file=str(token_file)))
    token_file.write_text("other")
    access.check("Bearer other")
    with pytest.raises(TokenInvalid):
        access.check("Bearer secret")
    token_file.unlink()
    for given in ("Bearer other", "Bearer ", "Bearer"):
        with pytest.raises(TokenInvalid):
            access.check(given)


def test_an_admin_port_takes_it_all(token_file: Path) -> None:
    access = Access(Settings(admin_port=9999, admin_token_file=str(token_file)))
    with pytest.raises(AccessRefused, match="on the admin port only"):
        access.check("Bearer secret")
    access.check("Bearer secret", admin_side=True)
    with pytest.raises(TokenInvalid):
        access.check("", admin_side=True)


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_file_without_a_token_stops_the_start(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ServerNotStarted, match="holds no token"):
        Access(Settings(admin_token_file=str(file)))
