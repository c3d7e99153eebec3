"""The host's side of the link: requests out, replies in, full duplex, over anything that carries bytes.

Bytes and frames on the way are bounded, so a device never loses one for want of room. Whatever goes wrong on the line
(a byte lost, changed or made up) ends in one place: wait until the line has been silent for longer than any device
waits within a frame, make sure that the same firmware still answers, and send again what has no answer yet. Running
a sample twice changes nothing but the counters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gatesmith.devices.device import Counters, LinkStatistics
from gatesmith.devices.protocol import (
    FRAMES_IN_FLIGHT,
    GAP_LIMIT_S,
    REPLY_OVERHEAD_BYTES,
    REQUEST_OVERHEAD_BYTES,
    Identity,
    Operation,
    Status,
    decode_counters,
    encode_request,
    is_intact,
    reply_header,
)
from gatesmith.errors import DeviceError, DeviceTimeout, FirmwareMismatch, FrameCorrupt, TensorMismatch

__all__ = ["LinkDriver", "Transport"]

RETRIES = 3
QUIET_S = 2.5 * GAP_LIMIT_S
_HOST_LATENCY_S = 0.25  # what an operating system and a USB bridge may add to a reply
_REPLY_LIMIT_BYTES = 16384
_NOISE_LIMIT_BYTES = 65536
_COUNTERS_BYTES = 12


class Transport(Protocol):
    """Carries bytes both ways, in order, and promises nothing more."""

    def write(self, data: bytes) -> None:
        """Send all of it; may return before it is on the line."""

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        """Bytes as they come, one at least; ``b""`` when none came in time. The time is the device's."""

    def close(self) -> None:
        """Give the line back; closing twice is allowed."""


@dataclass(frozen=True, slots=True)
class _Request:
    operation: Operation
    reply_payload_bytes: int
    count: int = 0
    payload: bytes | memoryview = b""

    @property
    def size(self) -> int:
        return REQUEST_OVERHEAD_BYTES + len(self.payload)


class LinkDriver:
    """Speaks the link protocol.

    Parameters
    ----------
    transport : Transport
    name : str
        The device's id, for messages.
    compute_s : float
        How long the device may be silent because it computes.
    statistics : LinkStatistics, optional
        Where frames and bytes are counted.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        name: str = "device",
        compute_s: float = 0.0,
        statistics: LinkStatistics | None = None,
    ) -> None:
        self._transport = transport
        self._name = name
        self._compute_s = compute_s
        self._statistics = statistics or LinkStatistics()
        self._identity: Identity | None = None
        self._received = bytearray()
        self._sequence = 0
        self._settled = True

    def identify(self) -> Identity:
        """Ask the device what it is.

        Raises
        ------
        DeviceTimeout, FrameCorrupt
            When it does not answer, or not in frames.
        FirmwareMismatch
            When it speaks another version of the protocol.
        """
        self._identity = None
        self._identity = Identity.decode(self._ask(Operation.IDENTIFY, Identity.SIZE))
        return self._identity

    def infer(self, payload: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Run samples in order.

        Parameters
        ----------
        payload : ndarray of uint8, shape (batch, input_bytes)

        Returns
        -------
        ndarray of uint8, shape (batch, output_bytes)

        Raises
        ------
        DeviceTimeout, FrameCorrupt
            When the device gave no right answer in four attempts.
        FirmwareMismatch
            When another firmware answers than before.
        TensorMismatch
            When the payload has another shape.
        """
        identity = self._identity or self.identify()
        if payload.ndim != 2 or payload.shape[1] != identity.input_bytes or payload.dtype != np.uint8:
            raise TensorMismatch(
                f"payload is {payload.dtype} of shape {list(payload.shape)}, "
                f"uint8 of shape [-1, {identity.input_bytes}] is needed",
                shape=str(list(payload.shape)),
                input_bytes=identity.input_bytes,
            )
        replies = self._exchange(_split(payload, identity))
        joined = np.frombuffer(bytearray().join(replies), dtype=np.uint8)
        return joined.reshape(len(payload), identity.output_bytes)

    def counters(self) -> Counters:
        """Read the device's counters."""
        return decode_counters(self._ask(Operation.COUNTERS, _COUNTERS_BYTES))

    def reset(self) -> None:
        """Clear the counters, and whatever either side had half received."""
        self._settle()
        self._ask(Operation.RESET, 0)

    def close(self) -> None:
        """Close the transport."""
        self._transport.close()

    @property
    def _window_bytes(self) -> int:
        return self._identity.window_bytes if self._identity else 64

    @property
    def _patience_s(self) -> float:
        line_s = self._identity.window_bytes * self._identity.byte_s if self._identity else QUIET_S
        return _HOST_LATENCY_S + self._compute_s + line_s

    def _ask(self, operation: Operation, reply_payload_bytes: int) -> bytes:
        return self._exchange([_Request(operation, reply_payload_bytes)])[0]

    def _exchange(self, requests: Sequence[_Request]) -> list[bytes]:
        replies: list[bytes] = []
        failures = 0
        while len(replies) < len(requests):
            done = len(replies)
            try:
                if not self._settled:
                    self._settle()
                    self._confirm()
                self._settled = False
                for reply in self._stream(requests[done:]):
                    replies.append(reply)
                self._settled = True
            except (DeviceTimeout, FrameCorrupt) as failure:
                self._statistics.bad_frames += 1
                failures = 1 if len(replies) > done else failures + 1
                if failures > RETRIES:
                    raise _gave_up(failure, failures) from failure
        return replies

    def _stream(self, requests: Sequence[_Request]) -> Iterator[bytes]:
        waiting: deque[tuple[_Request, int]] = deque()
        sent, room = 0, self._window_bytes
        while sent < len(requests) or waiting:
            frames = []
            while sent < len(requests) and len(waiting) < FRAMES_IN_FLIGHT:
                request = requests[sent]
                if waiting and request.size > room:
                    break
                self._sequence = (self._sequence + 1) % 256
                frame = encode_request(request.operation, self._sequence, count=request.count, payload=request.payload)
                frames.append(frame)
                waiting.append((request, self._sequence))
                room -= request.size
                sent += 1
            if frames:
                data = b"".join(frames)
                self._statistics.bytes_out += len(data)
                self._transport.write(data)
            request, sequence = waiting.popleft()
            yield self._receive(request, sequence)
            room += request.size

    def _receive(self, request: _Request, sequence: int) -> bytes:
        header = reply_header(request.operation, sequence, count=request.count)
        size = REPLY_OVERHEAD_BYTES + request.reply_payload_bytes
        noise = 0
        while True:
            found = self._received.find(header)
            skip = found if found >= 0 else max(0, len(self._received) - len(header) + 1)
            noise += skip
            del self._received[:skip]
            if found >= 0 and len(self._received) >= size:
                frame = bytes(self._received[:size])
                del self._received[:size]
                self._statistics.frames += 1
                return self._checked(frame)
            if noise > _NOISE_LIMIT_BYTES:
                raise FrameCorrupt(f"{self._name} sent {noise} bytes without a reply in them", bytes=noise)
            self._fill(size - len(self._received))

    def _fill(self, wanted: int) -> None:
        data = self._transport.read(wanted, self._patience_s)
        if not data:
            raise DeviceTimeout(
                f"{self._name} has been silent for {self._patience_s:.3f} s, {wanted} more bytes were expected",
                seconds=round(self._patience_s, 3),
                missing_bytes=wanted,
            )
        self._statistics.bytes_in += len(data)
        self._received += data

    def _checked(self, frame: bytes) -> bytes:
        if not is_intact(frame):
            raise FrameCorrupt(f"{self._name} sent a reply of {len(frame)} bytes with a wrong check", bytes=len(frame))
        status = frame[-5]
        if status == Status.CORRUPT:
            raise FrameCorrupt(f"{self._name} received a request with a wrong check", status=status)
        if status != Status.OK:
            raise FirmwareMismatch(
                f"{self._name} refused operation {frame[1]} with status {status}; program it again",
                operation=frame[1],
                status=status,
            )
        return frame[5:-5]

    def _settle(self) -> None:
        drained = 0
        output_bytes = self._identity.output_bytes if self._identity else Identity.SIZE
        limit = _NOISE_LIMIT_BYTES + self._window_bytes * output_bytes
        while data := self._transport.read(4096, QUIET_S):
            drained += len(data)
            if drained > limit:
                raise DeviceTimeout(
                    f"{self._name} sent {drained} bytes and was never silent for {QUIET_S} s; check the line",
                    bytes=drained,
                )
        self._received.clear()
        self._settled = True

    def _confirm(self) -> None:
        if self._identity is None:
            return
        self._settled = False
        (payload,) = self._stream([_Request(Operation.IDENTIFY, Identity.SIZE)])
        if payload != self._identity.encode():
            raise FirmwareMismatch(
                f"{self._name} now runs build {Identity.decode(payload).build_id}, "
                f"{self._identity.build_id} is needed; program it again",
                needed=self._identity.build_id,
            )


def _split(payload: NDArray[np.uint8], identity: Identity) -> list[_Request]:
    """Frames of a quarter of the window, so that one is read while the next ones wait."""
    frame_bytes = identity.window_bytes // 4 - REQUEST_OVERHEAD_BYTES
    most = min(frame_bytes // identity.input_bytes, _REPLY_LIMIT_BYTES // identity.output_bytes, 0xFFFF)
    step = max(1, most)
    data = memoryview(payload.tobytes())
    size = identity.input_bytes
    return [
        _Request(
            Operation.INFER,
            min(step, len(payload) - start) * identity.output_bytes,
            min(step, len(payload) - start),
            data[start * size : (start + step) * size],
        )
        for start in range(0, len(payload), step)
    ]


def _gave_up(failure: DeviceError, attempts: int) -> DeviceError:
    return type(failure)(f"{failure} ({attempts} attempts)", **{**failure.facts, "attempts": attempts})
