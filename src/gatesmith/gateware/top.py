"""The whole design: a core behind the link, with a clock and the two wires of a UART, as RTLIL for a toolchain.

There is no reset: every register has its value from the bitstream, and that state holds itself while the line is
idle. The line is taken for idle until the first cycles after configuration are over, and it passes two registers
before anything looks at it.

The text is the same for the same arguments, on any machine.
"""

import re

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Module, Signal
from amaranth.lib import cdc, wiring
from amaranth.lib.wiring import In, Out

from gatesmith.contract import Contract
from gatesmith.errors import DesignDoesNotFit, UnsupportedOperation
from gatesmith.firmware import Design, Link
from gatesmith.gateware.core import Core
from gatesmith.gateware.link import UartLink
from gatesmith.gateware.uart import MIN_DIVISOR

__all__ = ["Top", "compose"]

_SETTLE_CYCLES = 16


class Top(wiring.Component):
    """A core, its link and a clock."""

    def __init__(self, core: Core, *, link: Link, build_id: str) -> None:
        self._uart = UartLink(core, link=link, build_id=build_id)
        super().__init__({"clk": In(1), "rx": In(1), "tx": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.domains.sync = ClockDomain(reset_less=True)
        m.submodules.uart = uart = self._uart
        line, settled = Signal(init=1), Signal(range(_SETTLE_CYCLES + 1))
        m.submodules.synchroniser = cdc.FFSynchronizer(self.rx, line, init=1)
        with m.If(~settled[-1]):
            m.d.sync += settled.eq(settled + 1)
        m.d.comb += [ClockSignal().eq(self.clk), self.tx.eq(uart.tx)]
        m.d.sync += uart.rx.eq(line | ~settled[-1])
        return m


def compose(core: Core, *, contract: Contract, link: Link, build_id: str) -> Design:
    """Put a core behind the link.

    Parameters
    ----------
    core : Core
        Its widths are the contract's.
    build_id : str
        32 hex digits that the gateware answers to an identify frame.

    Raises
    ------
    UnsupportedOperation
        When the core's widths are not the contract's.
    DesignDoesNotFit
        When a bit on the line would be shorter than four clock cycles.
    """
    widths = (len(core.i.payload), len(core.o.payload))
    if widths != (contract.input_bits, contract.output_bits):
        raise UnsupportedOperation(
            f"core takes {widths[0]} bits and gives {widths[1]}, "
            f"the contract has {contract.input_bits} and {contract.output_bits}",
            core_bits=str(widths),
        )
    if link.divisor < MIN_DIVISOR:
        raise DesignDoesNotFit(
            f"a bit on the line is {link.divisor} clock cycles, {MIN_DIVISOR} are needed; use a lower baud rate",
            divisor=link.divisor,
            needed=MIN_DIVISOR,
        )
    text = rtlil.convert(Top(core, link=link, build_id=build_id), name="top", emit_src=False)
    return Design(
        top="top",
        sources={"top.il": _any_value_on_collision(text), **core.sources},
        build_id=build_id,
        link=link,
        latency_cycles=core.latency_cycles,
        initiation_interval_cycles=core.initiation_interval_cycles,
    )


def _any_value_on_collision(text: str) -> str:
    """Say of the receive buffer's read port that a read which collides with a write may give anything."""
    return re.sub(
        r"(?ms)^module \\top\.uart\.buffer$.*?^end$",
        lambda module: module[0].replace("\\COLLISION_X_MASK 1'0", "\\COLLISION_X_MASK 1'1"),
        text,
    )
