"""The request's side of the link: finds frames among the waiting bytes, checks them and feeds the core.

Header bytes move at the pace of the line, because the reply takes them bit by bit; all later bytes move a bit a cycle.
A frame whose next byte does not come in time is cut: it ends here, and what it fed is still answered in order.
"""

import enum

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from gatesmith.gateware.crc import SerialCrc
from gatesmith.gateware.frame import HEADER_BYTES, REQUEST_MARK, TRAILER_BYTES, Operation

__all__ = ["Request"]


class _Part(enum.Enum):
    HEADER = 0
    SAMPLES = 1
    CHECK = 2


class Request(wiring.Component):
    """One request after the other.

    Parameters
    ----------
    input_bits : int
        Bits of a sample.
    gap_limit_cycles : int
        A power of two: how long a frame may wait for its next byte.

    Attributes
    ----------
    head, waiting, pop
        The receive buffer.
    active : output, 1 bit
        A frame has begun and is not yet released.
    bit, echo : output, 1 bit
        ``bit`` belongs to a header byte that the reply is to send.
    echoed : input, 1 bit
        The reply took ``bit``.
    operation : output, 8 bits
    finished, intact, cut : output, 1 bit
        No more is read; the check was right; the frame ended too early.
    release : input, 1 bit
        The reply is done.
    hold : input, 1 bit
        No sample may enter the core now.
    o : stream of unsigned(input_bits), output
    """

    def __init__(self, *, input_bits: int, gap_limit_cycles: int) -> None:
        self._input_bytes = -(-input_bits // 8)
        self._gap_limit_cycles = gap_limit_cycles
        super().__init__(
            {
                "head": In(8),
                "waiting": In(1),
                "pop": Out(1),
                "active": Out(1),
                "bit": Out(1),
                "echo": Out(1),
                "echoed": In(1),
                "operation": Out(8),
                "finished": Out(1),
                "intact": Out(1),
                "cut": Out(1),
                "release": In(1),
                "hold": In(1),
                "o": Out(stream.Signature(unsigned(input_bits))),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.crc = crc = SerialCrc()
        part, byte, place = Signal(_Part), Signal(8), Signal(3)
        index = Signal(range(max(self._input_bytes, HEADER_BYTES, TRAILER_BYTES)))
        count, move, end, expired = Signal(16), Signal(), Signal(), Signal()
        sample = Signal(8 * self._input_bytes)
        final = Mux(part == _Part.SAMPLES, self._input_bytes - 1, HEADER_BYTES - 1)
        m.d.comb += [
            self.bit.eq(byte[0]),
            crc.bit.eq(byte[0]),
            crc.shift.eq(move),
            crc.unload.eq(part == _Part.CHECK),
            self.o.payload.eq(sample),
        ]
        m.d.sync += end.eq(index == final)  # known long before the byte's eighth bit
        with m.If(move):
            m.d.sync += [byte.eq(byte >> 1), place.eq(place + 1)]
            self._keep(m, part, byte[0], index=index, count=count, sample=sample, check=crc.check)
        self._watch(m, expired)
        with m.FSM():
            self._hunt(m, crc.clear, part=part, index=index)
            with m.State("FETCH"):
                m.d.comb += self.pop.eq(self.waiting)
                m.d.sync += byte.eq(self.head)
                with m.If(self.waiting):
                    m.next = "MOVE"
                with m.Elif(expired):
                    m.d.sync += self.cut.eq(1)
                    m.next = "DONE"
            with m.State("MOVE"):
                m.d.comb += [self.echo.eq(part == _Part.HEADER), move.eq(~self.echo | self.echoed)]
                with m.If(move & (place == 7)):
                    m.d.sync += index.eq(Mux(end, 0, index + 1))
                    m.next = "FETCH"
                    with m.If(end):
                        m.next = "PART"
            self._advance(m, part, count)
        return m

    def _hunt(self, m: Module, clear: Signal, *, part: Signal, index: Signal) -> None:
        with m.State("HUNT"):
            m.d.comb += [self.pop.eq(self.waiting), clear.eq(1)]
            m.d.sync += [part.eq(_Part.HEADER), index.eq(0), self.intact.eq(1), self.cut.eq(0)]
            with m.If(self.waiting & (self.head == REQUEST_MARK)):
                m.d.sync += self.active.eq(1)
                m.next = "FETCH"

    def _keep(
        self, m: Module, part: Signal, bit: Signal, *, index: Signal, count: Signal, sample: Signal, check: Signal
    ) -> None:
        with m.Switch(part):
            with m.Case(_Part.HEADER):
                m.d.sync += count.eq(Cat(count[1:], bit))  # operation and sequence number pass through it
                with m.If(index == 0):
                    m.d.sync += self.operation.eq(Cat(self.operation[1:], bit))
            with m.Case(_Part.SAMPLES):
                m.d.sync += sample.eq(Cat(sample[1:], bit))
            with m.Case(_Part.CHECK):
                m.d.sync += self.intact.eq(self.intact & (bit == check))

    def _watch(self, m: Module, expired: Signal) -> None:
        wait = Signal(range(self._gap_limit_cycles + 1))
        m.d.comb += expired.eq(wait[-1])
        m.d.sync += wait.eq(wait + 1)
        with m.If(~self.active | self.waiting | expired):
            m.d.sync += wait.eq(0)

    def _advance(self, m: Module, part: Signal, count: Signal) -> None:
        empty, infer = Signal(), Signal()
        m.d.sync += [empty.eq(count == 0), infer.eq(self.operation == Operation.INFER)]
        with m.State("PART"):
            m.next = "CHOOSE"
            with m.If(part == _Part.SAMPLES):
                m.next = "OFFER"
            with m.If(part == _Part.CHECK):
                m.next = "DONE"
        with m.State("CHOOSE"):
            m.next = "SETTLE"
        with m.State("SETTLE"):
            m.d.sync += part.eq(Mux(infer & ~empty, _Part.SAMPLES, _Part.CHECK))
            m.next = "FETCH"
        with m.State("OFFER"):
            m.d.comb += self.o.valid.eq(~self.hold)
            with m.If(self.o.ready & ~self.hold):
                m.d.sync += count.eq(count - 1)
                m.next = "CHOOSE"
        with m.State("DONE"):
            m.d.comb += self.finished.eq(1)
            with m.If(self.release):
                m.d.sync += self.active.eq(0)
                m.next = "HUNT"
