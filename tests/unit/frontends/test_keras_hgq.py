"""HGQ2 models keep their trained formats: nothing differs from what Keras computes, in the integer graph either."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_models import chain, keras, predicted

from gatesmith.errors import UnsupportedOperation
from gatesmith.frontends import read_model
from gatesmith.gateware.trace import trace
from gatesmith.model import reference
from gatesmith.model.nodes import Quantize
from gatesmith.quantize import quantize

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import hgq.layers as hgq
    from hgq.utils import trace_minmax

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
L = keras.layers


def trained(*layers: Any, shape: tuple[int, ...], samples: int = 400) -> tuple[Any, np.ndarray]:
    """A model whose numbers have formats of their own, some of no bits at all, and what it was calibrated with."""
    generator = np.random.default_rng(4)
    model = chain(*layers, shape=shape)
    for variable in model.variables:
        if variable.path.endswith("/f") or variable.path.endswith("/b"):
            variable.assign(generator.integers(1, 6, size=variable.shape))
        elif variable.path.endswith("/i"):
            variable.assign(np.full(variable.shape, 2.0))
    x = generator.normal(size=(samples, *shape)).astype(np.float32)
    trace_minmax(model, x, verbose=False)
    return model, x


MODELS = {
    "dense": lambda: trained(hgq.QDense(5, activation="relu"), hgq.QDense(3), shape=(6,)),
    "convolution": lambda: trained(
        hgq.QConv2D(2, 2, activation="relu"), L.MaxPooling2D(2), L.Flatten(), hgq.QDense(3), shape=(5, 5, 1)
    ),
    "lines": lambda: trained(hgq.QConv1D(3, 2), L.ReLU(), L.Flatten(), hgq.QDense(2), shape=(5, 2)),
    "normalised": lambda: trained(hgq.QBatchNormDense(4, activation="relu"), hgq.QDense(2), shape=(5,)),
    "rows": lambda: trained(
        hgq.QEinsumDense("bia,ac->bic", (4, 3), bias_axes="c"), L.Flatten(), hgq.QDense(2), shape=(4, 3)
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_nothing_differs(name: str) -> None:
    model, x = MODELS[name]()
    graph = read_model(model)
    unseen = x[:300] * np.float32(0.9)  # inside of what the formats are for, and on no grid
    (wanted,) = predicted(model, unseen).values()
    (given,) = reference.infer_real(graph, {"x": unseen}).values()
    assert (given == wanted).all()
    integer, _ = quantize(graph, x)
    (exact,) = reference.infer_real(integer, {"x": unseen}).values()
    assert (exact == wanted).all()
    integers = np.concatenate(
        [t.edge.fixed.quantize(_hosted(t, unseen)).reshape(len(unseen), -1) for t in integer.inputs], axis=1
    )
    assert (trace(integer).infer(integers) == reference.infer(integer, integers)).all()


def _hosted(terminal: Any, values: np.ndarray) -> np.ndarray:
    real = values.astype(np.float64)
    for operation in terminal.host:
        real = operation.apply(real)
    return real


def test_numbers_of_one_tensor_have_formats_of_their_own() -> None:
    model, _ = MODELS["dense"]()
    formats = {str(node.format) for node in read_model(model).nodes if isinstance(node, Quantize)}
    assert len(formats) > 3


def test_a_changed_format_is_seen() -> None:
    model, x = MODELS["dense"]()
    (wanted,) = predicted(model, x).values()
    model.layers[-1].iq.quantizer._f.assign(np.zeros(model.layers[-1].iq.quantizer._f.shape))
    (given,) = reference.infer_real(read_model(model), {"x": x}).values()
    assert (given != wanted).any()


def test_files(tmp_path: Path) -> None:
    model, _ = MODELS["dense"]()
    model.save(tmp_path / "m.keras")
    graphs = [read_model(model), read_model(tmp_path / "m.keras", name=read_model(model).name)]
    assert graphs[0].to_bytes() == graphs[1].to_bytes()


def test_a_softmax_that_is_rounded_is_refused() -> None:
    model, _ = trained(hgq.QDense(4), hgq.QDense(3, activation="softmax", enable_oq=True), shape=(5,))
    with pytest.raises(UnsupportedOperation, match=r"\(QDense\) rounds a softmax, which the host computes"):
        read_model(model)


def test_what_is_not_read_is_named() -> None:
    model, _ = trained(hgq.QDense(4), hgq.QSoftmax(), shape=(5,))
    with pytest.raises(UnsupportedOperation, match=r"\(QSoftmax\) is not supported; supported are .*QDense"):
        read_model(model)
