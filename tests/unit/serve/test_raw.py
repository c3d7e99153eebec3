from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesmith.errors import TensorMismatch
from gatesmith.serve.raw import array_of_raw, item_bytes, raw_of
from gatesmith.serve.tensors import InputTensor, array_of
from gatesmith.tensor import Datatype, TensorSpec

# One element of each datatype, and the bytes that struct makes of it.
CODES = {
    "BOOL": ("?", True), "UINT8": ("B", 200), "UINT16": ("H", 60_000), "UINT32": ("I", 1 << 31),
    "UINT64": ("Q", 1 << 63),
    "INT8": ("b", -100), "INT16": ("h", -30_000), "INT32": ("i", -(1 << 31)), "INT64": ("q", -(1 << 63)),
    "FP16": ("e", 1.5), "FP32": ("f", -0.1), "FP64": ("d", 0.1),
}  # fmt: skip


def spec(datatype: str, *sizes: int) -> TensorSpec:
    return TensorSpec(name="x", datatype=Datatype(datatype), shape=(-1, *sizes))


@pytest.mark.parametrize("datatype", CODES)
def test_numbers_both_ways_as_struct_packs_them(datatype: str) -> None:
    code, value = CODES[datatype]
    raw = struct.pack(f"<2{code}", value, value)
    array = array_of_raw(spec(datatype, 2), raw, [1, 2])
    assert array.dtype == Datatype(datatype).dtype
    assert raw_of(Datatype(datatype), array) == raw
    assert item_bytes(Datatype(datatype)) == len(raw) // 2
    assert array_of(spec(datatype, 2), InputTensor("x", datatype, [1, 2], memoryview(raw))).tolist() == array.tolist()


def test_all_datatypes_are_here() -> None:
    assert {kind.value for kind in Datatype} == {*CODES, "BF16", "BYTES"}


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, max_value=2.0**126, min_value=-(2.0**126)))
def test_bf16_is_the_nearest_float32_with_a_short_fraction(value: float) -> None:
    raw = raw_of(Datatype.BF16, np.array([value], np.float32))
    (back,) = array_of_raw(spec("BF16"), raw, [1])
    (low,) = struct.unpack("<f", b"\0\0" + struct.pack("<f", value)[2:])  # towards zero
    (high,) = struct.unpack("<f", struct.pack("<I", struct.unpack("<I", struct.pack("<f", low))[0] + 0x10000))
    assert back in (low, high)
    assert abs(float(back) - value) == min(abs(low - value), abs(high - value))


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_short_floats_have_no_form_in_json(datatype: str) -> None:
    with pytest.raises(TensorMismatch, match="has no form in JSON; send it as binary data"):
        array_of(spec(datatype), InputTensor("x", datatype, [1], [1.0]))


@pytest.mark.parametrize(
    ("datatype", "raw", "message"),
    [
        ("FP32", b"\0" * 7, "holds 7 bytes, its shape .* needs 8"),
        ("FP32", b"\0" * 12, "holds 12 bytes"),
        ("FP32", b"", "holds 0 bytes"),
        ("FP32", struct.pack("<2f", 1, float("nan")), "not finite"),
        ("FP64", struct.pack("<2d", 1, float("inf")), "not finite"),
        ("BF16", b"\x80\x7f\0\0", "not finite"),
        ("BOOL", b"\x01\x02", "neither 0 nor 1"),
    ],
)
def test_bytes_that_do_not_fit(datatype: str, raw: bytes, message: str) -> None:
    with pytest.raises(TensorMismatch, match=message):
        array_of(spec(datatype, 2), InputTensor("x", datatype, [1, 2], raw))


@given(st.lists(st.binary(max_size=9), max_size=5))
def test_strings_both_ways(items: list[bytes]) -> None:
    raw = b"".join(struct.pack("<I", len(item)) + item for item in items)
    array = array_of(spec("BYTES"), InputTensor("x", "BYTES", [len(items)], raw))
    assert array.tolist() == items
    assert raw_of(Datatype.BYTES, array) == raw
    texts = ["ä", ""]
    assert array_of(spec("BYTES"), InputTensor("x", "BYTES", [2], texts)).tolist() == [t.encode() for t in texts]


@pytest.mark.parametrize("raw", [b"\1", b"\1\0\0\0", b"\5\0\0\0abc", b"\xff\xff\xff\xff", b"\0\0\0\0\0\0\0\0"])
def test_strings_that_end_too_soon_or_are_too_many(raw: bytes) -> None:
    with pytest.raises(TensorMismatch, match=r"ends within an element|holds 2 elements"):
        array_of_raw(spec("BYTES"), raw, [1])


@pytest.mark.parametrize(
    ("datatype", "array", "message"),
    [
        ("INT8", np.array([1.0, 2.0]), "no INT8"),
        ("INT8", np.array([1, 200]), "out of the range"),
        ("FP32", np.array([True, False]), "no FP32"),
        ("BOOL", np.array([0, 1]), "no BOOL"),
        ("FP32", np.array([[1.0], [2.0]]), "is nested as"),
        ("FP32", np.array([1.0, 1e39]), "not finite"),
    ],
)
def test_arrays_that_do_not_fit(datatype: str, array: np.ndarray[Any, Any], message: str) -> None:
    with pytest.raises(TensorMismatch, match=message):
        array_of(spec(datatype, 2), InputTensor("x", datatype, [1, 2], array))
