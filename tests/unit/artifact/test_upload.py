"""An upload in pieces: time in which pieces were taken does not count against its tries."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gatesmith.artifact import media_types, upload
from gatesmith.artifact.answer import Answer
from gatesmith.artifact.connection import Connection
from gatesmith.artifact.descriptor import Descriptor

CONTENT = bytes(2500)
TAKEN = Answer(status=202, url="", headers={"location": "/upload"})


def test_a_piece_that_was_taken_gives_new_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    progressed: list[int] = []
    told: list[int] = []
    patience = SimpleNamespace(progressed=lambda: progressed.append(sum(told)), wait=None)
    connection = SimpleNamespace(
        registry="r", call=lambda *_, **__: TAKEN, target=lambda _: "/upload", patience=lambda: patience
    )
    monkeypatch.setattr(upload, "PIECE_BYTES", 1000)
    monkeypatch.setattr(upload, "_piece", lambda *_: TAKEN)
    descriptor = Descriptor.of(media_types.BITSTREAM, CONTENT)
    file: Any = io.BytesIO(CONTENT)
    upload._in_pieces(cast(Connection, connection), "/v2/x", "scope", descriptor, file, told.append)
    assert progressed == [0, 1000, 2000]
    assert told == [1000, 1000, 500]
