"""A double: the device's side of the link protocol in Python, with any function in the place of the gateware.

It was written from ``docs/protocol.md`` and shares nothing with the gateware, so it is the driver's second witness.
It is strict where hardware is silent: a host that has more on the way than the window allows loses bytes, and
``overruns`` says so. :class:`FaultyTransport` damages what passes through any transport.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gatesmith.devices.device import DeviceInfo
from gatesmith.devices.driver import Transport
from gatesmith.devices.linked import LinkedDevice
from gatesmith.devices.protocol import (
    PROTOCOL_VERSION,
    REQUEST_MARK,
    REQUEST_OVERHEAD_BYTES,
    Identity,
    Operation,
    Status,
    encode_reply,
    is_intact,
)
from gatesmith.errors import TensorMismatch
from gatesmith.firmware import Firmware

__all__ = ["FaultyTransport", "LoopbackDevice", "LoopbackTransport"]

Function = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
Fault = Callable[[bytes], bytes]


class LoopbackTransport:
    """A device in memory.

    Parameters
    ----------
    identity : Identity
    function : callable
        Payload of shape (batch, input_bytes) to payload of shape (batch, output_bytes), both uint8.
    latency_cycles : int
        What the counters answer.
    """

    def __init__(self, identity: Identity, function: Function, *, latency_cycles: int = 0) -> None:
        self.identity = identity
        self.overruns = 0
        self._function = function
        self._latency_cycles = latency_cycles
        self._received = bytearray()
        self._replies = bytearray()
        self._counters = [0, 0, 0]  # latency, samples, frame errors

    def write(self, data: bytes) -> None:
        """Take bytes in, as far as there is room."""
        room = self.identity.window_bytes - len(self._received)
        if len(data) > room:
            self.overruns += 1
        self._received += data[: max(0, room)]

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        """Answer what has come; when that is nothing, ``timeout_s`` passes at once."""
        if not self._replies:
            self._work()
        if not self._replies and timeout_s * self.identity.clock_hz > self.identity.gap_limit_cycles:
            self._give_up()
        data = bytes(self._replies[:max_bytes])
        del self._replies[:max_bytes]
        return data

    def close(self) -> None:
        """Forget everything."""
        self._received.clear()
        self._replies.clear()

    def _work(self) -> None:
        while True:
            start = self._received.find(REQUEST_MARK)
            del self._received[: start if start >= 0 else len(self._received)]
            if len(self._received) < REQUEST_OVERHEAD_BYTES:
                return
            operation, sequence = self._received[1], self._received[2]
            count = int.from_bytes(self._received[3:5], "little")
            samples = count if operation == Operation.INFER else 0
            size = REQUEST_OVERHEAD_BYTES + samples * self.identity.input_bytes
            if len(self._received) < size:
                return
            frame = bytes(self._received[:size])
            del self._received[:size]
            self._answer(frame, operation, sequence=sequence, count=count)

    def _answer(self, frame: bytes, operation: int, *, sequence: int, count: int) -> None:
        status = Status.OK if operation in tuple(Operation) else Status.UNKNOWN_OPERATION
        if not is_intact(frame):
            status = Status.CORRUPT
            self._counters[2] += 1
        payload = self._payload(operation, frame[5:-4], count=count, intact=status != Status.CORRUPT)
        if operation == Operation.RESET and status == Status.OK:
            self._counters = [0, 0, 0]
        self._replies += encode_reply(operation, sequence, count=count, payload=payload, status=status)

    def _payload(self, operation: int, data: bytes, *, count: int, intact: bool) -> bytes:
        if operation == Operation.IDENTIFY:
            return self.identity.encode()
        if operation == Operation.COUNTERS:
            return b"".join(number.to_bytes(4, "little") for number in self._counters)
        if operation != Operation.INFER or not count:
            return b""
        if not intact:
            return bytes(count * self.identity.output_bytes)
        self._counters[0] = self._latency_cycles
        self._counters[1] += count
        samples = np.frombuffer(data, dtype=np.uint8).reshape(count, self.identity.input_bytes)
        return self._function(samples).astype(np.uint8).tobytes()

    def _give_up(self) -> None:
        """A frame has waited too long for its next byte."""
        if self._received:
            self._received.clear()
            self._counters[2] += 1


class FaultyTransport:
    """Another transport with damage done to what passes.

    Parameters
    ----------
    inner : Transport
    on_write, on_read : callable, optional
        Bytes to the bytes that pass in their place; ``b""`` loses them.
    """

    def __init__(self, inner: Transport, *, on_write: Fault | None = None, on_read: Fault | None = None) -> None:
        self.inner = inner
        self._on_write = on_write
        self._on_read = on_read

    def write(self, data: bytes) -> None:
        """Damage, then send."""
        passed = self._on_write(data) if self._on_write else data
        if passed:
            self.inner.write(passed)

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        """Receive, then damage."""
        data = self.inner.read(max_bytes, timeout_s)
        return self._on_read(data) if data and self._on_read else data

    def close(self) -> None:
        """Close the other one."""
        self.inner.close()


class LoopbackDevice(LinkedDevice):
    """A device without gateware.

    Parameters
    ----------
    function : callable, optional
        Payload of shape (batch, input_bytes) to payload of shape (batch, output_bytes). Without it the device knows
        the answers to the firmware's test vectors and no others, and ``waits`` for nothing.
    """

    kind = "loopback"

    def __init__(self, address: str, *, function: Function | None = None) -> None:
        super().__init__(address)
        self._function = function
        self.waits = function is not None  # which may do anything

    def open_transport(self, firmware: Firmware) -> Transport:
        """Make a device that says it runs this firmware."""
        identity = Identity(
            version=PROTOCOL_VERSION,
            build_id=firmware.build_id,
            input_bits=firmware.contract.input_bits,
            output_bits=firmware.contract.output_bits,
            clock_hz=firmware.clock_hz,
            divisor=firmware.link.divisor,
            window_bytes=2047,
            gap_limit_cycles=firmware.clock_hz // 50,
        )
        function = self._function or _from_vectors(firmware)
        return LoopbackTransport(identity, function, latency_cycles=firmware.latency_cycles)

    @classmethod
    def discover(cls) -> list[DeviceInfo]:
        """One; any number can be opened."""
        return [DeviceInfo(id="loopback:0", kind=cls.kind)]


def _from_vectors(firmware: Firmware) -> Function:
    inputs, outputs = firmware.vectors
    step_in, step_out = firmware.contract.input_bytes, firmware.contract.output_bytes
    known = {
        inputs[i * step_in : (i + 1) * step_in]: outputs[i * step_out : (i + 1) * step_out]
        for i in range(min(len(inputs) // step_in, len(outputs) // step_out))
    }

    def answer(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
        try:
            data = b"".join(known[sample.tobytes()] for sample in samples)
        except KeyError as error:
            raise TensorMismatch(
                f"firmware {firmware.name} has {len(known)} test vectors and this sample is not one of them; "
                "use an emulated board",
                vectors=len(known),
            ) from error
        return np.frombuffer(data, dtype=np.uint8).reshape(len(samples), step_out)

    return answer
