"""Host operations: what each does, what is refused, and the codec's short cut against the operations one by one."""

from __future__ import annotations

import bisect
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesmith.contract import Contract, Port, pack
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
        ({"kind": "median"}, "median has 0 weights; finite ones are needed, none below 0 and one above"),
        ({"kind": "median", "weights": [0.0, 0.0]}, "median has 2 weights"),
        ({"kind": "median", "weights": [2.0, -1.0]}, "median has 2 weights"),
        ({"kind": "median", "weights": [1.0, float("nan")]}, "median has 2 weights"),
        ({"kind": "median", "weights": [1e308, 1e308]}, "median has 2 weights"),
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


def output(shape: tuple[int, ...], *host: HostOperation) -> Contract:
    spec = TensorSpec(name="y", datatype=Datatype.FP32, shape=(-1, *shape))
    port = Port(spec=spec, format=FixedPoint(True, 3, 0), host=host)
    given_port = Port(spec=SPEC, format=FixedPoint(False, 3, 0))
    return Contract(inputs=(given_port,), outputs=(port,))


@given(st.lists(st.integers(-8, 7), min_size=4, max_size=4), st.permutations([0.5, 1.0, 1.0, 4.25]))
def test_the_median_is_the_first_with_half_of_the_weight(values: list[int], weights: list[float]) -> None:
    made = output((1,), HostOperation(kind=HostOperationKind.MEDIAN, weights=tuple(weights)))
    assert Contract.from_json(made.to_json()) == made
    assert (made.outputs[0].elements, made.output_bits) == (4, 16)
    payload = pack([(np.array([values]), made.outputs[0].format)])
    found = made.decode(payload)["y"]
    heavy = [v for v in values if sum(w for u, w in zip(values, weights, strict=True) if u <= v) >= sum(weights) / 2]
    assert found.shape == (1, 1)
    assert found[0, 0] == min(heavy)
    assert (made.unpack_outputs(payload) == values).all()


def test_a_median_that_does_not_fit_a_port_is_refused() -> None:
    median = HostOperation(kind=HostOperationKind.MEDIAN, weights=(1.0, 1.0, 1.0))
    with pytest.raises(ManifestInvalid, match=r"'y' has the shape \[-1, 3\], the host's median leaves \[-1, 1\]"):
        output((3,), median)
    with pytest.raises(ManifestInvalid, match="has 1 elements, the host's scale is for 3"):
        output((1,), median, SCALE)
    with pytest.raises(ManifestInvalid, match="input 'y' has the host's median, which is for outputs"):
        Contract(inputs=output((1,), median).outputs, outputs=())
