# amaranth: UnusedElaboratable=no
"""The whole top at its pins: frames written by hand from ``docs/protocol.md``, run under Verilator."""

from __future__ import annotations

import re
import struct
import zlib

import numpy as np
import pytest
from cores import BUILD_ID, LINK, Folded, Pipeline, Wire, contract, design, firmware, successor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from requirements import require

from gatesmith.devices.emulator import emulate
from gatesmith.devices.verilated import EmulatedTransport
from gatesmith.errors import DesignDoesNotFit, UnsupportedOperation
from gatesmith.firmware import Link
from gatesmith.gateware.core import Core
from gatesmith.gateware.top import compose

GAP_CYCLES = 262144
LATE = 3 * GAP_CYCLES / LINK.clock_hz

CORES = {
    "wire": lambda: Wire(8, 8),
    "pipeline": lambda: Pipeline(32, 48, stages=5),
    "long pipeline": lambda: Pipeline(8, 8, stages=300),
    "folded": lambda: Folded(20, 9, latency_cycles=700),
    "one bit in": lambda: Pipeline(1, 13, stages=2),
    "one bit out": lambda: Pipeline(70, 1, stages=1),
}


@pytest.fixture(autouse=True)
def _tools() -> None:
    for tool in ("verilator", "g++", "pyosys"):
        require(tool)


def request(operation: int, sequence: int = 0, count: int = 0, payload: bytes = b"") -> bytes:
    body = struct.pack("<BBH", operation, sequence, count) + payload
    return b"\xa5" + body + struct.pack("<I", zlib.crc32(body))


def reply(operation: int, sequence: int = 0, count: int = 0, payload: bytes = b"", status: int = 0) -> bytes:
    body = struct.pack("<BBH", operation, sequence, count) + payload + bytes((status,))
    return b"\x5a" + body + struct.pack("<I", zlib.crc32(body))


def ask(wire: EmulatedTransport, frame: bytes, *, timeout_s: float = 0.002) -> bytes:
    wire.write(frame)
    return wire.read(65536, timeout_s)


def samples(core: Core, count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    payload = rng.integers(0, 256, (count, -(-len(core.i.payload) // 8)), dtype=np.uint8)
    payload[0], payload[-1] = 0, 255
    return payload


@pytest.mark.parametrize("name", CORES)
def test_infer_is_exact(name: str) -> None:
    core = CORES[name]()
    wire = emulate(firmware(core))
    for count in (1, 2, 37):
        payload = samples(core, count)
        wanted = reply(2, count, count, successor(payload, core).tobytes())
        assert ask(wire, request(2, count, count, payload.tobytes())) == wanted


@pytest.mark.parametrize("name", CORES)
def test_latency_is_what_the_core_says(name: str) -> None:
    core = CORES[name]()
    wire = emulate(firmware(core))
    payload = samples(core, 3)
    ask(wire, request(2, 0, 3, payload.tobytes()))
    assert ask(wire, request(3)) == reply(3, payload=struct.pack("<III", core.latency_cycles, 3, 0))


def test_identify() -> None:
    wire = emulate(firmware(Pipeline(20, 9, stages=1)))
    record = struct.pack("<BB16sIIIHHI", 1, 0, bytes.fromhex(BUILD_ID), 20, 9, 12_000_000, 4, 2047, GAP_CYCLES)
    assert ask(wire, request(1, 77)) == reply(1, 77, payload=record)


@pytest.mark.parametrize("operation", [0, 5, 0x81, 0xA5, 255])
def test_unknown_operation(operation: int) -> None:
    wire = emulate(firmware(Wire(8, 8)))
    assert ask(wire, request(operation, 9, 7)) == reply(operation, 9, 7, status=2)
    assert ask(wire, request(4, 10)) == reply(4, 10)


def test_infer_of_nothing() -> None:
    assert ask(emulate(firmware(Wire(8, 8))), request(2, 1)) == reply(2, 1)


@pytest.mark.parametrize("position", range(1, 12))
def test_a_changed_byte_never_gives_a_good_reply(position: int) -> None:
    wire = emulate(firmware(Wire(8, 8)))
    frame = bytearray(request(2, 1, 3, b"abc"))
    frame[position] ^= 0x04
    answer = ask(wire, bytes(frame), timeout_s=LATE)
    assert not (answer[-5:-4] == b"\0" and answer[-4:] == struct.pack("<I", zlib.crc32(answer[1:-4])))
    assert ask(wire, request(2, 2, 3, b"abc")) == reply(2, 2, 3, b"bcd")
    assert ask(wire, request(3))[13:17] == struct.pack("<I", 1)


@pytest.mark.parametrize("length", range(1, 12))
def test_a_cut_frame_is_given_up(length: int) -> None:
    wire = emulate(firmware(Pipeline(8, 8, stages=20)))
    ask(wire, request(2, 1, 3, b"abc")[:length], timeout_s=LATE)
    assert ask(wire, request(2, 2, 3, b"abc")) == reply(2, 2, 3, b"bcd")
    assert ask(wire, request(3))[13:17] == struct.pack("<I", 1)


def test_a_pause_below_the_limit_is_no_cut() -> None:
    wire = emulate(firmware(Wire(8, 8)))
    frame = request(2, 1, 3, b"abc")
    begun = ask(wire, frame[:7], timeout_s=0.9 * GAP_CYCLES / LINK.clock_hz)
    assert begun + ask(wire, frame[7:]) == reply(2, 1, 3, b"bcd")


def test_reset_clears_the_counters_and_only_when_intact() -> None:
    wire = emulate(firmware(Wire(8, 8)))
    ask(wire, request(2, 1, 3, b"abc"))
    broken = bytearray(request(4))
    broken[-1] ^= 1
    assert ask(wire, bytes(broken)) == reply(4, status=1)
    assert ask(wire, request(3)) == reply(3, payload=struct.pack("<III", 0, 3, 1))
    assert ask(wire, request(4)) == reply(4)
    assert ask(wire, request(3)) == reply(3, payload=bytes(12))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(min_size=1, max_size=60))
def test_noise_before_a_frame_is_survived(noise: bytes) -> None:
    wire = emulate(firmware(Wire(8, 8)))
    ask(wire, noise, timeout_s=LATE)
    assert ask(wire, request(2, 2, 3, b"abc")) == reply(2, 2, 3, b"bcd")


def test_frames_that_queue_up_are_answered_in_order() -> None:
    core = Pipeline(8, 64, stages=3)  # a result takes eight times as long as a sample
    wire = emulate(firmware(core))
    payload = samples(core, 20)
    wire.write(b"".join(request(2, i, 20, payload.tobytes()) for i in range(60)))
    results = successor(payload, core).tobytes()
    wanted = b"".join(reply(2, i, 20, results) for i in range(60))
    assert wire.read(len(wanted), 0.002) == wanted


@pytest.mark.parametrize(("input_bits", "output_bits"), [(32, 48), (48, 32), (8, 8), (64, 8)])
def test_long_frames_run_at_nine_tenths_of_the_line(input_bits: int, output_bits: int) -> None:
    core = Pipeline(input_bits, output_bits, stages=6)
    wire = emulate(firmware(core))
    count = 500 // (input_bits // 8)
    payload = samples(core, count).tobytes()
    start, frames = wire.board.cycles, 12
    wire.write(b"".join(request(2, i, count, payload) for i in range(3)))
    for i in range(frames):
        assert len(wire.read(10 + count * output_bits // 8, 0.002)) == 10 + count * output_bits // 8
        wire.write(request(2, i, count, payload))
    ideal = frames * count * max(input_bits, output_bits) // 8 * 10 * LINK.divisor
    assert ideal / (wire.board.cycles - start) >= 0.9


def test_ports_and_text_are_fixed() -> None:
    first, second = (design(Pipeline(32, 48, stages=5)) for _ in range(2))
    assert first.sources == second.sources
    top = re.search(r"(?ms)^module \\top$.*?^end$", first.sources["top.il"])
    assert top is not None
    ports = re.findall(r"^  wire width 1 (input|output) \d+ +\\(\w+)$", top[0], re.M)
    assert ports == [("input", "clk"), ("input", "rx"), ("output", "tx")]
    assert "attribute \\src" not in first.sources["top.il"]
    assert first.sources["top.il"].count("\\COLLISION_X_MASK 1'1") == 1


def test_refuses_what_cannot_work() -> None:
    core = Wire(8, 8)
    with pytest.raises(UnsupportedOperation, match="core takes 8 bits and gives 8, the contract has 9 and 8"):
        compose(core, contract=contract(Wire(9, 8)), link=LINK, build_id=BUILD_ID)
    with pytest.raises(DesignDoesNotFit, match="3 clock cycles, 4 are needed"):
        compose(core, contract=contract(core), link=Link(divisor=3, clock_hz=12_000_000), build_id=BUILD_ID)
