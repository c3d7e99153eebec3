"""What is to be built, and its plan digest: whoever asks for the same thing asks for the same build.

The digest covers what was asked for (model, calibration, labels, board, options) and this program's version; not the
tools of one machine, because a firmware is proved against the reference whichever router placed it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from gatesmith.aim import Aim
from gatesmith.boards import find_board
from gatesmith.errors import BuildError
from gatesmith.flow import ENGINES

__all__ = ["Order"]

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}")
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
FILES = ("model", "calibration", "labels")
FILE_NAMES = tuple(f"{name}_file" for name in FILES)
SHOWN_DIGITS = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """One build that somebody asked for.

    Parameters
    ----------
    model, calibration, labels : str
        ``sha256:`` of the files' content; none is an empty string.
    model_file, calibration_file, labels_file : str
        Their names without folders; what kind a file is may hang on its suffix.
    name : str
        Name of the model.
    precision, tolerance, max_error, prune
        See :class:`gatesmith.aim.Aim`.
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
    labels: str = ""
    labels_file: str = ""
    precision: int | str = 8
    tolerance: float | None = None
    max_error: float | None = None
    prune: bool = False
    engine: str = "auto"
    clock_hz: int = 0
    seed: int = 1
    emulated: bool = False

    def __post_init__(self) -> None:
        _matches("model", self.model, DIGEST)
        _matches("model_file", self.model_file, FILE_NAME)
        _matches("name", self.name, MODEL_NAME)
        for name, digest, file in (
            ("calibration", self.calibration, self.calibration_file),
            ("labels", self.labels, self.labels_file),
        ):
            if digest or file:
                _matches(name, digest, DIGEST)
                _matches(f"{name}_file", file, FILE_NAME)
        find_board(self.board)
        if self.engine not in ENGINES:
            raise BuildError(f"engine {self.engine!r} does not exist; engines are {', '.join(ENGINES)}")
        self.aim()  # refuses what is not possible
        _bounded("clock_hz", self.clock_hz, 0, 2_000_000_000)
        _bounded("seed", self.seed, 1, 2**31 - 8)

    @property
    def digest(self) -> str:
        """The plan digest, ``sha256:`` and 64 digits."""
        aim = {"precision", "tolerance", "max_error", "prune"}
        asked = {name: value for name, value in self.to_json().items() if name not in aim and name not in FILE_NAMES}
        asked |= self.aim().parameters()  # what means the same is the same there
        if not self.labels:
            del asked["labels"]
        facts = json.dumps([asked, version("gatesmith")], sort_keys=True)
        return "sha256:" + hashlib.sha256(facts.encode()).hexdigest()

    @property
    def files(self) -> tuple[str, ...]:
        """Digests of the files that the build needs, the model's first."""
        return tuple(dict.fromkeys(filter(None, (self.model, self.calibration, self.labels))))

    def aim(self, labels: Path | None = None) -> Aim:
        """How formats are chosen.

        Parameters
        ----------
        labels : Path, optional
            Where the labels' file lies, for a build.
        """
        return Aim(
            precision=self.precision,
            tolerance=self.tolerance,
            max_error=self.max_error,
            labels=labels or self.labels_file or None,
            prune=self.prune,
        )

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
            found = "None" if value is None else type(value).__name__
            possible = kinds[name].split(" | ")
            if found not in possible and not (found == "int" and "float" in possible):
                raise BuildError(f"order: {name} is of kind {found}, {' or '.join(possible)} is needed")
        missing = [name for name in ("model", "model_file", "name", "board") if name not in data]
        if missing:
            raise BuildError(f"an order needs {missing[0]!r}")
        return cls(**data)


def _matches(name: str, value: str, expression: re.Pattern[str]) -> None:
    if not expression.fullmatch(value):
        raise BuildError(f"order: {name} is {value[:80]!r}, {expression.pattern} is needed", field=name)


def _bounded(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        shown = str(value)[:SHOWN_DIGITS]
        raise BuildError(f"order: {name} is {shown}, {low} to {high} are possible", field=name)
