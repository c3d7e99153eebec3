from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesmith.errors import TensorMismatch
from gatesmith.serve.tensors import InputTensor, array_of, samples_of
from gatesmith.tensor import Datatype, TensorSpec

FLOATS = TensorSpec(name="x", datatype=Datatype.FP32, shape=(-1, 2, 2))


def spec(datatype: str, *sizes: int) -> TensorSpec:
    return TensorSpec(name="x", datatype=Datatype(datatype), shape=(-1, *sizes))


def tensor(data: Any, *, shape: Any = (1, 2, 2), datatype: Any = "FP32") -> InputTensor:
    return InputTensor("x", datatype, list(shape) if isinstance(shape, tuple) else shape, data)


@pytest.mark.parametrize("data", [[1, 2.5, -3, 4], [[[1, 2.5], [-3, 4]]]], ids=["flat", "nested"])
def test_flat_and_nested_are_the_same(data: list[Any]) -> None:
    array = array_of(FLOATS, tensor(data))
    assert array.dtype == np.float32
    assert array.tolist() == [[[1.0, 2.5], [-3.0, 4.0]]]


@given(
    st.sampled_from(["UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32", "UINT64", "INT64"]),
    st.integers(min_value=-(1 << 65), max_value=1 << 65),
)
def test_integers_pass_exactly_within_their_range(datatype: str, value: int) -> None:
    limits = np.iinfo(Datatype(datatype).dtype)
    given_tensor = tensor([value], shape=(1,), datatype=datatype)
    if limits.min <= value <= limits.max:
        assert array_of(spec(datatype), given_tensor).tolist() == [value]
    else:
        with pytest.raises(TensorMismatch, match="out of the range"):
            array_of(spec(datatype), given_tensor)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=4, max_size=4))
def test_floats_round_once_or_are_refused(values: list[float]) -> None:
    with np.errstate(over="ignore"):
        rounded = np.array(values, dtype=np.float64).astype(np.float32)
    if np.isfinite(rounded).all():
        assert array_of(FLOATS, tensor(values)).reshape(-1).tolist() == rounded.tolist()
    else:
        with pytest.raises(TensorMismatch, match="not finite in FP32"):
            array_of(FLOATS, tensor(values))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([1, 2, 3, True], "holds True at element 3, which is no FP32"),
        ([1, 2, None, 4], "holds None at element 2"),
        ([1, "2", 3, 4], "holds '2' at element 1"),
        ([1, {}, 3, 4], "holds {} at element 1"),
        ([1, [2], 3, 4], r"holds \[2\] at element 1"),
        ([1, 2, 3], r"holds 3 elements, its shape \[1, 2, 2\] needs 4"),
        ([], "holds 0 elements"),
        ([1, 2, 3, 4, 5], "holds 5 elements"),
        ([[[1, 2], [3]]], r"has lists of \[1, 2\] at depth 2, 2 is needed"),
        ([[[1, 2, 3], [4]]], "has lists of"),
        ([[[1, 2], 3]], "is not nested as its shape"),
        ([[1, 2], [3, 4]], "nests 2 samples"),
        ([[[1, 2], [3, 4]], [[1, 2], [3, 4]]], "nests 2 samples, its shape"),
        ([[[[1], [2]], [[3], [4]]]], r"holds \[1\] at element 0"),
        ({"0": 1}, "data of kind dict, a list is needed"),
        ("1234", "data of kind str"),
        (None, "data of kind NoneType"),
        (3, "data of kind int"),
    ],
)
def test_data_that_does_not_fit(bad: Any, message: str) -> None:
    with pytest.raises(TensorMismatch, match=message):
        array_of(FLOATS, tensor(bad))


@pytest.mark.parametrize(
    "shape",
    [(4,), (1, 4), (1, 2, 3), (-1, 2, 2), (1.0, 2, 2), (True, 2, 2), "122", None, {}, (), (1, 2, 2, 1), ("1", 2, 2)],
)
def test_shapes_that_do_not_fit(shape: Any) -> None:
    with pytest.raises(TensorMismatch, match=r"has shape .* \[-1, 2, 2\] is needed"):
        array_of(FLOATS, tensor([1, 2, 3, 4], shape=shape))


def test_an_announced_giant_costs_nothing() -> None:
    with pytest.raises(TensorMismatch, match="holds 4 elements"):
        array_of(FLOATS, tensor([1, 2, 3, 4], shape=(1 << 60, 2, 2)))


@pytest.mark.parametrize("datatype", ["FP64", "fp32", "FLOAT", "", None, 32, [], {}])
def test_datatypes_that_do_not_fit(datatype: Any) -> None:
    with pytest.raises(TensorMismatch, match=r"has datatype .*, FP32 is needed"):
        array_of(FLOATS, tensor([1, 2, 3, 4], datatype=datatype))


def test_kinds_are_not_mixed_up() -> None:
    for datatype, value in (("INT8", 1.0), ("INT8", True), ("BOOL", 1), ("BYTES", 1)):
        with pytest.raises(TensorMismatch, match="which is no"):
            array_of(spec(datatype), tensor([value], shape=(1,), datatype=datatype))
    assert array_of(spec("BOOL"), tensor([True], shape=(1,), datatype="BOOL")).tolist() == [True]


def test_an_empty_batch_has_a_shape() -> None:
    assert array_of(FLOATS, tensor([], shape=(0, 2, 2))).shape == (0, 2, 2)


def test_arrays_pass_the_same_checks() -> None:
    good = np.arange(4, dtype=np.float32)
    assert array_of(FLOATS, tensor(good)).shape == (1, 2, 2)
    with pytest.raises(TensorMismatch, match="holds 3 elements"):
        array_of(FLOATS, tensor(good[:3]))
    with pytest.raises(TensorMismatch, match="not finite"):
        array_of(FLOATS, tensor(np.full(4, math.nan, dtype=np.float32)))


def test_samples_are_nested_lists() -> None:
    assert samples_of(FLOATS, [[[1, 2], [3, 4]]] * 3).shape == (3, 2, 2)
    assert samples_of(spec("INT8"), [1, 2]).tolist() == [1, 2]
    for bad in ([1, 2, 3, 4], [[1, 2], [3, 4]], [[[1, 2], [3, None]]], [{}], ["ab"]):
        with pytest.raises(TensorMismatch):
            samples_of(FLOATS, bad)


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.9])
def test_long_lists_are_what_numpy_makes_of_them(datatype: str, share: float) -> None:
    random = np.random.default_rng(0)
    values: list[Any] = random.normal(0, 3, 4000).tolist()
    for place in np.flatnonzero(random.random(4000) < share):
        values[place] = [0, 1, 0.0, 1.0, -0.0, 2**53 + 1, 2**70, -7][place % 8]
    array = array_of(spec(datatype, 4), tensor(values, shape=(1000, 4), datatype=datatype))
    wanted = np.array(values, dtype=array.dtype).reshape(1000, 4)
    assert array.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("bad", [True, False, "1", None, [1.0], 10**400])
@pytest.mark.parametrize("filler", [2.5, 1.0, 0])
def test_one_bad_value_in_a_long_list_is_found(bad: Any, filler: Any) -> None:
    """A planted fault: true and false are numbers to Python."""
    values = [filler] * 4000
    values[3000] = bad
    with pytest.raises(TensorMismatch, match=r"element 3000, which is no FP32|out of the range of FP32"):
        array_of(spec("FP32", 4), tensor(values, shape=(1000, 4)))


def test_a_long_list_of_floats_may_be_out_of_range() -> None:
    values = [2.5] * 4000
    values[17] = 1e39
    with pytest.raises(TensorMismatch, match="not finite in FP32"):
        array_of(spec("FP32", 4), tensor(values, shape=(1000, 4)))
