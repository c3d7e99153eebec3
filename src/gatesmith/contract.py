"""The contract of a firmware: its tensors, what the host computes around the device, and how samples lie on the wire.

A port is one input or output. Going in, the host applies the port's operations in float64, rounds to the port's
format and packs; coming out it unpacks, takes the integers for real numbers and applies the operations. What the
host computes is declared here, so a user can see which part of the model is not in the gateware.

On the wire a sample is the ports' elements in order, row-major, each ``format.width`` bits, least significant bit
first, padded with zero bits to whole bytes. ``docs/protocol.md`` says the same to other implementers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import ManifestInvalid, TensorMismatch
from gatesmith.fixed import FixedPoint
from gatesmith.tensor import TensorSpec

__all__ = ["Contract", "HostOperation", "HostOperationKind", "Port", "check_labels"]

Payload = NDArray[np.uint8]
Tensors = Mapping[str, NDArray[Any]]


def check_labels(name: str, labels: tuple[str, ...], elements: int) -> None:
    """Refuse labels that do not go with a tensor's elements.

    Raises
    ------
    ManifestInvalid
    """
    if labels and len(labels) != elements:
        raise ManifestInvalid(f"tensor {name!r} has {len(labels)} labels, {elements} elements need one each")


class HostOperationKind(StrEnum):
    """What the run side may compute in float; everything else is gateware."""

    SCALE = "scale"  # x * scale + offset, per element
    SOFTMAX = "softmax"  # over the last axis


@dataclass(frozen=True, kw_only=True, slots=True)
class HostOperation:
    """One float64 operation on the host, declared in the contract.

    ``scale`` and ``offset`` belong to SCALE: one number for each element of a sample, row-major.
    """

    kind: HostOperationKind
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind is HostOperationKind.SCALE and (len(self.scale) != len(self.offset) or not self.scale):
            raise ManifestInvalid(f"host scale has {len(self.scale)} factors and {len(self.offset)} offsets")

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Apply to values of shape (batch, ...)."""
        if self.kind is HostOperationKind.SCALE:
            shape = values.shape[1:]
            return np.asarray(values * np.reshape(self.scale, shape) + np.reshape(self.offset, shape))
        shifted = np.exp(values - values.max(axis=-1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary that :meth:`from_json` reads back."""
        if self.kind is HostOperationKind.SCALE:
            return {"kind": self.kind.value, "scale": list(self.scale), "offset": list(self.offset)}
        return {"kind": self.kind.value}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> HostOperation:
        """Read back what :meth:`to_json` wrote."""
        return cls(
            kind=HostOperationKind(data["kind"]),
            scale=tuple(float(v) for v in data.get("scale", ())),
            offset=tuple(float(v) for v in data.get("offset", ())),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Port:
    """One tensor of the contract: its spec, its format on the wire, and the host operations.

    ``labels`` name the elements of a classifier's scores, in order; empty where nobody named them.
    """

    spec: TensorSpec
    format: FixedPoint
    host: tuple[HostOperation, ...] = ()
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_labels(self.spec.name, self.labels, self.elements)

    @property
    def elements(self) -> int:
        """Numbers in one sample of this port."""
        return math.prod(self.spec.shape[1:])

    @property
    def width_bits(self) -> int:
        """Bits of one sample of this port."""
        return self.elements * self.format.width

    def to_integers(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """A batch of real values, shape (batch, ...), to integers of shape (batch, elements).

        Raises
        ------
        TensorMismatch
            When the shape is not this port's or a value is not finite.
        """
        shape = self.spec.shape[1:]
        if values.shape[1:] != shape:
            raise TensorMismatch(
                f"tensor {self.spec.name!r} has shape {list(values.shape)}, {[-1, *shape]} is needed",
                tensor=self.spec.name,
            )
        real = values.astype(np.float64)
        if not np.isfinite(real).all():
            raise TensorMismatch(f"tensor {self.spec.name!r} holds a value that is not finite", tensor=self.spec.name)
        for operation in self.host:
            real = operation.apply(real)
        return self.format.quantize(real).reshape(len(values), self.elements)

    def from_integers(self, integers: NDArray[np.int64]) -> NDArray[Any]:
        """Integers of shape (batch, elements) to a tensor of shape (batch, ...) in the port's dtype."""
        real = self.format.dequantize(integers).reshape(len(integers), *self.spec.shape[1:])
        for operation in self.host:
            real = operation.apply(real)
        return real.astype(self.spec.datatype.dtype)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary that :meth:`from_json` reads back."""
        return {
            **self.spec.to_json(),
            "format": self.format.to_json(),
            "host_operations": [operation.to_json() for operation in self.host],
            **({"labels": list(self.labels)} if self.labels else {}),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Port:
        """Read back what :meth:`to_json` wrote."""
        return cls(
            spec=TensorSpec.from_json(data),
            format=FixedPoint.from_json(data["format"]),
            host=tuple(HostOperation.from_json(operation) for operation in data["host_operations"]),
            labels=tuple(str(label) for label in data.get("labels", ())),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Contract:
    """The ports of a firmware, in wire order."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def input_bits(self) -> int:
        """Bits of one sample going in."""
        return sum(port.width_bits for port in self.inputs)

    @property
    def output_bits(self) -> int:
        """Bits of one sample coming out."""
        return sum(port.width_bits for port in self.outputs)

    @property
    def input_bytes(self) -> int:
        """Bytes of one sample going in."""
        return -(-self.input_bits // 8)

    @property
    def output_bytes(self) -> int:
        """Bytes of one sample coming out."""
        return -(-self.output_bits // 8)

    def encode(self, tensors: Tensors) -> Payload:
        """Real tensors, each of shape (batch, ...), to wire bytes of shape (batch, input_bytes).

        Raises
        ------
        TensorMismatch
            When a tensor is missing, has another shape or batch than the rest, or is not finite.
        """
        missing = [port.spec.name for port in self.inputs if port.spec.name not in tensors]
        if missing:
            raise TensorMismatch(f"input {missing[0]!r} is missing; the inputs are {self._names()}", tensor=missing[0])
        batches = {len(tensors[port.spec.name]) for port in self.inputs}
        if len(batches) > 1:
            raise TensorMismatch(f"inputs have different batches: {sorted(batches)}")
        return pack([(port.to_integers(tensors[port.spec.name]), port.format) for port in self.inputs])

    def decode(self, payload: Payload) -> dict[str, NDArray[Any]]:
        """Wire bytes of shape (batch, output_bytes) to real tensors by output name."""
        parts = unpack(payload, [(port.elements, port.format) for port in self.outputs])
        return {port.spec.name: port.from_integers(part) for port, part in zip(self.outputs, parts, strict=True)}

    def pack_inputs(self, integers: NDArray[np.int64]) -> Payload:
        """Integers of shape (batch, input elements) to wire bytes; for verification."""
        return pack(list(zip(self._split(integers, self.inputs), [p.format for p in self.inputs], strict=True)))

    def unpack_outputs(self, payload: Payload) -> NDArray[np.int64]:
        """Wire bytes to integers of shape (batch, output elements); for verification."""
        return np.concatenate(unpack(payload, [(port.elements, port.format) for port in self.outputs]), axis=1)

    def _names(self) -> list[str]:
        return [port.spec.name for port in self.inputs]

    @staticmethod
    def _split(integers: NDArray[np.int64], ports: tuple[Port, ...]) -> list[NDArray[np.int64]]:
        ends = np.cumsum([port.elements for port in ports])[:-1]
        return np.split(integers, ends, axis=1)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary that :meth:`from_json` reads back."""
        return {"inputs": [p.to_json() for p in self.inputs], "outputs": [p.to_json() for p in self.outputs]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Contract:
        """Read back what :meth:`to_json` wrote."""
        return cls(
            inputs=tuple(Port.from_json(port) for port in data["inputs"]),
            outputs=tuple(Port.from_json(port) for port in data["outputs"]),
        )


def pack(parts: list[tuple[NDArray[np.int64], FixedPoint]]) -> Payload:
    """Integers, each of shape (batch, elements), to wire bytes of shape (batch, bytes)."""
    bits = [_to_bits(integers, format.width) for integers, format in parts]
    return np.packbits(np.concatenate(bits, axis=1), axis=1, bitorder="little")


def unpack(payload: Payload, parts: list[tuple[int, FixedPoint]]) -> list[NDArray[np.int64]]:
    """Wire bytes of shape (batch, bytes) to one array of shape (batch, elements) for each part."""
    bits = np.unpackbits(payload, axis=1, bitorder="little")
    result, start = [], 0
    for elements, format in parts:
        stop = start + elements * format.width
        result.append(_from_bits(bits[:, start:stop].reshape(len(payload), elements, format.width), format))
        start = stop
    return result


def _to_bits(integers: NDArray[np.int64], width: int) -> Payload:
    octets = np.ascontiguousarray(integers, dtype="<i8").view(np.uint8).reshape(*integers.shape, 8)
    used = np.unpackbits(octets[..., : -(-width // 8)], axis=-1, bitorder="little")[..., :width]
    return used.reshape(len(integers), integers.shape[1] * width)


def _from_bits(bits: Payload, format: FixedPoint) -> NDArray[np.int64]:
    batch, elements, width = bits.shape
    packed = np.packbits(bits, axis=-1, bitorder="little")
    octets = np.zeros((batch, elements, 8), dtype=np.uint8)
    octets[..., : packed.shape[-1]] = packed
    unsigned = octets.view("<i8").reshape(batch, elements).astype(np.int64)
    if not format.signed:
        return unsigned
    half = np.int64(1) << np.int64(width - 1)
    return np.asarray((unsigned ^ half) - half)
