"""The UART against bits made by hand, with a host that is too fast or too slow."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.sim import Simulator

from gatesmith.gateware.uart import Receiver, Transmitter

TEXT = bytes((0x00, 0xFF, 0x55, 0xAA, 0x5A, 0xA5, 0x01, 0x80))


def line_bits(data: bytes) -> list[int]:
    """Levels of the line, one for each bit time."""
    return [level for byte in data for level in (0, *(byte >> i & 1 for i in range(8)), 1)]


def receive(divisor: int, *, error: float, data: bytes = TEXT) -> bytes:
    """What the receiver makes of bits that are ``error`` longer than they should be."""
    part, got = Receiver(divisor=divisor), bytearray()
    levels, bit = line_bits(data), divisor * (1 + error)

    async def host(ctx: Any) -> None:
        for cycle in range(int(len(levels) * bit) + 3 * divisor):
            index = int(cycle / bit)
            ctx.set(part.line, levels[index] if index < len(levels) else 1)
            await ctx.tick()
            if ctx.get(part.strobe):
                got.append(ctx.get(part.data))

    simulator = Simulator(part)
    simulator.add_clock(1e-6)
    simulator.add_testbench(host)
    simulator.run()
    return bytes(got)


@pytest.mark.parametrize(
    ("divisor", "error"), [(4, 0.0), (4, 0.02), (4, -0.02), (5, 0.025), (12, 0.035), (12, -0.035), (104, 0.04)]
)
def test_a_host_may_be_a_little_off(divisor: int, error: float) -> None:
    assert receive(divisor, error=error) == TEXT


def test_a_host_that_is_far_off_is_misread() -> None:
    assert receive(12, error=0.2) != TEXT


def test_a_glitch_shorter_than_half_a_bit_is_no_start() -> None:
    part, strobes = Receiver(divisor=16), []

    async def host(ctx: Any) -> None:
        for cycle in range(400):
            ctx.set(part.line, 0 if cycle in range(20, 25) else 1)
            await ctx.tick()
            strobes.append(ctx.get(part.strobe))

    simulator = Simulator(part)
    simulator.add_clock(1e-6)
    simulator.add_testbench(host)
    simulator.run()
    assert not any(strobes)


@pytest.mark.parametrize("divisor", [4, 5, 12])
def test_bytes_leave_back_to_back(divisor: int) -> None:
    part, levels = Transmitter(divisor=divisor), []
    bits = [byte >> i & 1 for byte in TEXT for i in range(8)]

    async def source(ctx: Any) -> None:
        ctx.set(part.start, 1)
        taken = 0
        for _ in range(len(TEXT) * 10 * divisor + 2):
            ctx.set(part.bit, bits[taken] if taken < len(bits) else 1)
            taken += ctx.get(part.take)
            await ctx.tick()
            levels.append(ctx.get(part.line))

    simulator = Simulator(part)
    simulator.add_clock(1e-6)
    simulator.add_testbench(source)
    simulator.run()
    first = levels.index(0)
    middles = levels[first + divisor // 2 :: divisor][: 10 * len(TEXT)]
    assert middles == line_bits(TEXT)[: len(middles)]
    assert len(middles) >= 10 * len(TEXT) - 1
