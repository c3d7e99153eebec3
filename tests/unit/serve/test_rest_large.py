from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatesmith.serve import rest_large
from gatesmith.serve.rest_large import dumps_in_slices, loads_in_slices

NUMBERS = st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False, allow_infinity=False)
ITEMS = NUMBERS | st.none() | st.booleans() | st.text(max_size=3) | st.lists(NUMBERS, max_size=4)


@pytest.fixture(autouse=True)
def _everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_large, "_WORTH_BYTES", 0)
    monkeypatch.setattr(rest_large, "_SLICE_BYTES", 7)


def plain(data: Any) -> Any:
    """Arrays as lists again."""
    if isinstance(data, np.ndarray):
        return data.tolist()
    if isinstance(data, dict):
        return {key: plain(value) for key, value in data.items()}
    return [plain(value) for value in data] if isinstance(data, list) else data


def same_as_json(body: bytes) -> None:
    try:
        want = orjson.loads(body)
    except orjson.JSONDecodeError:
        with pytest.raises(orjson.JSONDecodeError):
            loads_in_slices(body)
    else:
        assert plain(loads_in_slices(body)) == want


@settings(max_examples=300)
@given(st.lists(st.lists(ITEMS, max_size=12), max_size=3), st.sampled_from([None, 1, (",  ", " : ")]))
def test_it_reads_what_the_json_library_reads(lists: list[list[Any]], style: Any) -> None:
    content = {"id": '"data":[1,2]', "inputs": [{"name": "x", "data": data} for data in lists], "instances": lists}
    options: Any = {"indent": style} if style == 1 else {"separators": style} if style else {}
    same_as_json(json.dumps(content, **options).encode())


@settings(max_examples=300)
@given(st.text(alphabet='[]{},:" 1.-e"datinsce', max_size=60))
def test_it_refuses_what_the_json_library_refuses(text: str) -> None:
    inside = text.encode()
    for body in (inside, b'{"inputs":[{"data":[%b]}]}' % inside, b'{"instances":[[%b],[1,2]]}' % inside):
        same_as_json(body)


@pytest.mark.parametrize(
    "inside",
    ["1,2,3,4,5,6,", ",1,2,3,4,5", "1,,2,3,4,5,6,7", "1 2,3,4,5,6,7", "01,2,3,4,5,6", "1,2,3,4,5,6]", "[1],[2,3],[4]",
     "1,2,3,[4],5,6", "1,2,3,true,5,6", '1,2,3,"],",5,6', "[[1,2],[3,4]],[[5,6],[7,8]]", "1e999,2,3,4,5"],
)  # fmt: skip
def test_near_misses(inside: str) -> None:
    same_as_json(b'{"inputs":[{"data":[%b]}]}' % inside.encode())


@pytest.mark.parametrize(
    ("data", "kind", "shape"),
    [([1.5] * 50, "f", (50,)), ([1] * 50, "i", (50,)), ([1, 2.5] * 25, "f", (50,)), ([[1, 2]] * 25, "i", (25, 2))],
)
def test_plain_numbers_become_arrays(data: list[Any], kind: str, shape: tuple[int, ...]) -> None:
    (tensor,) = loads_in_slices(json.dumps({"inputs": [{"data": data}]}).encode())["inputs"]
    assert isinstance(tensor["data"], np.ndarray)
    assert (tensor["data"].dtype.kind, tensor["data"].shape) == (kind, shape)


def test_a_text_that_looks_like_a_list_stays_a_text() -> None:
    text = 'x "data":[1,2,3,4,5,6,7,8] y'
    body = json.dumps({"id": text, "inputs": []}).encode()
    assert loads_in_slices(body) == {"id": text, "inputs": []}


def test_many_keys_cost_little() -> None:
    same_as_json(b'{"inputs":' + b'[{"data":[' * 200 + b"}")


def test_answers_in_slices() -> None:
    array = np.arange(10_000, dtype=np.float32) / 3
    assert dumps_in_slices(array) == orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
    assert dumps_in_slices(array[:0]) == b"[]"
