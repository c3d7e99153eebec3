"""JSON of a file: any text, and no more memory than two copies of it."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatesmith.frontends.reading import json_of

TEXTS = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    TEXTS | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=8
)


@given(value=VALUES)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_read(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "any.json"
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    assert json_of(path) == value


def test_one_rare_character_costs_no_memory(tmp_path: Path) -> None:
    """As text, the file would take four bytes for each character."""
    path = tmp_path / "wide.json"
    path.write_text(json.dumps([{"token": "\N{INPUT SYMBOL FOR NUMBERS}"}, " " * 4_000_000], ensure_ascii=False))
    tracemalloc.start()
    found = json_of(path, lambda each: each["token"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found[0] == "\N{INPUT SYMBOL FOR NUMBERS}"
    assert peak < 3.2 * path.stat().st_size  # one of them is the value


@pytest.mark.parametrize("data", [b'"\xff"', b'"\xc3"', b'["\xed\xa0\x80"]', b"\xef\xbb\xbf[]", "é".encode()])
def test_what_is_no_json_in_utf_8(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_bytes(data)
    with pytest.raises((UnicodeDecodeError, json.JSONDecodeError)):
        json_of(tmp_path / "wrong.json")
