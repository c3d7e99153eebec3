"""Frames of the link protocol, version 1: bytes to values and back, and nothing that moves them.

``docs/protocol.md`` is the specification; this module is the host's reading of it.
"""

# Ref: CRC-32/ISO-HDLC is what zlib.crc32 computes

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

from gatesmith.devices.device import Counters
from gatesmith.errors import FirmwareMismatch

__all__ = [
    "FRAMES_IN_FLIGHT",
    "GAP_LIMIT_S",
    "PROTOCOL_VERSION",
    "REPLY_MARK",
    "REPLY_OVERHEAD_BYTES",
    "REQUEST_MARK",
    "REQUEST_OVERHEAD_BYTES",
    "Identity",
    "Operation",
    "Status",
    "decode_counters",
    "encode_reply",
    "encode_request",
    "is_intact",
    "reply_header",
]

PROTOCOL_VERSION = 1
REQUEST_MARK, REPLY_MARK = 0xA5, 0x5A
REQUEST_OVERHEAD_BYTES, REPLY_OVERHEAD_BYTES = 9, 10
FRAMES_IN_FLIGHT = 64
GAP_LIMIT_S = 0.04
"""The longest pause after which any device has given a frame up."""

_HEADER = struct.Struct("<BBBH")
_CHECK = struct.Struct("<I")
_IDENTITY = struct.Struct("<BB16sIIIHHI")
_COUNTERS = struct.Struct("<III")


class Operation(IntEnum):
    """What a request asks for."""

    IDENTIFY = 1
    INFER = 2
    COUNTERS = 3
    RESET = 4


class Status(IntEnum):
    """How a request ended."""

    OK = 0
    CORRUPT = 1
    UNKNOWN_OPERATION = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What a device says of itself."""

    version: int
    build_id: str
    input_bits: int
    output_bits: int
    clock_hz: int
    divisor: int
    window_bytes: int
    gap_limit_cycles: int

    SIZE = _IDENTITY.size

    @property
    def input_bytes(self) -> int:
        """Bytes of one sample going in."""
        return -(-self.input_bits // 8)

    @property
    def output_bytes(self) -> int:
        """Bytes of one sample coming out."""
        return -(-self.output_bits // 8)

    @property
    def byte_s(self) -> float:
        """Time of a byte on the line."""
        return 10 * self.divisor / self.clock_hz

    def encode(self) -> bytes:
        """The payload of an identify reply."""
        return _IDENTITY.pack(
            self.version,
            0,
            bytes.fromhex(self.build_id),
            self.input_bits,
            self.output_bits,
            self.clock_hz,
            self.divisor,
            self.window_bytes,
            self.gap_limit_cycles,
        )

    @classmethod
    def decode(cls, payload: bytes) -> Identity:
        """Read the payload of an identify reply.

        Raises
        ------
        FirmwareMismatch
            When the device speaks another version of the protocol, or says what cannot be.
        """
        version, _, build_id, *numbers = _IDENTITY.unpack(payload)
        if version != PROTOCOL_VERSION:
            raise FirmwareMismatch(
                f"device speaks link protocol {version}, {PROTOCOL_VERSION} is needed; build the firmware again",
                version=version,
            )
        if not all(numbers):
            raise FirmwareMismatch(f"device describes itself with a zero: {numbers}; program it again")
        return cls(
            version=version,
            build_id=build_id.hex(),
            **dict(zip(("input_bits", "output_bits", "clock_hz", "divisor"), numbers[:4], strict=True)),
            window_bytes=numbers[4],
            gap_limit_cycles=numbers[5],
        )


def encode_request(operation: int, sequence: int, *, count: int = 0, payload: bytes | memoryview = b"") -> bytes:
    """A whole request."""
    header = _HEADER.pack(REQUEST_MARK, operation, sequence, count)
    return b"".join((header, payload, _CHECK.pack(zlib.crc32(payload, zlib.crc32(header[1:])))))


def reply_header(operation: int, sequence: int, *, count: int = 0) -> bytes:
    """How the reply to such a request begins."""
    return _HEADER.pack(REPLY_MARK, operation, sequence, count)


def encode_reply(operation: int, sequence: int, *, count: int, payload: bytes, status: int) -> bytes:
    """A whole reply."""
    frame = reply_header(operation, sequence, count=count) + payload + bytes((status,))
    return frame + _CHECK.pack(zlib.crc32(frame[1:]))


def is_intact(frame: bytes) -> bool:
    """Whether a whole frame, request or reply, has the right check."""
    return frame[-4:] == _CHECK.pack(zlib.crc32(memoryview(frame)[1:-4]))


def decode_counters(payload: bytes) -> Counters:
    """Read the payload of a counters reply."""
    latency_cycles, samples, frame_errors = _COUNTERS.unpack(payload)
    return Counters(latency_cycles=latency_cycles, samples=samples, frame_errors=frame_errors)
