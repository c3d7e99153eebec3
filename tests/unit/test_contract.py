"""Samples on the wire, against bits written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatesmith.contract import Contract, HostOperation, HostOperationKind, Port, pack, unpack
from gatesmith.errors import ManifestInvalid, TensorMismatch
from gatesmith.fixed import FixedPoint
from gatesmith.tensor import Datatype, TensorSpec


def port(name: str, shape: tuple[int, ...], format: FixedPoint, *host: HostOperation) -> Port:
    spec = TensorSpec(name=name, datatype=Datatype.FP32, shape=(-1, *shape))
    return Port(spec=spec, format=format, host=host)


def by_hand(rows: list[list[tuple[int, int]]]) -> list[list[int]]:
    """Bytes of rows of (integer, width), by string arithmetic."""
    result = []
    for row in rows:
        bits = "".join(format(value % (1 << width), f"0{width}b")[::-1] for value, width in row)
        bits += "0" * (-len(bits) % 8)
        result.append([int(bits[i : i + 8][::-1], 2) for i in range(0, len(bits), 8)])
    return result


@settings(max_examples=60)
@given(st.data())
def test_packing_is_least_significant_bit_first(data: st.DataObject) -> None:
    widths = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    formats = [FixedPoint(data.draw(st.booleans()), w, 0) for w in widths]
    formats = [FixedPoint(f.signed, w - int(f.signed), 0) for f, w in zip(formats, widths, strict=True)]
    columns = [np.array([[data.draw(st.integers(f.min_integer, f.max_integer))] for _ in range(3)]) for f in formats]
    payload = pack(list(zip(columns, formats, strict=True)))
    rows = [[(int(c[i, 0]), w) for c, w in zip(columns, widths, strict=True)] for i in range(3)]
    assert payload.tolist() == by_hand(rows)
    back = unpack(payload, [(1, f) for f in formats])
    assert all((b == c).all() for b, c in zip(back, columns, strict=True))


def test_encode_rounds_half_to_even_and_saturates() -> None:
    contract = Contract(inputs=(port("x", (3,), FixedPoint(True, 3, 0)),), outputs=())
    payload = contract.encode({"x": np.array([[0.5, 1.5, 99.0]], dtype=np.float32)})
    assert payload.tolist() == by_hand([[(0, 4), (2, 4), (7, 4)]])


def test_host_operations_frame_the_device() -> None:
    scale = HostOperation(kind=HostOperationKind.SCALE, scale=(2.0, 0.5), offset=(1.0, 0.0))
    softmax = HostOperation(kind=HostOperationKind.SOFTMAX)
    format = FixedPoint(True, 7, 0)
    contract = Contract(inputs=(port("x", (2,), format, scale),), outputs=(port("y", (2,), format, softmax),))
    payload = contract.encode({"x": np.array([[3.0, 8.0]])})
    assert payload.tolist() == [[7, 4]]
    assert np.allclose(contract.decode(payload)["y"], [[1 / (1 + np.exp(-3)), 1 / (1 + np.exp(3))]])
    assert Contract.from_json(contract.to_json()) == contract


def test_softmax_does_not_overflow() -> None:
    given_ = HostOperation(kind=HostOperationKind.SOFTMAX).apply(np.array([[1e4, 0.0, -1e4]]))
    assert given_.tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({}, "input 'x' is missing"),
        ({"x": np.zeros((2, 4))}, r"shape \[2, 4\], \[-1, 3\] is needed"),
        ({"x": np.array([[0, np.nan, 0]])}, "'x' holds a value that is not finite"),
        ({"x": np.array([[0, np.inf, 0]])}, "'x' holds a value that is not finite"),
    ],
)
def test_tensors_that_break_the_contract(tensors: dict[str, np.ndarray], words: str) -> None:
    contract = Contract(inputs=(port("x", (3,), FixedPoint(True, 3, 0)),), outputs=())
    with pytest.raises(TensorMismatch, match=words):
        contract.encode(tensors)


def test_batches_have_to_be_equal() -> None:
    format = FixedPoint(True, 3, 0)
    contract = Contract(inputs=(port("a", (1,), format), port("b", (1,), format)), outputs=())
    with pytest.raises(TensorMismatch, match=r"different batches: \[1, 2\]"):
        contract.encode({"a": np.zeros((1, 1)), "b": np.zeros((2, 1))})


def test_scale_needs_as_many_offsets() -> None:
    with pytest.raises(ManifestInvalid, match="1 factors and 0 offsets"):
        HostOperation(kind=HostOperationKind.SCALE, scale=(1.0,))


def test_labels_go_with_the_elements_and_survive_json() -> None:
    spec = TensorSpec(name="y", datatype=Datatype.FP32, shape=(-1, 3))
    form = FixedPoint(signed=True, integer_bits=3, fraction_bits=4)
    port = Port(spec=spec, format=form, labels=("setosa", "versicolor", "virginica"))
    assert Port.from_json(port.to_json()) == port
    assert "labels" not in Port(spec=spec, format=form).to_json()
    with pytest.raises(ManifestInvalid, match="tensor 'y' has 2 labels, 3 elements need one each"):
        Port(spec=spec, format=form, labels=("setosa", "versicolor"))
