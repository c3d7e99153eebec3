"""Host operations: what each does, what is refused, and the codec's short cut against the operations one by one."""

from __future__ import annotations

import bisect
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesmith.contract import Contract, Port
from gatesmith.errors import ManifestInvalid, TensorMismatch
from gatesmith.fixed import FixedPoint
from gatesmith.host import HostOperation, HostOperationKind
from gatesmith.tensor import Datatype, TensorSpec

EDGES = ((-1.5, 0.0, 2.0), (), (0.25,))
BIN = HostOperation(kind=HostOperationKind.BIN, edges=EDGES)
FILL = HostOperation(kind=HostOperationKind.FILL, missing=7.0, most=6.0)
SCALE = HostOperation(kind=HostOperationKind.SCALE, scale=(2.0, 1.0, 0.3), offset=(0.1, 0.0, -1.0))
SPEC = TensorSpec(name="x", datatype=Datatype.FP32, shape=(-1, 3))
VALUES = st.floats(-4, 8, width=32) | st.sampled_from([-1.5, 0.0, 0.25, 2.0]) | st.just(float("nan"))


def contract(*host: HostOperation, format: FixedPoint | None = None) -> Contract:
    port = Port(spec=SPEC, format=format or FixedPoint(False, 3, 0), host=host)
    return Contract(inputs=(port,), outputs=(port,))


def integers(made: Contract, x: np.ndarray) -> np.ndarray:
    (port,) = made.inputs
    bits = np.unpackbits(made.encode({"x": x}), axis=1, bitorder="little")[:, : 3 * port.format.width]
    return bits.reshape(len(x), 3, -1) @ (1 << np.arange(port.format.width))


@given(st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=4), st.sampled_from([1, 5000]))
def test_bins_are_counted_as_bisect_does(rows: list[tuple[float, ...]], copies: int) -> None:
    x = np.tile(np.array(rows, dtype=np.float32), (copies, 1))  # few and many samples take different ways
    found = integers(contract(BIN, FILL), x)[: len(rows)]
    for row, given_row in zip(rows, found, strict=True):
        for value, edges, given_number in zip(row, EDGES, given_row, strict=True):
            assert given_number == (7 if np.isnan(value) else bisect.bisect_left(edges, np.float32(value)))


@given(st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=4))
@pytest.mark.parametrize("host", [(SCALE, FILL), (FILL,), (BIN, SCALE, FILL)], ids=["scale", "alone", "bin-scale"])
def test_the_codec_does_what_the_operations_do(host: tuple[HostOperation, ...], rows: list[tuple[float, ...]]) -> None:
    x = np.array(rows, dtype=np.float32)
    real = x.astype(np.float64)
    for operation in host:
        real = operation.apply(real)
    made = contract(*host)
    assert (integers(made, x) == made.inputs[0].format.quantize(real)).all()
    again = Contract.from_json(made.to_json())
    assert again == made
    assert again.inputs[0].spec.missing


def test_no_number_is_taken_for_a_missing_value() -> None:
    assert integers(contract(FILL), np.array([[1e30, 6.4, np.nan]], np.float32)).tolist() == [[6, 6, 7]]
    with pytest.raises(TensorMismatch, match="not finite, NaN for a missing one apart"):
        contract(FILL).encode({"x": np.array([[np.inf, np.nan, 1]], np.float32)})
    with pytest.raises(TensorMismatch, match=r"holds a value that is not finite$"):
        contract(BIN).encode({"x": np.array([[1, np.nan, 1]], np.float32)})


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"kind": "bin"}, "edges for no element"),
        ({"kind": "bin", "edges": [[1, 1]]}, "element 0 that do not ascend"),
        ({"kind": "bin", "edges": [[], [float("inf")]]}, "element 1 that do not ascend, or are not finite"),
        ({"kind": "fill", "missing": float("nan")}, "finite ones are needed"),
    ],
)
def test_what_is_no_operation_is_refused(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestInvalid, match=message):
        HostOperation.from_json(facts)


def test_operations_that_do_not_fit_a_port_are_refused() -> None:
    with pytest.raises(ManifestInvalid, match="has host operations after the one that fills"):
        contract(FILL, SCALE)
    short = HostOperation(kind=HostOperationKind.BIN, edges=EDGES[:2])
    with pytest.raises(ManifestInvalid, match="has 3 elements, the host's bin is for 2"):
        contract(short)
