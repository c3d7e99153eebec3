"""Logs on standard error: lines for people, or one JSON object for each.

What a record says beside its message (model, device, outcome) is in ``extra``: keys of the JSON object.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Final, TextIO

from gatesmith.serve.settings import Settings

__all__ = ["configure_logs"]

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure_logs(settings: Settings, stream: TextIO | None = None) -> None:
    """Send this package's records, and what other packages warn of, to a stream; once for a process."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("gatesmith").setLevel(logging.INFO)


class TextFormatter(logging.Formatter):
    """Time, level, message; whatever clients put into it, a line that begins with a time is a record."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")

    def format(self, record: logging.LogRecord) -> str:
        """See :class:`logging.Formatter`."""
        said = {**vars(record), "msg": _printable(record.getMessage()), "args": None}
        first, *trace = super().format(logging.makeLogRecord(said)).split("\n")
        return "\n".join([first, *(f"  {_printable(line)}" for line in trace)])


def _printable(text: str) -> str:
    """The text in one line, without what a terminal acts on."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class JsonFormatter(logging.Formatter):
    """One object in a line."""

    def format(self, record: logging.LogRecord) -> str:
        """See :class:`logging.Formatter`."""
        data: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        data |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            data["exception"] = self.formatException(record.exc_info)
        return json.dumps(data, default=str)
