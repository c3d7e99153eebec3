"""Numbers of the link protocol, version 1, as the gateware needs them; ``docs/protocol.md`` is the specification.

The run side has its own copy in ``devices/protocol.py``, because neither side imports the other; a test compares them.
"""

import enum
import struct

from gatesmith.firmware import Link

__all__ = [
    "BUFFER_BYTES",
    "COUNTERS_BYTES",
    "HEADER_BYTES",
    "IDENTITY_BYTES",
    "PROTOCOL_VERSION",
    "REPLY_MARK",
    "REQUEST_MARK",
    "TRAILER_BYTES",
    "Operation",
    "Status",
    "gap_limit_cycles",
    "identity_record",
]

PROTOCOL_VERSION = 1
REQUEST_MARK, REPLY_MARK = 0xA5, 0x5A
HEADER_BYTES, TRAILER_BYTES = 4, 4
BUFFER_BYTES = 2048
GAP_LIMIT_S = 0.02
COUNTERS_BYTES = 12

_IDENTITY = struct.Struct("<BB16sIIIHHI")
IDENTITY_BYTES = _IDENTITY.size


class Operation(enum.IntEnum):
    """What a request asks for."""

    IDENTIFY = 1
    INFER = 2
    COUNTERS = 3
    RESET = 4


class Status(enum.IntEnum):
    """How a request ended."""

    OK = 0
    CORRUPT = 1
    UNKNOWN_OPERATION = 2


def gap_limit_cycles(clock_hz: int) -> int:
    """The longest pause within a frame: the smallest power of two that is 20 ms or more."""
    return 1 << max(1, round(GAP_LIMIT_S * clock_hz) - 1).bit_length()


def identity_record(*, input_bits: int, output_bits: int, link: Link, build_id: str) -> bytes:
    """The payload of an identify reply."""
    return _IDENTITY.pack(
        PROTOCOL_VERSION,
        0,
        bytes.fromhex(build_id),
        input_bits,
        output_bits,
        link.clock_hz,
        link.divisor,
        BUFFER_BYTES - 1,
        gap_limit_cycles(link.clock_hz),
    )
