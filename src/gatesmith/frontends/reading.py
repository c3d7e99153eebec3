"""What every reader of a model file promises: whatever the bytes, an error of ours in one line."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gatesmith.errors import GatesmithError, ModelError, ModelUnreadable

__all__ = ["json_of", "members", "reading", "words"]

FOREIGN = (
    *(ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, StopIteration, TypeError, ValueError),
)
"""What damaged bytes may set off in Python and numpy."""

BEYOND_ASCII = re.compile(rb"[\x80-\xff]+")


@contextmanager
def reading(library: str, label: str) -> Iterator[None]:
    """Turn what damaged bytes set off into the error that says so.

    Raises
    ------
    ModelUnreadable
    """
    try:
        yield
    except ModelError as error:
        if type(error) is not ModelError:
            raise
        raise ModelUnreadable(f"{label} is not a whole {library} model: {error}") from error
    except GatesmithError:
        raise
    except FOREIGN as error:
        raise ModelUnreadable(f"{label} is not a whole {library} model: {words(error)}") from error


def members(path: Path) -> list[str]:
    """Names in a zip archive; none where the file is another, or too damaged to tell."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError):
        return []


def json_of(path: Path, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """What a file holds, each object through the hook.

    One character beyond ASCII, which CatBoost likes to write, would make the whole text four times as large.
    """
    text = BEYOND_ASCII.sub(_escaped, path.read_bytes()).decode("ascii")
    return json.loads(text, object_hook=hook)


def _escaped(found: re.Match[bytes]) -> bytes:
    return json.dumps(found[0].decode())[1:-1].encode()


def words(error: BaseException) -> str:
    """The error on one line of bounded length."""
    return " ".join(f"{type(error).__name__} {error}".split())[:300]
