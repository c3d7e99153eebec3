"""The serial check against zlib."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from amaranth.sim import Simulator

from gatesmith.gateware.crc import SerialCrc


def check(data: bytes, *, lost_bit: int | None = None) -> int:
    """The check of some bytes; ``lost_bit`` is not shifted in."""
    part, result = SerialCrc(), []

    async def bench(ctx: Any) -> None:
        ctx.set(part.clear, 1)
        await ctx.tick()
        ctx.set(part.clear, 0)
        for i in range(8 * len(data)):
            ctx.set(part.bit, data[i // 8] >> i % 8 & 1)
            ctx.set(part.shift, i != lost_bit)
            await ctx.tick()
        ctx.set(part.unload, 1)
        ctx.set(part.shift, 1)
        for _ in range(32):
            result.append(ctx.get(part.check))
            await ctx.tick()

    simulator = Simulator(part)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return sum(bit << place for place, bit in enumerate(result))


@pytest.mark.parametrize("data", [b"", b"\0", b"123456789", bytes(range(64))])
def test_is_the_same_as_zlib(data: bytes) -> None:
    assert check(data) == zlib.crc32(data)


def test_catalogue_value() -> None:
    # Ref: Catalogue of parametrised CRC algorithms, CRC-32/ISO-HDLC, check = 0xcbf43926
    assert check(b"123456789") == 0xCBF43926


def test_a_lost_bit_is_seen() -> None:
    assert check(b"123456789", lost_bit=17) != 0xCBF43926
