"""Datatypes of the protocol and numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from gatesmith.tensor import Datatype


@pytest.mark.parametrize("kind", [kind for kind in Datatype if kind not in {Datatype.BF16, Datatype.BYTES}])
def test_a_dtype_has_its_own_datatype(kind: Datatype) -> None:
    assert Datatype.of(kind.dtype) is kind


def test_float32_is_not_taken_for_bf16_which_it_carries() -> None:
    assert Datatype.BF16.dtype == np.float32
    assert Datatype.of(np.dtype(np.float32)) is Datatype.FP32
    assert Datatype.of(np.dtype(object)) is None
