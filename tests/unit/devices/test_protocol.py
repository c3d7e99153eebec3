"""The host's frames against bytes written out by hand, and its numbers against the gateware's."""

from __future__ import annotations

import struct
import zlib

import pytest

from gatesmith.devices import protocol
from gatesmith.devices.device import Counters
from gatesmith.errors import FirmwareMismatch
from gatesmith.firmware import Link
from gatesmith.gateware import frame as gateware

IDENTITY = protocol.Identity(
    version=1,
    build_id="00112233445566778899aabbccddeeff",
    input_bits=20,
    output_bits=9,
    clock_hz=12_000_000,
    divisor=4,
    window_bytes=2047,
    gap_limit_cycles=262144,
)


def test_request_is_as_written() -> None:
    body = bytes.fromhex("02 07 0300 616263".replace(" ", ""))
    wanted = b"\xa5" + body + struct.pack("<I", zlib.crc32(body))
    assert protocol.encode_request(2, 7, count=3, payload=b"abc") == wanted


def test_reply_is_as_written() -> None:
    body = bytes.fromhex("02 07 0300 626364 00".replace(" ", ""))
    wanted = b"\x5a" + body + struct.pack("<I", zlib.crc32(body))
    assert protocol.encode_reply(2, 7, count=3, payload=b"bcd", status=0) == wanted
    assert wanted.startswith(protocol.reply_header(2, 7, count=3))


@pytest.mark.parametrize("position", range(1, 16))
def test_any_changed_byte_breaks_a_frame(position: int) -> None:
    frame = bytearray(protocol.encode_request(2, 7, count=7, payload=b"abcdefg"))
    assert protocol.is_intact(bytes(frame))
    frame[position] ^= 0x10
    assert not protocol.is_intact(bytes(frame))


def test_both_sides_have_the_same_numbers() -> None:
    assert {o.name: o.value for o in protocol.Operation} == {o.name: o.value for o in gateware.Operation}
    assert {s.name: s.value for s in protocol.Status} == {s.name: s.value for s in gateware.Status}
    assert (protocol.REQUEST_MARK, protocol.REPLY_MARK) == (gateware.REQUEST_MARK, gateware.REPLY_MARK)
    assert protocol.PROTOCOL_VERSION == gateware.PROTOCOL_VERSION
    link = Link(divisor=4, clock_hz=12_000_000)
    record = gateware.identity_record(input_bits=20, output_bits=9, link=link, build_id=IDENTITY.build_id)
    assert protocol.Identity.decode(record) == IDENTITY
    assert IDENTITY.encode() == record


@pytest.mark.parametrize("clock_hz", [1_000_000, 12_000_000, 13_107_200, 25_000_000, 27_000_000, 100_000_000])
def test_the_gap_limit_is_a_power_of_two_of_20_to_40_ms(clock_hz: int) -> None:
    cycles = gateware.gap_limit_cycles(clock_hz)
    assert cycles & (cycles - 1) == 0
    assert 0.02 <= cycles / clock_hz < protocol.GAP_LIMIT_S


def test_sizes_in_bytes_are_rounded_up() -> None:
    assert (IDENTITY.input_bytes, IDENTITY.output_bytes) == (3, 2)


def test_another_version_is_refused() -> None:
    record = b"\x02" + IDENTITY.encode()[1:]
    with pytest.raises(FirmwareMismatch, match="speaks link protocol 2, 1 is needed"):
        protocol.Identity.decode(record)


def test_an_impossible_identity_is_refused() -> None:
    with pytest.raises(FirmwareMismatch, match="describes itself with a zero"):
        protocol.Identity.decode(IDENTITY.encode()[:18] + bytes(20))


def test_counters() -> None:
    payload = struct.pack("<III", 9, 1000, 2)
    assert protocol.decode_counters(payload) == Counters(latency_cycles=9, samples=1000, frame_errors=2)
