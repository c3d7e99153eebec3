"""A classifier's scores as the best classes by name, for every door."""

# Ref: Triton classification extension: "value:index:label" as BYTES, the highest first

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.contract import Port

__all__ = ["class_texts"]


def class_texts(port: Port, array: NDArray[Any], classes: int) -> NDArray[Any]:
    """The highest values of each sample, as ``value:index`` or ``value:index:label``.

    Returns
    -------
    ndarray of bytes objects, shape (batch, classes or all if they are fewer)
    """
    scores = math.prod(port.spec.shape[1:])
    flat = array.reshape(len(array), scores)
    count = min(classes, scores)
    # Descending, and of equal values the first one first: both directions are turned round twice.
    order = (scores - 1 - np.argsort(flat[:, ::-1], axis=1, kind="stable"))[:, ::-1][:, :count]
    tails = [f":{i}:{port.labels[i]}" if port.labels else f":{i}" for i in range(scores)]
    texts = np.empty(order.shape, dtype=object)
    for row, places in enumerate(order):
        texts[row] = [f"{flat[row, place]}{tails[place]}".encode() for place in places]
    return texts
