"""Who may sign what: ``policy.toml`` in the home folder says which keys count for which artifacts.

The first rule that names a repository decides. In ``warn`` mode what is not signed by its keys is told and loaded; in
``require`` mode it is not loaded. An artifact of this machine's own, without a registry in its name and without keys
for it, is not looked at.
"""

# Ref: TOML 1.0

from __future__ import annotations

import fnmatch
import logging
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gatesmith.artifact.keys import read_public_key
from gatesmith.artifact.reference import Reference
from gatesmith.artifact.signatures import check_signed
from gatesmith.errors import ManifestInvalid, SignatureInvalid
from gatesmith.tools import home_path

if TYPE_CHECKING:
    from gatesmith.artifact.layout import Layout

__all__ = ["UNCHECKED", "Finding", "Mode", "Policy", "Rule", "load_policy", "policy_path"]

_log = logging.getLogger(__name__)
_E = TypeVar("_E", bound=StrEnum)


class Mode(StrEnum):
    """What happens with firmware that no trusted key signed."""

    OFF = "off"
    WARN = "warn"
    REQUIRE = "require"


class Finding(StrEnum):
    """What happens when a scan finds loops, or cannot look."""

    ALLOW = "allow"
    WARN = "warn"
    REFUSE = "refuse"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What holds for some artifacts.

    Parameters
    ----------
    repositories : tuple of str
        Patterns of ``registry/repository``; ``*`` stands for any characters, slashes too.
    keys : tuple of Path
        Public keys; one of them has to have signed.
    loops, unscannable : Finding
        When a scan finds combinational loops; when a format cannot be scanned.
    """

    repositories: tuple[str, ...] = ("*",)
    mode: Mode = Mode.WARN
    keys: tuple[Path, ...] = ()
    loops: Finding = Finding.REFUSE
    unscannable: Finding = Finding.WARN


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """Rules in order; ``otherwise`` holds for what none of them names."""

    rules: tuple[Rule, ...] = ()
    otherwise: Rule = field(default_factory=Rule)

    def rule(self, reference: Reference) -> Rule:
        """The rule for an artifact."""
        for rule in self.rules:
            if any(fnmatch.fnmatchcase(reference.name, pattern) for pattern in rule.repositories):
                return rule
        return self.otherwise

    def check(self, layout: Layout, reference: Reference, digests: Sequence[str]) -> None:
        """Apply the rule for an artifact: one of the digests has to be signed.

        Parameters
        ----------
        digests : sequence of str
            The firmware's manifest, and the index that names it, as far as it was come by through one.

        Raises
        ------
        SignatureInvalid
            In ``require`` mode, when none of them is signed by a key of the rule.
        NotInstalled
        """
        rule = self.rule(reference)
        if rule.mode is Mode.OFF or (rule.mode is Mode.WARN and not rule.keys and not reference.registry):
            return
        try:
            self._check(rule, layout, reference, digests)
        except SignatureInvalid as error:
            if rule.mode is Mode.REQUIRE:
                raise
            _log.warning("%s", error)

    @staticmethod
    def _check(rule: Rule, layout: Layout, reference: Reference, digests: Sequence[str]) -> None:
        if not rule.keys:
            raise SignatureInvalid(f"{reference} is not checked: {policy_path()} names no key for it")
        keys = [read_public_key(path) for path in rule.keys]
        refused: SignatureInvalid | None = None
        for digest in digests:
            try:
                check_signed(layout, digest, keys, what=str(reference))
            except SignatureInvalid as error:
                refused = refused or error
            else:
                return
        raise refused or SignatureInvalid(f"{reference} is not signed")


UNCHECKED: Final = Policy(otherwise=Rule(mode=Mode.OFF))
"""For a store that only this machine's own builds write to."""


def policy_path() -> Path:
    """Where the policy lies; it may not exist."""
    return home_path() / "policy.toml"


def load_policy(path: Path | None = None) -> Policy:
    """Read a policy; the one in the home folder, or the default one, without a path.

    Raises
    ------
    ManifestInvalid
        When it cannot be read, or says something that is not understood: a rule that is misspelt must not be lost.
    """
    place = path or policy_path()
    try:
        data = tomllib.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if path is None:
            return Policy()
        raise ManifestInvalid(f"policy {str(place)!r} does not exist", path=str(place)) from error
    except (OSError, ValueError) as error:
        raise ManifestInvalid(f"policy {str(place)!r} cannot be read: {error}", path=str(place)) from error
    rules = data.pop("rule", [])
    if not isinstance(rules, list) or not all(isinstance(one, dict) and "repositories" in one for one in rules):
        raise ManifestInvalid(f"policy {str(place)!r}: each [[rule]] needs its repositories", path=str(place))
    if "repositories" in data:
        raise ManifestInvalid(f"policy {str(place)!r}: repositories belong into a [[rule]]", path=str(place))
    return Policy(rules=tuple(_rule(one, place) for one in rules), otherwise=_rule(data, place))


def _rule(data: Mapping[str, Any], place: Path) -> Rule:
    unknown = sorted(data.keys() - {"repositories", "mode", "keys", "loops", "unscannable"})
    if unknown:
        raise ManifestInvalid(f"policy {str(place)!r}: {unknown[0]!r} is not known", path=str(place))
    default = Rule()
    return Rule(
        repositories=_texts(data.get("repositories", ["*"]), "repositories", place),
        mode=_choice(Mode, data.get("mode", default.mode), "mode", place),
        keys=tuple(place.parent / name for name in _texts(data.get("keys", []), "keys", place)),
        loops=_choice(Finding, data.get("loops", default.loops), "loops", place),
        unscannable=_choice(Finding, data.get("unscannable", default.unscannable), "unscannable", place),
    )


def _texts(value: object, what: str, place: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise ManifestInvalid(f"policy {str(place)!r}: {what} is {value!r}, a list of strings is needed")
    return tuple(value)


def _choice(kind: type[_E], value: object, what: str, place: Path) -> _E:
    try:
        return kind(str(value))
    except ValueError as error:
        known = ", ".join(kind)
        raise ManifestInvalid(f"policy {str(place)!r}: {what} is {value!r}, known are {known}") from error
