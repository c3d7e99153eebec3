from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from gatesmith.artifact.credentials import Credential, find_credential
from gatesmith.errors import AuthenticationFailed
from gatesmith.tools import credential_files


def config(path: Path, **data: Any) -> Path:
    path.write_text(json.dumps(data))
    return path


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def helper(folder: Path, name: str, script: str) -> None:
    (folder / f"docker-credential-{name}").write_text(f"#!/bin/sh\n{script}\n")
    (folder / f"docker-credential-{name}").chmod(0o755)


def test_where_files_are_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/h")
    last = Path("/h/.config/containers/auth.json")
    assert credential_files() == (Path("/h/.docker/config.json"), last)
    monkeypatch.setenv("DOCKER_CONFIG", "/d")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    assert credential_files() == (Path("/d/config.json"), Path("/run/user/1/containers/auth.json"), last)
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "only.json"))
    assert credential_files() == (tmp_path / "only.json",)


def test_the_first_file_that_knows_the_registry_wins(tmp_path: Path) -> None:
    one = config(tmp_path / "one", auths={"a.example": auth("a", "1")})
    two = config(tmp_path / "two", auths={"a.example": auth("a", "2"), "b.example": auth("b", "x:y")})
    files = [tmp_path / "missing", one, two]
    assert find_credential("a.example", files=files) == Credential(user="a", password="1")
    assert find_credential("b.example", files=files) == Credential(user="b", password="x:y")
    assert find_credential("c.example", files=files) is None
    assert find_credential("a.example:5000", files=files) is None
    assert find_credential("evil.a.example", files=files) is None


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "registry-1.docker.io"),
        ("https://r.example/v2/", "r.example"),
        ("http://r.example:5000", "r.example:5000"),
        ("r.example/", "r.example"),
    ],
)
def test_how_registries_are_written(tmp_path: Path, key: str, registry: str) -> None:
    found = find_credential(registry, files=[config(tmp_path / "c", auths={key: auth("u", "p")})])
    assert found == Credential(user="u", password="p")


def test_the_most_specific_repository_wins(tmp_path: Path) -> None:
    auths = {"r.example": auth("all", ""), "r.example/lab": auth("lab", ""), "r.example/lab/iris": auth("iris", "")}
    path = config(tmp_path / "c", auths=auths)
    for repository, user in (("lab/iris", "iris"), ("lab/jets", "lab"), ("labs/iris", "all"), ("", "all")):
        found = find_credential("r.example", repository, files=[path])
        assert found
        assert found.user == user


def test_kinds_of_entries(tmp_path: Path) -> None:
    auths = {
        "token": {"identitytoken": "t", **auth("u", "p")},
        "plain": {"username": "u", "password": "p"},
        "empty": {},
        "none": None,
    }
    path = config(tmp_path / "c", auths=auths)
    assert find_credential("token", files=[path]) == Credential(identity_token="t")
    assert find_credential("plain", files=[path]) == Credential(user="u", password="p")
    assert find_credential("empty", files=[path]) is None
    assert find_credential("none", files=[path]) is None


def test_helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    helper(tmp_path, "one", 'read server; echo "{\\"Username\\":\\"u-$server\\",\\"Secret\\":\\"s\\"}"')
    helper(tmp_path, "token", 'echo \'{"Username":"<token>","Secret":"t"}\'')
    helper(tmp_path, "unknown", "echo credentials not found in native keychain; exit 1")
    path = config(tmp_path / "c", credHelpers={"h.example": "one", "t.example": "token"}, credsStore="unknown")
    assert find_credential("h.example", files=[path]) == Credential(user="u-h.example", password="s")
    assert find_credential("t.example", files=[path]) == Credential(identity_token="t")
    assert find_credential("other.example", files=[path]) is None
    path = config(tmp_path / "c", credsStore="one", auths={"a.example": auth("u", "p"), "empty.example": {}})
    assert find_credential("docker.io", files=[path]) == Credential(user="u-https://index.docker.io/v1/", password="s")
    assert find_credential("a.example", files=[path]) == Credential(user="u", password="p")
    assert find_credential("empty.example", files=[path]) == Credential(user="u-empty.example", password="s")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"auths": {"r": {"auth": "%%%"}}}, "is not base64 text"),
        ({"auths": {"r": {"auth": "YWJj"}}}, "holds no user:password"),
        ({"auths": []}, "^$"),
        ({"auths": ["r"]}, "is not a JSON object"),
        ({"credHelpers": {"r": "../../bin/sh"}}, "is not a program's name"),
        ({"credHelpers": {"r": "is-not-there"}}, "docker-credential-is-not-there cannot be used: FileNotFoundError"),
        ([], "is not a JSON object"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path: Path, data: Any, said: str) -> None:
    (tmp_path / "c").write_text(json.dumps(data))
    if said == "^$":
        assert find_credential("r", files=[tmp_path / "c"]) is None
        return
    with pytest.raises(AuthenticationFailed, match=said):
        find_credential("r", files=[tmp_path / "c"])


def test_a_damaged_file_is_told_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "c").write_text('{"auths": {"r": {"auth": "c2VjcmV0"')
    with pytest.raises(AuthenticationFailed, match=r"cannot be read: JSONDecodeError$"):
        find_credential("r", files=[tmp_path / "c"])


def test_nothing_is_shown() -> None:
    shown = repr(Credential(user="alice", password="wonder", identity_token="land"))
    assert not any(word in shown for word in ("alice", "wonder", "land"))


def test_the_environment_itself_may_hold_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(config(tmp_path / "f.json", auths={"r.example": auth("file", "f")})))
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({"auths": {"r.example": auth("environment", "e")}}))
    assert find_credential("r.example") == Credential(user="environment", password="e")
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({"auths": {"other.example": auth("environment", "e")}}))
    assert find_credential("r.example") == Credential(user="file", password="f")
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", "{")
    with pytest.raises(AuthenticationFailed, match="DOCKER_AUTH_CONFIG cannot be read"):
        find_credential("r.example")
