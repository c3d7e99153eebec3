"""What is to be built, and its plan digest: whoever asks for the same thing asks for the same build.

The digest covers what was asked for (model, calibration, board, options) and this program's version; not the tools of
one machine, because a firmware is proved against the reference whichever router placed it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import Any, Self

from gatesmith.boards import find_board
from gatesmith.errors import BuildError
from gatesmith.flow import ENGINES

__all__ = ["Order"]

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}")
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """One build that somebody asked for.

    Parameters
    ----------
    model, calibration : str
        ``sha256:`` of the files' content; no calibration is an empty string.
    model_file, calibration_file : str
        Their names without folders; what kind a file is may hang on its suffix.
    name : str
        Name of the model.
    clock_hz : int
        0 for the board's own clock.
    emulated : bool
        Stop before place and route: the firmware has proved RTL and no bitstream, for an emulated board.

    Raises
    ------
    BuildError
        When a field is not valid.
    BoardNotFound
    """

    model: str
    model_file: str
    name: str
    board: str
    calibration: str = ""
    calibration_file: str = ""
    precision: int = 8
    engine: str = "auto"
    clock_hz: int = 0
    seed: int = 1
    emulated: bool = False

    def __post_init__(self) -> None:
        _matches("model", self.model, DIGEST)
        _matches("model_file", self.model_file, FILE_NAME)
        _matches("name", self.name, MODEL_NAME)
        if self.calibration or self.calibration_file:
            _matches("calibration", self.calibration, DIGEST)
            _matches("calibration_file", self.calibration_file, FILE_NAME)
        find_board(self.board)
        if self.engine not in ENGINES:
            raise BuildError(f"engine {self.engine!r} does not exist; engines are {', '.join(ENGINES)}")
        _bounded("precision", self.precision, 2, 16)
        _bounded("clock_hz", self.clock_hz, 0, 2_000_000_000)
        _bounded("seed", self.seed, 1, 2**31 - 8)

    @property
    def digest(self) -> str:
        """The plan digest, ``sha256:`` and 64 digits."""
        asked = self.to_json()
        del asked["model_file"], asked["calibration_file"]
        facts = json.dumps([asked, version("gatesmith")], sort_keys=True)
        return "sha256:" + hashlib.sha256(facts.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary that :meth:`from_json` reads back."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_json` wrote; it may come from anyone.

        Raises
        ------
        BuildError
            When a field is missing, not known, or of another kind.
        """
        kinds = {field.name: str(field.type) for field in fields(cls)}
        strange = sorted(set(data) - set(kinds))
        if strange:
            raise BuildError(f"an order has no field {strange[0][:40]!r}; fields are {', '.join(kinds)}")
        for name, value in data.items():
            if type(value).__name__ != kinds[name]:
                raise BuildError(f"order: {name} is of kind {type(value).__name__}, {kinds[name]} is needed")
        missing = [name for name in ("model", "model_file", "name", "board") if name not in data]
        if missing:
            raise BuildError(f"an order needs {missing[0]!r}")
        return cls(**data)


def _matches(name: str, value: str, expression: re.Pattern[str]) -> None:
    if not expression.fullmatch(value):
        raise BuildError(f"order: {name} is {value[:80]!r}, {expression.pattern} is needed", field=name)


def _bounded(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise BuildError(f"order: {name} is {value}, {low} to {high} are possible", field=name)
