"""Keras with a backend that is installed, and models whose weights are all different."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")
keras: Any = __import__("keras")

__all__ = ["chain", "filled", "keras", "predicted"]


def filled(model: Any) -> Any:
    """Weights that are all different, variances positive."""
    generator = np.random.default_rng(3)
    for variable in model.variables:
        values = generator.normal(size=variable.shape)
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.path else values * 0.7)
    return model


def chain(*layers: Any, shape: tuple[int, ...]) -> Any:
    """A sequential model."""
    return filled(keras.Sequential([keras.Input(shape, name="x"), *layers]))


def predicted(model: Any, x: Any) -> dict[str, Any]:
    """What Keras itself computes, by output name; the only output is called ``y`` here."""
    found = model(x, training=False)
    named = found if isinstance(found, dict) else {"y": found}
    return {name: keras.ops.convert_to_numpy(value) for name, value in named.items()}
