from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesmith.client.tensors import array_of, as_datatype, raw_of
from gatesmith.errors import ServerUnreachable, TensorMismatch
from gatesmith.serve.raw import array_of_raw
from gatesmith.serve.raw import raw_of as servers_raw_of
from gatesmith.tensor import Datatype, TensorSpec

NUMBERS = [kind for kind in Datatype if kind is not Datatype.BYTES]


@pytest.mark.parametrize("kind", NUMBERS)
@given(data=st.data())
def test_client_and_server_agree_on_every_datatype(kind: Datatype, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, 1 if kind is Datatype.BOOL else 100), max_size=6))
    array = np.array(values, kind.dtype).reshape(-1, 1)
    shape, raw = list(array.shape), raw_of(kind.value, array)
    assert raw == servers_raw_of(kind, array)
    spec = TensorSpec(name="x", datatype=kind, shape=(-1, 1))
    np.testing.assert_array_equal(array_of_raw(spec, raw, shape), array)
    np.testing.assert_array_equal(array_of(kind.value, shape, raw), array)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=5))
def test_bf16_is_the_nearest(values: list[float]) -> None:
    array = np.array(values, np.float32)
    assert raw_of("BF16", array) == servers_raw_of(Datatype.BF16, array)


@given(st.lists(st.binary(max_size=9), max_size=5))
def test_strings(items: list[bytes]) -> None:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    raw = raw_of("BYTES", array)
    assert raw == servers_raw_of(Datatype.BYTES, array)
    assert array_of("BYTES", [len(items)], raw).tolist() == items


@pytest.mark.parametrize(
    ("datatype", "array", "message"),
    [
        ("FP32", np.array(["a"]), "input 'x' has dtype <U1, the model's FP32 is float32"),
        ("INT8", np.array([1.5]), "has dtype float64, the model's INT8 is int8"),
        ("INT8", np.array([300]), "holds a value out of the range of INT8"),
        ("UINT8", np.array([-1]), "out of the range of UINT8"),
        ("BOOL", np.array([1]), "the model's BOOL is bool"),
        ("BYTES", np.array([b"a", 5], dtype=object), "holds a int where text or bytes are needed"),
    ],
)
def test_what_would_change_a_value_is_refused(datatype: str, array: np.ndarray, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(TensorMismatch, match=message):
        as_datatype("x", datatype, array)


def test_whole_numbers_stand_for_floats() -> None:
    assert as_datatype("x", "FP32", np.array([1, 2])).dtype == np.float32
    assert as_datatype("x", "FP16", np.array([1.5])).dtype == np.float16


@pytest.mark.parametrize(
    ("datatype", "shape", "raw"),
    [
        ("FP32", [2], b"abc"),
        ("FP32", [2], b"abcd"),
        ("FP7", [1], b"a"),
        ("BYTES", [2], b"\1\0\0\0a"),
        ("BYTES", [1], b"\1"),
    ],
)
def test_answers_that_are_not_what_they_say(datatype: str, shape: list[int], raw: bytes) -> None:
    with pytest.raises(ServerUnreachable, match="the server's answer is no"):
        array_of(datatype, shape, raw)
