"""What every reader of a model file promises: whatever the bytes, an error of ours in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gatesmith.errors import GatesmithError, ModelError, ModelUnreadable

__all__ = ["reading", "words"]

FOREIGN = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, MemoryError)
"""What damaged bytes may set off in Python and numpy."""


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


def words(error: BaseException) -> str:
    """The error on one line of bounded length."""
    return " ".join(f"{type(error).__name__} {error}".split())[:300]
