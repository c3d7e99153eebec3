"""Tensors at the border: Open Inference Protocol datatypes, their numpy dtypes, and what a model's tensors look like.

A shape is written as in the protocol: the batch comes first and is -1 where it is free.
"""

# Ref: Open Inference Protocol v2, "Tensor Data Types" (BF16 and BYTES have no numpy dtype of their own)

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

__all__ = ["Datatype", "TensorSpec"]


class Datatype(StrEnum):
    """Datatype names of the Open Inference Protocol."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    __hash__ = str.__hash__  # an enum's own is a Python function: a microsecond of each request

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype that holds this datatype (object for BYTES, float32 for BF16)."""
        return _DTYPES[self]

    @classmethod
    def of(cls, dtype: np.dtype[Any]) -> Datatype | None:
        """The datatype of numbers of a numpy dtype; None for those that have none of their own."""
        return _BY_DTYPE.get(np.dtype(dtype))


_CODES: dict[Datatype, str] = {
    Datatype.BOOL: "?",
    Datatype.UINT8: "u1",
    Datatype.UINT16: "<u2",
    Datatype.UINT32: "<u4",
    Datatype.UINT64: "<u8",
    Datatype.INT8: "i1",
    Datatype.INT16: "<i2",
    Datatype.INT32: "<i4",
    Datatype.INT64: "<i8",
    Datatype.FP16: "<f2",
    Datatype.BF16: "<f4",
    Datatype.FP32: "<f4",
    Datatype.FP64: "<f8",
    Datatype.BYTES: "O",
}
_DTYPES: dict[Datatype, np.dtype[Any]] = {datatype: np.dtype(code) for datatype, code in _CODES.items()}
_BY_DTYPE = {dtype: datatype for datatype, dtype in _DTYPES.items() if datatype not in {Datatype.BF16, Datatype.BYTES}}


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """Name, datatype and shape of one input or output of a model.

    ``shape`` starts with the batch, which is -1; all other sizes are fixed. ``missing`` says whether NaN stands for a
    missing value; the protocol has no word for that, so it is not in the JSON.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    missing: bool = False

    def to_json(self) -> dict[str, Any]:
        """The dictionary that the protocol's model metadata uses."""
        return {"name": self.name, "datatype": self.datatype.value, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TensorSpec:
        """Read back what :meth:`to_json` wrote."""
        return cls(
            name=str(data["name"]), datatype=Datatype(data["datatype"]), shape=tuple(int(n) for n in data["shape"])
        )
