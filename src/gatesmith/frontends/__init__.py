"""A trained model in, a float graph out. Frontends are found by the entry-point group ``gatesmith.frontends``."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

from gatesmith.errors import ModelUnreadable, UnsupportedOperation
from gatesmith.frontends.frontend import Frontend, GraphBuilder
from gatesmith.frontends.onnx_file import in_one_file, may_be_divided
from gatesmith.model.graph import Graph

__all__ = ["Frontend", "GraphBuilder", "model_content", "read_model"]

GROUP = "gatesmith.frontends"

MAX_FILE_BYTES = 1 << 30


def read_model(source: object, *, name: str | None = None, trust_pickle: bool = False) -> Graph:
    """Read a trained model.

    Parameters
    ----------
    source : object
        A fitted estimator, or the path (str or Path) of a model file; its kind is told by its content.
    name : str, optional
        Name of the model; by default the file's, or the estimator's class.
    trust_pickle : bool
        Allow a pickle or joblib file. Reading one runs whatever code it holds.

    Raises
    ------
    ModelUnreadable
        When the file is missing, empty, too large, damaged, or of a kind that no frontend reads.
    UnsupportedOperation
        When a part of the model has no exact translation.
    """
    if isinstance(source, str | Path):
        source = _checked_path(Path(source))
    try:
        return _read(source, name=name, trust_pickle=trust_pickle)
    except OSError as error:
        raise ModelUnreadable(f"model file {str(source)!r} cannot be read: {error.strerror or error}") from error


def _read(source: object, *, name: str | None, trust_pickle: bool) -> Graph:
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        frontend: Frontend = entry.load()()
        if frontend.accepts(source):
            return frontend.read(source, name=name or default_name(source), trust_pickle=trust_pickle)
    kinds = ", ".join(sorted(entry.name for entry in entry_points(group=GROUP)))
    if isinstance(source, Path):
        raise ModelUnreadable(
            f"{str(source)!r} is not a model file of a known kind; known are {kinds}", path=str(source)
        )
    raise UnsupportedOperation(
        f"an object of {type(source).__module__}.{type(source).__qualname__} is no known model; known are {kinds}"
    )


def default_name(source: object) -> str:
    """A name for a model that was given none: letters, digits, dash and underscore."""
    if isinstance(source, tuple) and source:  # a module and its example inputs
        source = source[0]
    raw = source.stem if isinstance(source, Path) else type(source).__name__
    return re.sub(r"[^a-z0-9_-]+", "-", raw.lower()).strip("-_") or "model"


def model_content(path: Path) -> bytes:
    """All that a model's file says: its bytes, and those of an ONNX model's weights in other files in their place.

    Raises
    ------
    ModelUnreadable
    """
    try:
        content = path.read_bytes()
        return in_one_file(path, content) if may_be_divided(content) else content
    except OSError as error:
        raise ModelUnreadable(
            f"model file {str(path)!r} cannot be read: {error.strerror or error}", path=str(path)
        ) from error


def _checked_path(path: Path) -> Path:
    try:
        is_file, size = path.is_file(), path.stat().st_size
    except (OSError, ValueError):  # ValueError: a null byte
        raise ModelUnreadable(f"model file {str(path)!r} does not exist", path=str(path)) from None
    if not is_file:
        raise ModelUnreadable(
            f"model file {str(path)!r} is {'a folder' if path.is_dir() else 'no file'}", path=str(path)
        )
    if not 0 < size <= MAX_FILE_BYTES:
        raise ModelUnreadable(
            f"model file {str(path)!r} has {size} bytes, 1 to {MAX_FILE_BYTES} are possible", path=str(path)
        )
    return path
