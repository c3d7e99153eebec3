"""What lies on the wire for which tensors, against exact fractions and bits as text: no numpy on the other side."""

from __future__ import annotations

import copy
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatesmith.contract import Contract, HostOperation, HostOperationKind, Port
from gatesmith.errors import TensorMismatch
from gatesmith.fixed import FixedPoint
from gatesmith.packing import Packing
from gatesmith.tensor import Datatype, TensorSpec

FLOATS = {Datatype.FP32: np.float32, Datatype.FP64: np.float64, Datatype.FP16: np.float16}


@st.composite
def formats(draw: st.DrawFn, *, most: int = 40) -> FixedPoint:
    width = draw(st.sampled_from([1, 8, 16, 32, draw(st.integers(1, most))]))
    signed = draw(st.booleans())
    fraction = draw(st.integers(-30, 60))
    return FixedPoint(signed, width - int(signed) - fraction, fraction)


@st.composite
def ports(draw: st.DrawFn, name: str, *, host: bool = True) -> Port:
    shape = draw(st.sampled_from([(), (1,), (3,), (2, 2), (5,)]))
    elements = math.prod(shape)
    operations = []
    for _ in range(draw(st.integers(0, 2)) if host else 0):
        numbers = st.lists(st.floats(-1e6, 1e6), min_size=elements, max_size=elements)
        scale, offset = tuple(draw(numbers)), tuple(draw(numbers))
        operations.append(HostOperation(kind=HostOperationKind.SCALE, scale=scale, offset=offset))
    datatype = draw(st.sampled_from([Datatype.FP32, Datatype.FP64]))
    spec = TensorSpec(name=name, datatype=datatype, shape=(-1, *shape))
    return Port(spec=spec, format=draw(formats()), host=tuple(operations))


@st.composite
def values_for(draw: st.DrawFn, port: Port, batch: int) -> np.ndarray:
    """Anything finite, and above all what is hard: halves of steps, the ends of the format, and beyond them."""
    form = port.format
    ends = st.integers(form.min_integer - 2, form.max_integer + 2)
    halves = ends.map(lambda n: math.ldexp(n + 0.5, -form.fraction_bits))
    whole = ends.map(lambda n: math.ldexp(n, -form.fraction_bits))
    width = 32 if port.spec.datatype is Datatype.FP32 else 64
    some = st.floats(allow_nan=False, allow_infinity=False, width=width, min_value=-(2.0**100), max_value=2.0**100)
    count = batch * port.elements
    flat = draw(st.lists(st.one_of(halves, whole, some), min_size=count, max_size=count))
    return np.array(flat, dtype=FLOATS[port.spec.datatype]).reshape(batch, *port.spec.shape[1:])


def scaled(value: float, port: Port, element: int) -> float:
    """The host's operations in Python's floats."""
    for operation in port.host:
        value = value * operation.scale[element] + operation.offset[element]
    return value


def integer(value: float, form: FixedPoint) -> int:
    """The nearest integer of the format; Python rounds a fraction's half to even."""
    return min(max(round(Fraction(value) * Fraction(2) ** form.fraction_bits), form.min_integer), form.max_integer)


def as_text(numbers: list[tuple[int, int]]) -> str:
    return "".join(format(value % (1 << width), f"0{width}b")[::-1] for value, width in numbers)


def as_bytes(bits: str) -> list[int]:
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8][::-1], 2) for i in range(0, len(bits), 8)]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_what_is_encoded_is_what_fractions_say(data: st.DataObject) -> None:
    batch = data.draw(st.integers(1, 3))
    inputs = tuple(data.draw(ports(f"x{i}")) for i in range(data.draw(st.integers(1, 3))))
    tensors = {port.spec.name: data.draw(values_for(port, batch)) for port in inputs}
    kept = {name: values.copy() for name, values in tensors.items()}
    rows = []
    for row in range(batch):
        numbers = []
        for port in inputs:
            flat = tensors[port.spec.name][row].ravel().tolist()
            reals = [scaled(value, port, i) for i, value in enumerate(flat)]
            numbers += [(integer(real, port.format), port.format.width) for real in reals]
        rows.append(as_bytes(as_text(numbers)))
    assert Contract(inputs=inputs, outputs=()).encode(tensors).tolist() == rows
    assert all((kept[name] == values).all() for name, values in tensors.items())  # the client's arrays are not touched


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_what_is_decoded_is_what_fractions_say(data: st.DataObject) -> None:
    batch = data.draw(st.integers(1, 3))
    outputs = tuple(data.draw(ports(f"y{i}")) for i in range(data.draw(st.integers(1, 3))))
    contract = Contract(inputs=(), outputs=outputs)
    rows, wanted = [], {port.spec.name: [] for port in outputs}
    for _ in range(batch):
        numbers = []
        for port in outputs:
            form = port.format
            ends = st.one_of(st.sampled_from([form.min_integer, form.max_integer]), st.integers(0, form.max_integer))
            integers = data.draw(st.lists(ends, min_size=port.elements, max_size=port.elements))
            numbers += [(value, form.width) for value in integers]
            reals = [float(Fraction(value) / Fraction(2) ** form.fraction_bits) for value in integers]
            wanted[port.spec.name].append([scaled(real, port, i) for i, real in enumerate(reals)])
        padding = [(data.draw(st.integers(0, 127)), -sum(width for _, width in numbers) % 8)]
        rows.append(as_bytes(as_text([pair for pair in [*numbers, *padding] if pair[1]])))
    decoded = contract.decode(np.array(rows, np.uint8))
    for port in outputs:
        name, dtype = port.spec.name, FLOATS[port.spec.datatype]
        shape = (batch, *port.spec.shape[1:])
        assert decoded[name].dtype == dtype
        assert decoded[name].tolist() == np.array(wanted[name]).astype(dtype).reshape(shape).tolist()


@pytest.mark.parametrize("batch", [1, 500])
@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_layout_does_not_matter(batch: int, order: str) -> None:
    form = FixedPoint(True, 7, 4)
    spec = TensorSpec(name="x", datatype=Datatype.FP32, shape=(-1, 2, 3))
    contract = Contract(inputs=(Port(spec=spec, format=form),), outputs=(Port(spec=spec, format=form),))
    values = np.arange(batch * 6, dtype=np.float32).reshape(batch, 2, 3) % 100
    payload = contract.encode({"x": np.asarray(values, order=order)})
    assert contract.decode(payload)["x"].tolist() == values.tolist()
    assert contract.decode(np.asarray(payload, order="F"))["x"].tolist() == values.tolist()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("count", [1, 300])
def test_one_value_that_is_not_finite_is_found(bad: float, count: int) -> None:
    port = Port(spec=TensorSpec(name="x", datatype=Datatype.FP64, shape=(-1, 2)), format=FixedPoint(True, 7, 4))
    contract = Contract(inputs=(port,), outputs=())
    values = np.zeros((count, 2))
    values[-1, 1] = bad
    with pytest.raises(TensorMismatch, match="'x' holds a value that is not finite"):
        contract.encode({"x": values})
    values[:] = 1e307  # whose sum is not finite, and which are
    values[-1] = 1e300, -1e300  # whose squares are not finite
    assert contract.encode({"x": values})[-1].tolist() == as_bytes(as_text([(2047, 12), (-2048, 12)]))


@pytest.mark.parametrize(
    ("scale", "offset", "form"),
    [
        (1e290, -1e298, FixedPoint(True, 7, 30)),
        (1e-310, 0.25, FixedPoint(True, 7, 1)),
        (3.0, 1e-310, FixedPoint(True, 40, -30)),
        (0.1, 0.05, FixedPoint(False, -70, 78)),
        (1e-300, 1e-305, FixedPoint(True, -995, 1010)),
        (1e100, 0.0, FixedPoint(False, 1100, -1090)),
    ],
)
def test_numbers_at_the_ends_of_float64(scale: float, offset: float, form: FixedPoint) -> None:
    host = HostOperation(kind=HostOperationKind.SCALE, scale=(scale,), offset=(offset,))
    spec = TensorSpec(name="x", datatype=Datatype.FP64, shape=(-1, 1))
    contract = Contract(inputs=(Port(spec=spec, format=form, host=(host,)),), outputs=())
    for value in (0.0, 1.0, -1.0, 1e8, 1e-8, 5e-324, 0.375):
        want = as_bytes(as_text([(integer(value * scale + offset, form), form.width)]))
        assert contract.encode({"x": np.array([[value]])}).tolist() == [want], value


def test_a_contract_that_was_used_is_still_the_same_value() -> None:
    port = Port(spec=TensorSpec(name="x", datatype=Datatype.FP32, shape=(-1, 2)), format=FixedPoint(True, 7, 4))
    used, fresh = (Contract(inputs=(port,), outputs=(port,)) for _ in range(2))
    used.encode({"x": np.zeros((1, 2))})
    assert used == fresh
    assert hash(used) == hash(fresh)
    assert repr(used) == repr(fresh)
    again = copy.deepcopy(used)
    assert again == used
    assert again.encode({"x": np.ones((1, 2))}).tolist() == [[16, 0, 1]]


def test_bits_beyond_a_format_are_dropped() -> None:
    assert Packing([(2, FixedPoint(True, 3, 0))]).pack([np.array([[-1, 16 + 2]])]).tolist() == [[0x2F]]
