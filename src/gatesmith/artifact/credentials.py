"""Passwords for registries, from the files and helper programs that container tools already use.

Nothing is asked for, stored or printed here. A file that is missing counts as empty; one that is damaged is an error,
because going on without the password would end in a puzzling refusal.
"""

# Ref: docker login reference "Credential stores", docker-credential-helpers README (protocol of "get")
# Ref: containers-auth.json(5): keys may hold a path, the most specific one wins; REGISTRY_AUTH_FILE

from __future__ import annotations

import base64
import binascii
import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatesmith.errors import AuthenticationFailed
from gatesmith.tools import credential_files, credential_text

__all__ = ["Credential", "find_credential"]

HELPER_S = 30.0
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DOCKER_HUB = "https://index.docker.io/v1/"
_HUB_NAMES = {"docker.io", "index.docker.io", "registry-1.docker.io"}
_LARGEST_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Credential:
    """A user and a password, or an identity token that is exchanged for access; never shown."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """Value of an ``Authorization`` header."""
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"


def find_credential(registry: str, repository: str = "", *, files: Sequence[Path] | None = None) -> Credential | None:
    """What the user's files hold for a registry, or nothing.

    Parameters
    ----------
    repository : str
        Some files hold passwords for a part of a registry.
    files : sequence of Path, optional
        Files to look at; those of the environment without.

    Raises
    ------
    AuthenticationFailed
        When a file or a helper program cannot be used.
    """
    if files is None and (text := credential_text()):
        place = Path("DOCKER_AUTH_CONFIG")
        found = _from_config(_parsed(text.encode(), place), registry, repository, place)
        if found:
            return found
    for path in credential_files() if files is None else files:
        found = _from_config(_read(path), registry, repository, path)
        if found:
            return found
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return _parsed(file.read(_LARGEST_BYTES), path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise AuthenticationFailed(f"{path} cannot be read: {type(error).__name__}", path=str(path)) from error


def _parsed(content: bytes, path: Path) -> dict[str, Any]:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise AuthenticationFailed(f"{path} cannot be read: {type(error).__name__}", path=str(path)) from error
    if not isinstance(data, dict):
        raise AuthenticationFailed(f"{path} is not a JSON object", path=str(path))
    return data


def _from_config(config: dict[str, Any], registry: str, repository: str, path: Path) -> Credential | None:
    helpers = _table(config, "credHelpers", path)
    for key in _keys(registry):
        if helper := helpers.get(key):
            return _from_helper(str(helper), registry)
    auths = {_normalised(key): value for key, value in _table(config, "auths", path).items()}
    for place in _places(registry, repository):
        entry = auths.get(place)
        if isinstance(entry, dict) and (found := _from_entry(entry, path)):
            return found
    store = config.get("credsStore")
    return _from_helper(str(store), registry) if store else None


def _table(config: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    table = config.get(key) or {}
    if not isinstance(table, dict):
        raise AuthenticationFailed(f"{key} in {path} is not a JSON object", path=str(path))
    return table


def _keys(registry: str) -> tuple[str, ...]:
    return (registry, "docker.io", _DOCKER_HUB) if registry in _HUB_NAMES else (registry,)


def _normalised(key: str) -> str:
    """``https://index.docker.io/v1/`` and ``registry.example/lab/`` as host and path."""
    bare = re.sub(r"^https?://", "", key).rstrip("/")
    host, slash, rest = re.sub(r"/v[12]$", "", bare).partition("/")
    return f"{'docker.io' if host in _HUB_NAMES else host}{slash}{rest}"


def _places(registry: str, repository: str) -> list[str]:
    host = "docker.io" if registry in _HUB_NAMES else registry
    parts = repository.split("/") if repository else []
    return ["/".join([host, *parts[:count]]) for count in range(len(parts), -1, -1)]


def _from_entry(entry: dict[str, Any], path: Path) -> Credential | None:
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credential(identity_token=token)
    user, password = entry.get("username"), entry.get("password")
    if isinstance(user, str) and isinstance(password, str) and user:
        return Credential(user=user, password=password)
    coded = entry.get("auth")
    if not isinstance(coded, str) or not coded:
        return None
    try:
        user, colon, password = base64.b64decode(coded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise AuthenticationFailed(f"an auth entry in {path} is not base64 text", path=str(path)) from error
    if not colon:
        raise AuthenticationFailed(f"an auth entry in {path} holds no user:password", path=str(path))
    return Credential(user=user, password=password.rstrip("\0"))


def _from_helper(name: str, registry: str) -> Credential | None:
    if not _HELPER.fullmatch(name):
        raise AuthenticationFailed(f"credential helper {name!r} is not a program's name", helper=name)
    program = f"docker-credential-{name}"
    server = _DOCKER_HUB if registry in _HUB_NAMES else registry
    try:
        done = subprocess.run(
            [program, "get"], input=server.encode(), capture_output=True, timeout=HELPER_S, check=False
        )
        if done.returncode != 0:
            return None  # the protocol's way to say that it knows no password
        data = json.loads(done.stdout[:_LARGEST_BYTES])
        user, secret = str(data["Username"]), str(data["Secret"])
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        raise AuthenticationFailed(
            f"{program} cannot be used: {type(error).__name__}; see credHelpers and credsStore in the config",
            helper=program,
        ) from error
    return Credential(identity_token=secret) if user == "<token>" else Credential(user=user, password=secret)
