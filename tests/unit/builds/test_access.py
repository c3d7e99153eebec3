"""Tokens of the build service."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatesmith.builds.access import Caller, read_tokens
from gatesmith.builds.server import Listening
from gatesmith.errors import AuthenticationFailed, ServerNotStarted

FILE = """
# people
anna 0123456789abcdef 3
admin fedcba9876543210
"""


def test_a_token_says_who_and_how_many(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(FILE)
    access = read_tokens(path)
    assert access.caller("Bearer 0123456789abcdef") == Caller(name="anna", builds=3)
    assert access.caller("bearer fedcba9876543210").is_admin
    for wrong in ("", "Bearer", "Bearer ", "Basic 0123456789abcdef", "Bearer 0123456789abcdeF", "Bearer anna"):
        with pytest.raises(AuthenticationFailed):
            access.caller(wrong)


@pytest.mark.parametrize("line", ["anna", "anna short", "an/na 0123456789abcdef", "anna 0123456789abcdef many"])
def test_a_wrong_line_is_named_without_its_token(tmp_path: Path, line: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# first\n{line}\n")
    with pytest.raises(ServerNotStarted, match="line 2: NAME TOKEN") as caught:
        read_tokens(path)
    assert "0123456789" not in str(caught.value)


def test_an_empty_file_opens_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("# nobody\n")
    with pytest.raises(ServerNotStarted, match="holds no token"):
        read_tokens(path)
    with pytest.raises(ServerNotStarted, match="cannot be read"):
        read_tokens(tmp_path / "absent")


def test_without_tokens_it_listens_on_this_machine_alone() -> None:
    assert Listening().host == "127.0.0.1"
    with pytest.raises(ServerNotStarted, match=r"would be open to everybody; give --token-file"):
        Listening(host="192.0.2.1")
