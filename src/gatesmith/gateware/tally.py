"""What the gateware counts: samples in the core now, and since the last reset latency, samples and frame errors.

Latency is taken of a sample that enters an empty core, so it is the core's own and not the line's. The other two
change once in many cycles, so they are rings that turn a bit a cycle past a one-bit adder: no carry chain, and a byte
of them is read at the place where it has just passed.
"""

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from gatesmith.gateware.frame import COUNTERS_BYTES, IDENTITY_BYTES

__all__ = ["Ring", "Tally"]

_LATENCY_BITS, _ERROR_BITS, _TURN_CYCLES = 24, 16, 32


class Ring(wiring.Component):
    """A counter that turns.

    Parameters
    ----------
    width : int
        Bits; divides 32.

    Attributes
    ----------
    first : input, 1 bit
        High in one cycle of 32.
    add : input, 1 bit
        Count one; not more often than every 32 cycles.
    clear : input, 1 bit
        Set to zero within 64 cycles.
    octet : output, 8 bits
        The bits that passed in the last eight cycles, low one first.
    """

    def __init__(self, *, width: int) -> None:
        self._width = width
        super().__init__({"first": In(1), "add": In(1), "clear": In(1), "octet": Out(8)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        ring, carry, due = Signal(self._width), Signal(), Signal()
        clearing, wiping = Signal(), Signal()
        carry_in, wipe = Signal(), Signal()
        m.d.comb += [
            carry_in.eq(Mux(self.first, due, carry)),
            wipe.eq(Mux(self.first, clearing, wiping)),
            self.octet.eq(ring[-8:]),
        ]
        m.d.sync += [
            ring.eq(Cat(ring[1:], (ring[0] ^ carry_in) & ~wipe)),
            carry.eq(ring[0] & carry_in),
            wiping.eq(wipe),
            due.eq((due & ~self.first) | self.add),
            clearing.eq((clearing & ~self.first) | self.clear),
        ]
        return m


class Tally(wiring.Component):
    """Counters and the records that hold them.

    Parameters
    ----------
    latency_cycles : int
        The core's; the most samples that may be in it follow from it.
    identity : bytes
        The identify record.

    Attributes
    ----------
    accepted, offered, sent, failed : input, 1 bit
        A sample enters the core; the core offers a result; a result has left on the line; a frame was bad.
    clear : input, 1 bit
    busy, full : output, 1 bit
        Some samples, as many as can be counted, are between ``accepted`` and ``sent``.
    address : input; identify : input, 1 bit; data : output, 8 bits; ready : output, 1 bit
        A byte of the identify record or of the counters: in a cycle with ``ready``, two or more after ``address``.
    """

    def __init__(self, *, latency_cycles: int, identity: bytes) -> None:
        self._in_flight_bits = (2 * latency_cycles + 4).bit_length()
        self._identity = identity
        super().__init__(
            {
                "accepted": In(1),
                "offered": In(1),
                "sent": In(1),
                "failed": In(1),
                "clear": In(1),
                "busy": Out(1),
                "full": Out(1),
                "address": In(range(max(IDENTITY_BYTES, COUNTERS_BYTES))),
                "identify": In(1),
                "data": Out(8),
                "ready": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        in_flight, timing, latency = Signal(self._in_flight_bits), Signal(), Signal(_LATENCY_BITS)
        m.d.comb += [self.busy.eq(in_flight.any()), self.full.eq(in_flight.all())]
        with m.If(self.accepted & ~self.sent):
            m.d.sync += in_flight.eq(in_flight + 1)
        with m.If(self.sent & ~self.accepted):
            m.d.sync += in_flight.eq(in_flight - 1)
        with m.If(timing):
            m.d.sync += [latency.eq(latency + 1), timing.eq(~self.offered)]
        with m.If((self.accepted & ~self.busy) | self.clear):
            m.d.sync += [latency.eq(0), timing.eq(self.accepted & ~self.offered)]
        self._records(m, latency)
        return m

    def _records(self, m: Module, latency: Signal) -> None:
        m.submodules.samples = samples = Ring(width=_TURN_CYCLES)
        m.submodules.errors = errors = Ring(width=_ERROR_BITS)
        m.submodules.identity = store = memory.Memory(shape=unsigned(8), depth=64, init=list(self._identity))
        read, counter, turn = store.read_port(), Signal(8), Signal(range(_TURN_CYCLES))
        row, column = self.address[2:4], self.address[:2]
        m.d.comb += read.addr.eq(self.address)
        for ring, event in ((samples, self.sent), (errors, self.failed)):
            m.d.comb += [ring.first.eq(turn == 0), ring.add.eq(event), ring.clear.eq(self.clear)]
        with m.Switch(row):
            with m.Case(0):
                m.d.comb += counter.eq(Cat(latency, Const(0, 32 - _LATENCY_BITS)).word_select(column, 8))
            with m.Case(1):
                m.d.comb += counter.eq(samples.octet)
            with m.Default():
                m.d.comb += counter.eq(Mux(column[1], 0, errors.octet))
        m.d.sync += [
            turn.eq(turn + 1),
            self.data.eq(Mux(self.identify, read.data, counter)),
            self.ready.eq(turn == Cat(Const(0, 3), (column + 1)[:2])),
        ]
