"""Small designs with the three ports of every top, for tests of the toolchain."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, ClockDomain, Elaboratable, Module, Signal
from amaranth.back import rtlil
from amaranth.hdl._ir import PortDirection
from amaranth.lib.memory import Memory

from gatesmith.boards import Board
from gatesmith.firmware import Design, Link

__all__ = ["design", "shift_register", "successor", "wrong_width"]

# A unit that the RTLIL instances, so that both readers are exercised.
INVERTER = "module inverter #(parameter W = 1) (input [W-1:0] a, output [W-1:0] y); assign y = ~a; endmodule\n"


class _Successor(Elaboratable):
    """Answers each byte with the table's entry for it: the byte plus one."""

    def __init__(self, divisor: int) -> None:
        self.clk, self.rx, self.tx = Signal(), Signal(init=1), Signal()
        self.divisor = divisor

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.domains.sync = domain = ClockDomain("sync", reset_less=True, local=True)
        m.submodules.table = table = Memory(shape=8, depth=512, init=[(i + 1) % 256 for i in range(512)])
        read = table.read_port()
        line, timer, bits, shift = Signal(2, init=3), Signal(range(2 * self.divisor)), Signal(4), Signal(10)
        have, looked, left, out, hold = Signal(), Signal(), Signal(4), Signal(10, init=-1), Signal(range(self.divisor))
        m.d.comb += [domain.clk.eq(self.clk), read.addr.eq(shift[1:9]), self.tx.eq(out[0])]
        m.d.sync += [line.eq(Cat(self.rx, line[0])), looked.eq(have)]
        with m.If(bits == 0), m.If(~line[1] & ~have):
            m.d.sync += [bits.eq(10), timer.eq(self.divisor // 2 - 1)]
        with m.Elif(timer == 0):
            m.d.sync += [timer.eq(self.divisor - 1), bits.eq(bits - 1), shift.eq(Cat(shift[1:], line[1]))]
            with m.If(bits == 1):
                m.d.sync += have.eq(1)
        with m.Else():
            m.d.sync += timer.eq(timer - 1)
        with m.If((left == 0) & have & looked):
            m.d.sync += [out.eq(Cat(0, read.data, 1)), left.eq(10), hold.eq(self.divisor - 1), have.eq(0), looked.eq(0)]
        with m.Elif((left != 0) & (hold == 0)):
            m.d.sync += [hold.eq(self.divisor - 1), left.eq(left - 1), out.eq(Cat(out[1:], 1))]
        with m.Elif(left != 0):
            m.d.sync += hold.eq(hold - 1)
        return m


def successor(board: Board, *, clock_hz: int = 0) -> Design:
    """A design that answers each byte on the UART with the next one."""
    clock_hz = clock_hz or board.clock_hz
    divisor = round(clock_hz / board.baud)
    part = _Successor(divisor)
    ports: dict[str, Any] = {
        "clk": (part.clk, PortDirection.Input),
        "rx": (part.rx, PortDirection.Input),
        "tx": (part.tx, PortDirection.Output),
    }
    text = rtlil.convert(part, name="top", ports=ports, emit_src=False)
    return design({"top.il": text}, divisor=divisor, clock_hz=clock_hz)


def shift_register(bits: int) -> Design:
    """A design of ``bits`` flip-flops and as many look-up tables."""
    return design(
        {
            "top.v": f"module top(input clk, input rx, output tx); reg [{bits - 1}:0] s;\n"
            f"always @(posedge clk) s <= {{s[{bits - 2}:0], rx}} ^ {{s[{bits - 9}:0], s[{bits - 1}:{bits - 8}]}};\n"
            f"assign tx = s[{bits - 1}]; endmodule\n"
        }
    )


def wrong_width() -> Design:
    """A design that joins a signal of two bits to a port of one."""
    top = "module top(input clk, input rx, output tx); inverter i (.a({clk, rx}), .y(tx)); endmodule\n"
    return design({"top.v": top, "inverter.v": INVERTER})


def design(sources: dict[str, str], *, divisor: int = 4, clock_hz: int = 12_000_000) -> Design:
    """Any sources as a design."""
    return Design(
        top="top",
        sources=sources,
        build_id="0" * 32,
        link=Link(divisor=divisor, clock_hz=clock_hz),
        latency_cycles=1,
        initiation_interval_cycles=1,
    )
