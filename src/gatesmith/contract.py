"""The contract of a firmware: its tensors, what the host computes around the device, and how samples lie on the wire.

A port is one input or output. Going in, the host applies the port's operations in float64, rounds to the port's
format and packs; coming out it unpacks, takes the integers for real numbers and applies the operations. What the
host computes is declared here, so a user can see which part of the model is not in the gateware.

On the wire a sample is the ports' elements in order, row-major, each ``format.width`` bits, least significant bit
first, padded with zero bits to whole bytes. ``docs/protocol.md`` says the same to other implementers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import ManifestInvalid, TensorMismatch
from gatesmith.fixed import FixedPoint
from gatesmith.host import Bins, HostOperation, HostOperationKind
from gatesmith.packing import Packing, Payload
from gatesmith.tensor import TensorSpec

__all__ = ["Contract", "HostOperation", "HostOperationKind", "Port", "check_labels"]

Tensors = Mapping[str, NDArray[Any]]
_FEW: Final = 64
_FLOAT32_BITS, _FLOAT32_POWER = 24, 100
_PLAIN_POWER = 1000
_MOST_FRACTION_BITS: Final = 2000  # float64 ends long before
_FOLDED_POWER, _FOLDED_RANGE = 60, 2.0**500


def check_labels(name: str, labels: tuple[str, ...], elements: int) -> None:
    """Refuse labels that do not go with a tensor's elements.

    Raises
    ------
    ManifestInvalid
    """
    if labels and len(labels) != elements:
        raise ManifestInvalid(f"tensor {name!r} has {len(labels)} labels, {elements} elements need one each")


@dataclass(frozen=True, kw_only=True, slots=True)
class Port:
    """One tensor of the contract: its spec, its format on the wire, and the host operations.

    ``labels`` name the elements of a classifier's scores, in order; empty where nobody named them. The spec takes NaN
    for a missing value where a host operation fills it.
    """

    spec: TensorSpec
    format: FixedPoint
    host: tuple[HostOperation, ...] = ()
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_labels(self.spec.name, self.labels, math.prod(self.spec.shape[1:]))
        fills = [operation.kind for operation in self.host].count(HostOperationKind.FILL)
        if fills and self.host[-1].kind is not HostOperationKind.FILL:
            raise ManifestInvalid(f"tensor {self.spec.name!r} has host operations after the one that fills")
        self._check_elements()
        if self.spec.missing != bool(fills):
            object.__setattr__(self, "spec", replace(self.spec, missing=bool(fills)))

    def _check_elements(self) -> None:
        count = self.elements
        for operation in self.host:
            if operation.elements not in {None, count}:
                raise ManifestInvalid(
                    f"tensor {self.spec.name!r} has {count} elements, the host's {operation.kind} is for "
                    f"{operation.elements}"
                )
            if operation.leaves_one:
                count = 1
                if self.spec.shape[1:] != (1,):
                    raise ManifestInvalid(
                        f"tensor {self.spec.name!r} has the shape {list(self.spec.shape)}, the host's {operation.kind} "
                        f"leaves [-1, 1]"
                    )

    @property
    def elements(self) -> int:
        """Numbers in one sample of this port on the wire; the client's, unless the host leaves fewer of them."""
        for operation in self.host:
            if operation.leaves_one:
                return len(operation.weights)
        return math.prod(self.spec.shape[1:])

    @property
    def width_bits(self) -> int:
        """Bits of one sample of this port."""
        return self.elements * self.format.width

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
        spec, format = TensorSpec.from_json(data), FixedPoint.from_json(data["format"])
        if spec.shape[:1] != (-1,) or min(spec.shape[1:], default=1) < 1:
            raise ManifestInvalid(
                f"tensor {spec.name!r} has the shape {list(spec.shape)}, -1 and then sizes are needed"
            )
        if abs(format.fraction_bits) > _MOST_FRACTION_BITS:
            raise ManifestInvalid(
                f"tensor {spec.name!r} has {format.fraction_bits} fraction bits, {_MOST_FRACTION_BITS} either way are "
                "possible"
            )
        return cls(
            spec=spec,
            format=format,
            host=tuple(HostOperation.from_json(operation) for operation in data["host_operations"]),
            labels=tuple(str(label) for label in data.get("labels", ())),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Contract:
    """The ports of a firmware, in wire order."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    _codec: _Codec | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for port in self.inputs:
            for operation in port.host:
                if operation.leaves_one:
                    raise ManifestInvalid(
                        f"input {port.spec.name!r} has the host's {operation.kind}, which is for outputs"
                    )

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
            When a tensor is missing, has another shape or batch than the rest, or is not finite. NaN is taken where
            a host operation fills it.
        """
        return self._made().encode(tensors)

    def decode(self, payload: Payload) -> dict[str, NDArray[Any]]:
        """Wire bytes of shape (batch, output_bytes) to real tensors by output name."""
        return self._made().decode(payload)

    def pack_inputs(self, integers: NDArray[np.int64]) -> Payload:
        """Integers of shape (batch, input elements) to wire bytes; for verification."""
        return pack(list(zip(self._split(integers, self.inputs), [p.format for p in self.inputs], strict=True)))

    def unpack_outputs(self, payload: Payload) -> NDArray[np.int64]:
        """Wire bytes to integers of shape (batch, output elements); for verification."""
        return np.concatenate(unpack(payload, [(port.elements, port.format) for port in self.outputs]), axis=1)

    def _made(self) -> _Codec:
        """What is worked out of the ports once; when it is first needed, as most contracts are only looked at."""
        codec = self._codec
        if codec is None:
            codec = _Codec(self.inputs, self.outputs)
            object.__setattr__(self, "_codec", codec)
        return codec

    @staticmethod
    def _split(integers: NDArray[np.int64], ports: tuple[Port, ...]) -> list[NDArray[np.int64]]:
        ends = np.cumsum([port.elements for port in ports])[:-1]
        return np.split(integers, ends, axis=1)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary that :meth:`from_json` reads back."""
        return {"inputs": [p.to_json() for p in self.inputs], "outputs": [p.to_json() for p in self.outputs]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Contract:
        """Read back what :meth:`to_json` wrote.

        Raises
        ------
        ManifestInvalid
            When it says what cannot be.
        """
        for side in ("inputs", "outputs"):
            names = [str(port["name"]) for port in data[side]]
            if not names or len(set(names)) != len(names):
                raise ManifestInvalid(f"contract has the {side} {names}, one or more with different names are needed")
        return cls(
            inputs=tuple(Port.from_json(port) for port in data["inputs"]),
            outputs=tuple(Port.from_json(port) for port in data["outputs"]),
        )


def pack(parts: Sequence[tuple[NDArray[np.int64], FixedPoint]]) -> Payload:
    """Integers, each of shape (batch, elements), to wire bytes of shape (batch, bytes)."""
    packing = Packing([(integers.shape[1], format) for integers, format in parts])
    return packing.pack([integers for integers, _ in parts])


def unpack(payload: Payload, parts: Sequence[tuple[int, FixedPoint]]) -> list[NDArray[np.int64]]:
    """Wire bytes of shape (batch, bytes) to one array of shape (batch, elements) for each part."""
    return [integers.astype(np.int64) for integers in Packing(parts).unpack(payload)]


class _Codec:
    """Tensors to payloads and back, with everything at hand that depends on the ports alone."""

    def __init__(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
        self._inputs = [_Input(port) for port in inputs]
        self._outputs = [_Output(port) for port in outputs]
        self._names = [port.spec.name for port in inputs]
        self._input_packing = Packing([(port.elements, port.format) for port in inputs])
        self._output_packing = Packing([(port.elements, port.format) for port in outputs])

    def encode(self, tensors: Tensors) -> Payload:
        """See :meth:`Contract.encode`."""
        try:
            arrays = [tensors[name] for name in self._names]
        except KeyError:
            missing = next(name for name in self._names if name not in tensors)
            raise TensorMismatch(
                f"input {missing!r} is missing; the inputs are {self._names}", tensor=missing
            ) from None
        if len(arrays) > 1 and len(batches := set(map(len, arrays))) > 1:
            raise TensorMismatch(f"inputs have different batches: {sorted(batches)}")
        return self._input_packing.pack([each.units(array) for each, array in zip(self._inputs, arrays, strict=True)])

    def decode(self, payload: Payload) -> dict[str, NDArray[Any]]:
        """See :meth:`Contract.decode`."""
        parts = self._output_packing.unpack(payload)
        return {each.name: each.values(part) for each, part in zip(self._outputs, parts, strict=True)}


class _Input:
    """One port's way in."""

    def __init__(self, port: Port) -> None:
        self._spec, self._shape, self._elements = port.spec, port.spec.shape[1:], port.elements
        self._low, self._high = np.float64(port.format.min_integer), np.float64(port.format.max_integer)
        self._step = step = port.format.fraction_bits
        self._factor, self._offset, self._missing = _power(step), None, None
        host = port.host
        if port.spec.missing:
            units = port.format.fit(np.ldexp([host[-1].missing, host[-1].most], step))
            self._missing, self._high, host = units[0], units[1], host[:-1]
        folded = _folded(host[-1], step) if host else None
        if folded is not None:
            host = host[:-1]
            self._factor, self._offset = (np.reshape(numbers, self._shape) for numbers in folded)
        self._host = [Bins(each.edges).count if each.edges else each.apply for each in host]

    def units(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Real values of shape (batch, ...) to whole numbers within the format, of shape (batch, elements)."""
        if values.shape[1:] != self._shape:
            raise TensorMismatch(
                f"tensor {self._spec.name!r} has shape {list(values.shape)}, {[-1, *self._shape]} is needed",
                tensor=self._spec.name,
            )
        real: NDArray[np.float64] = values.astype(np.float64, order="C")
        absent = None if _is_finite(real) else self._absent(real)
        for apply in self._host:
            real = apply(real)
        real = _moved(real, self._step, self._factor)
        if self._offset is not None:
            np.add(real, self._offset, out=real)
        np.rint(real, out=real)
        np.maximum(real, self._low, out=real)
        np.minimum(real, self._high, out=real)
        if absent is not None:
            real[absent] = self._missing
        return real.reshape(len(real), self._elements)

    def _absent(self, real: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Where the missing values are, if there may be some and all others are finite."""
        absent = np.isnan(real)
        if self._missing is not None and np.isfinite(real[~absent]).all():
            return absent
        only = ", NaN for a missing one apart" if self._missing is not None else ""
        raise TensorMismatch(
            f"tensor {self._spec.name!r} holds a value that is not finite{only}", tensor=self._spec.name
        )


class _Output:
    """One port's way out."""

    def __init__(self, port: Port) -> None:
        self.name, self._shape, self._dtype = port.spec.name, port.spec.shape[1:], port.spec.datatype.dtype
        self._host = port.host
        # Up to 24 bits, float32 holds every number of the format, so there is nothing to round on the way to it.
        fits = port.format.width <= _FLOAT32_BITS and abs(port.format.fraction_bits) <= _FLOAT32_POWER
        self._direct = self._dtype == np.float32 and not port.host and fits
        self._real = self._dtype if self._direct else np.dtype(np.float64)
        self._step = -port.format.fraction_bits
        power = _power(self._step)
        self._factor = None if power is None else power.astype(self._real)

    def values(self, integers: NDArray[Any]) -> NDArray[Any]:
        """Integers of shape (batch, elements) to a tensor of shape (batch, ...)."""
        real = _moved(integers.astype(self._real), self._step, self._factor)
        if len(self._shape) != 1:
            real = real.reshape(len(real), *self._shape)
        for operation in self._host:
            real = operation.apply(real)
        return real if self._direct else real.astype(self._dtype)


def _moved(real: NDArray[Any], exponent: int, power: NDArray[Any] | None) -> NDArray[Any]:
    """``real * 2**exponent``, in place where the power was worked out beforehand."""
    return np.asarray(np.ldexp(real, exponent)) if power is None else np.multiply(real, power, out=real)


def _power(exponent: int) -> NDArray[np.float64] | None:
    """``2**exponent`` as an array, whose use spares numpy a conversion each time; nothing where it is no float64."""
    return np.asarray(math.ldexp(1.0, exponent)) if abs(exponent) <= _PLAIN_POWER else None


def _folded(operation: HostOperation, step: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """A scale and the step to units after it in one: the same numbers to the last bit, as only exponents move.

    Not where a number could leave float64's range on the way, which no trained model comes near.
    """
    if operation.kind is not HostOperationKind.SCALE or abs(step) > _FOLDED_POWER:
        return None
    numbers = np.abs([*operation.scale, *operation.offset])
    if not ((numbers == 0) | ((numbers > 1 / _FOLDED_RANGE) & (numbers < _FOLDED_RANGE))).all():
        return None
    return np.ldexp(operation.scale, step), np.ldexp(operation.offset, step)


def _is_finite(values: NDArray[np.float64]) -> bool:
    """Whether all are; a few numbers are seen to be by their sum, in a fifth of the time."""
    if values.size <= _FEW and math.isfinite(sum(values.ravel().tolist())):
        return True
    return bool(np.isfinite(values).all())
