"""Large JSON in slices: the JSON library holds Python's lock for as long as one call takes, so no call may be long.

Long lists of numbers after ``"data"`` or ``"instances"``, flat or as rows, are nearly all of a large request. They are
cut out, parsed in slices and put back as arrays, which also spares the memory of millions of number objects; the small
rest is parsed as usual. Whatever does not look like that, or does not parse in parts, is parsed as a whole: what is
accepted and what is not never depends on this module.
"""

from __future__ import annotations

import re
import secrets
import time
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from gatesmith.serve.tensors import packed

__all__ = ["dumps_in_slices", "loads_in_slices"]

_SLICE_BYTES, _SLICE_ITEMS = 32 << 10, 4096
_WORTH_BYTES = 4 * _SLICE_BYTES
_MOST_LISTS = 64
_KEY = re.compile(rb'"(?:data|instances)"\s*:\s*\[')
_EXACT = 2**53  # below, a whole number among floats is one of them
_FLOATS, _WHOLE = frozenset({int, float}), frozenset({int})


def loads_in_slices(body: bytes) -> Any:
    """What ``orjson.loads`` gives, but that long lists of numbers may be arrays of float64 or int64.

    Raises
    ------
    orjson.JSONDecodeError
    """
    arrays: list[NDArray[Any]] = []
    nonce = secrets.token_hex(16)
    rest: list[bytes] = []
    place = 0
    for start in _starts(body):
        end = _end_of_list(body, start)
        if start < place or end - start < _WORTH_BYTES:
            continue
        values = _read_list(body[start + 1 : end])
        if values is not None:
            rest += [body[place:start], b'"%s-%d"' % (nonce.encode(), len(arrays))]
            arrays.append(values)
            place = end + 1
    if not arrays:
        return orjson.loads(body)
    try:
        return _put_back(orjson.loads(b"".join([*rest, body[place:]])), nonce, arrays)
    except orjson.JSONDecodeError:
        return orjson.loads(body)  # a list was cut out of a text, or there is a mistake: this tells which


def dumps_in_slices(array: NDArray[Any]) -> bytes:
    """A flat array as a JSON list, for a thread that is to let others run meanwhile."""
    parts = []
    for start in range(0, len(array), _SLICE_ITEMS):
        parts.append(orjson.dumps(array[start : start + _SLICE_ITEMS], option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])
        time.sleep(0)
    return b"[" + b",".join(parts) + b"]"


def _starts(body: bytes) -> list[int]:
    """Where lists begin that may be worth it; few are looked at, because one look may go through the whole body."""
    starts: list[int] = []
    for name in (b'"data"', b'"instances"'):
        place = -1
        while len(starts) < _MOST_LISTS and (place := body.find(name, place + 1)) >= 0:
            if match := _KEY.match(body, place):
                starts.append(match.end() - 1)
    return sorted(starts)


def _end_of_list(body: bytes, start: int) -> int:
    """Where a list ends, if it is flat or of rows; nothing sensible for anything else, which then is not read."""
    end = body.find(b"]", start)
    is_flat = end < 0 or body.find(b"[", start + 1, end) < 0
    return end if is_flat else body.find(b"]]", end) + 1


def _read_list(text: bytes) -> NDArray[Any] | None:
    """A list's inside, or nothing when it is not numbers of one of the two forms."""
    rows = b"[" in text
    slices: list[NDArray[Any]] = []
    place = 0
    while True:
        end = _cut(text, place + _SLICE_BYTES, rows)
        part = text[place:end]
        try:
            items = orjson.loads(b"[" + part + b"]") if part.strip() else []
        except orjson.JSONDecodeError:
            return None
        array = _array(items, rows)
        if array is None:
            return None
        slices.append(array)
        if end == len(text):
            return _joined(slices)
        place = end + 1
        time.sleep(0)  # others may have Python's lock now


def _cut(text: bytes, place: int, rows: bool) -> int:
    """The first comma between two items from a place on."""
    if rows:
        bracket = text.find(b"]", place)
        place = bracket if bracket >= 0 else len(text)
    comma = text.find(b",", place)
    return comma if comma >= 0 else len(text)


def _array(items: list[Any], rows: bool) -> NDArray[Any] | None:
    if not items or (rows and (set(map(type, items)) != {list} or len(set(map(len, items))) != 1)):
        return None
    flat = list(chain.from_iterable(items)) if rows else items
    values = packed(flat)
    fractions = values is not None and bool((values != np.floor(values)).any())  # else all may be whole numbers
    if values is not None and fractions and np.abs(values).max() < _EXACT:
        return values.reshape(len(items), -1) if rows else values
    kinds = frozenset(map(type, flat))
    if not kinds or not kinds <= _FLOATS:
        return None
    try:
        array = np.array(flat, dtype=np.int64 if kinds == _WHOLE else np.float64)
    except OverflowError:  # whole numbers of more than 64 bits
        return None
    if len(kinds) > 1 and np.abs(array).max() >= _EXACT:
        return None
    return array.reshape(len(items), -1) if rows else array


def _joined(slices: list[NDArray[Any]]) -> NDArray[Any] | None:
    widths = {part.shape[1:] for part in slices}
    mixed = len({part.dtype for part in slices}) > 1
    if len(widths) > 1 or (mixed and any(((part >= _EXACT) | (part <= -_EXACT)).any() for part in slices)):
        return None
    return np.concatenate(slices)


def _put_back(data: Any, nonce: str, arrays: list[NDArray[Any]]) -> Any:
    """Arrays where the protocols have numbers; elsewhere nothing reads them."""
    inputs = data.get("inputs") if type(data) is dict else None
    owners = [(data, "instances")] if type(data) is dict else []
    owners += [(tensor, "data") for tensor in inputs if type(tensor) is dict] if type(inputs) is list else []
    for owner, key in owners:
        mark = owner.get(key)
        if type(mark) is str and mark.startswith(nonce):
            owner[key] = arrays[int(mark.rpartition("-")[2])]
    return data
