"""The UART, 8N1, one bit at a time: the link behind it works on single bits, so neither side holds a byte twice.

``divisor`` is the length of a bit in clock cycles, four or more. The receiver samples in the middle of each bit and
is ready for the next start bit from the middle of the stop bit on, so a sender may be fast or slow by a few per cent.
The transmitter takes its bits from outside at the moment it puts them on the line.
"""
# Ref: measured limits of mid-bit sampling: divisor 4 +-2.5 %, 12 +-4 %, 104 -4.5..+5 % (docs/protocol.md, "Line")

from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["MIN_DIVISOR", "Receiver", "Transmitter"]

MIN_DIVISOR = 4


class Receiver(wiring.Component):
    """Bytes from a line.

    Attributes
    ----------
    line : input, 1 bit
        The line, already synchronised to the clock.
    data : output, 8 bits
    strobe : output, 1 bit
        High for one cycle when ``data`` holds a new byte. A byte whose stop bit is missing counts too: the frame's
        check finds it, and the frame keeps its length.
    """

    def __init__(self, *, divisor: int) -> None:
        self._divisor = divisor
        super().__init__({"line": In(1), "data": Out(8), "strobe": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        timer = Signal(range(self._divisor))
        slot = Signal(4)  # 0 idle, 1 start bit, 2 to 9 data, 10 stop bit
        m.d.sync += self.strobe.eq(0)
        with m.If(slot == 0):
            m.d.sync += timer.eq(self._divisor // 2 - 1)
            with m.If(~self.line):
                m.d.sync += slot.eq(1)
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(self._divisor - 1), slot.eq(slot + 1)]
            with m.If(((slot == 1) & self.line) | (slot == 10)):
                m.d.sync += slot.eq(0)
            with m.Elif(slot != 1):
                m.d.sync += [self.data.eq(Cat(self.data[1:], self.line)), self.strobe.eq(slot == 9)]
        return m


class Transmitter(wiring.Component):
    """Bits to a line, eight to a byte.

    Attributes
    ----------
    start : input, 1 bit
        A byte is wanted; seen only while the line is free.
    bit : input, 1 bit
        The next data bit, low one first.
    take : output, 1 bit
        ``bit`` goes on the line at the end of this cycle; the next one must then be there.
    last : output, 1 bit
        As ``take``, for the last bit of a byte: ``start`` is next looked at ``2 * divisor`` cycles later.
    line : output, 1 bit
    """

    def __init__(self, *, divisor: int) -> None:
        self._divisor = divisor
        super().__init__({"start": In(1), "bit": In(1), "take": Out(1), "last": Out(1), "line": Out(1, init=1)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        timer = Signal(range(self._divisor))
        slot = Signal(4)  # 0 free, 1 to 8 before a data bit, 9 before the stop bit, 10 in it
        elapsed = Signal()
        soon = timer == 1
        m.d.sync += [
            elapsed.eq(soon),
            self.take.eq(soon & (slot != 0) & (slot < 9)),
            self.last.eq(soon & (slot == 8)),
        ]
        with m.If(slot == 0):
            m.d.sync += timer.eq(self._divisor - 1)
            with m.If(self.start):
                m.d.sync += [slot.eq(1), self.line.eq(0)]
        with m.Elif(~elapsed):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(self._divisor - 1), slot.eq(slot + 1), self.line.eq(self.bit | (slot > 8))]
            with m.If(slot == 9):
                m.d.sync += timer.eq(self._divisor - 2)  # the free cycle belongs to the stop bit
            with m.If(slot == 10):
                m.d.sync += slot.eq(0)
        return m
