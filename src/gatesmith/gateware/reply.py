"""The reply's side of the link: mark, the request's header again, results or a record, status and check.

The results' register is the register slice that ends the core's ready chain: it is filled whole and emptied bit by bit
onto the line, and there is time to fill it during a stop bit.
"""

from amaranth.hdl import Elaboratable, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from gatesmith.gateware.crc import SerialCrc
from gatesmith.gateware.frame import COUNTERS_BYTES, HEADER_BYTES, IDENTITY_BYTES, REPLY_MARK, Operation, Status

__all__ = ["Reply"]


class Reply(wiring.Component):
    """One reply after the other.

    Attributes
    ----------
    start, bit, take, last
        The transmitter.
    active, echo_bit, echo, echoed, operation, finished, intact, cut, release
        The request.
    busy : input, 1 bit
        Samples are in the core, or their results are not yet sent.
    sent : output, 1 bit
        A result has been sent.
    address : output; data : input, 8 bits; ready : input, 1 bit
        A byte of the record that ``operation`` asks for, in a cycle with ``ready``.
    i : stream of unsigned(output_bits), input
    """

    def __init__(self, *, output_bits: int) -> None:
        self._output_bits = output_bits
        super().__init__(
            {
                "start": Out(1),
                "bit": Out(1),
                "take": In(1),
                "last": In(1),
                "active": In(1),
                "echo_bit": In(1),
                "echo": In(1),
                "echoed": Out(1),
                "operation": In(8),
                "finished": In(1),
                "intact": In(1),
                "cut": In(1),
                "release": Out(1),
                "busy": In(1),
                "sent": Out(1),
                "address": Out(range(max(IDENTITY_BYTES, COUNTERS_BYTES))),
                "data": In(8),
                "ready": In(1),
                "i": In(stream.Signature(unsigned(output_bits))),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.crc = crc = SerialCrc()
        result, full = Signal(self._output_bits), Signal()
        output_bytes = -(-self._output_bits // 8)
        index = Signal(range(max(output_bytes, IDENTITY_BYTES, HEADER_BYTES)))
        byte = Signal(8)
        m.d.comb += [self.i.ready.eq(~full), self.address.eq(index), crc.bit.eq(self.bit)]
        with m.If(~full):
            m.d.sync += [result.eq(self.i.payload), full.eq(self.i.valid)]
        with m.If(self.last):
            m.d.sync += index.eq(index + 1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += crc.clear.eq(1)
                m.d.sync += [byte.eq(REPLY_MARK), index.eq(0)]
                with m.If(self.active):
                    m.next = "MARK"
            self._send(m, byte, name="MARK", then="ECHO", index=index)
            with m.State("ECHO"):
                m.d.comb += [
                    self.start.eq(self.echo),
                    self.bit.eq(self.echo_bit),
                    self.echoed.eq(self.take),
                    crc.shift.eq(self.take),
                ]
                with m.If(self.last & (index == HEADER_BYTES - 1)):
                    m.d.sync += index.eq(0)
                    m.next = "RESULTS"
                with m.If(self.finished):
                    m.next = "END"
            self._results(m, result, full=full, index=index, final=output_bytes - 1, shift=crc.shift)
            self._record(m, byte, index=index, shift=crc.shift)
            self._trailer(m, crc, index=index)
        return m

    def _send(
        self, m: Module, byte: Signal, *, name: str, then: str, index: Signal, shift: Signal | None = None
    ) -> None:
        with m.State(name):
            m.d.comb += [self.start.eq(1), self.bit.eq(byte[0])]
            if shift is not None:
                m.d.comb += shift.eq(self.take)
            with m.If(self.take):
                m.d.sync += byte.eq(byte >> 1)
            with m.If(self.last):
                m.d.sync += index.eq(0)
                m.next = then

    def _results(self, m: Module, result: Signal, *, full: Signal, index: Signal, final: int, shift: Signal) -> None:
        ended, record = Signal(), Signal()
        m.d.sync += [
            self.sent.eq(0),
            ended.eq(self.finished & ~self.busy),
            record.eq((self.operation == Operation.IDENTIFY) | (self.operation == Operation.COUNTERS)),
        ]
        with m.State("RESULTS"):
            m.d.comb += [self.start.eq(full), self.bit.eq(result[0]), shift.eq(self.take)]
            with m.If(self.take):
                m.d.sync += result.eq(result >> 1)
            m.d.sync += self.sent.eq(self.last & (index == final))
            with m.If(self.last & (index == final)):
                m.d.sync += [index.eq(0), full.eq(0)]
            with m.If(ended):
                m.next = "STATUS"
                with m.If(record):
                    m.next = "LOOK"
                with m.If(self.cut):
                    m.next = "END"

    def _record(self, m: Module, byte: Signal, *, index: Signal, shift: Signal) -> None:
        final = Mux(self.operation == Operation.IDENTIFY, IDENTITY_BYTES - 1, COUNTERS_BYTES - 1)
        end = Signal()
        m.d.sync += end.eq(index == final)
        with m.State("LOOK"):
            m.next = "LOAD"
        with m.State("LOAD"):
            m.next = "COPY"
        with m.State("COPY"):
            m.d.sync += byte.eq(self.data)
            with m.If(self.ready):
                m.next = "RECORD"
        with m.State("RECORD"):
            m.d.comb += [self.start.eq(1), self.bit.eq(byte[0]), shift.eq(self.take)]
            with m.If(self.take):
                m.d.sync += byte.eq(byte >> 1)
            with m.If(self.last):
                m.next = "LOOK"
                with m.If(end):
                    m.next = "STATUS"
        known = (self.operation != 0) & (self.operation <= Operation.RESET)
        with m.State("STATUS"):
            m.d.sync += byte.eq(Mux(self.intact, Mux(known, Status.OK, Status.UNKNOWN_OPERATION), Status.CORRUPT))
            m.next = "STATE"
        self._send(m, byte, name="STATE", then="TRAILER", index=index, shift=shift)

    def _trailer(self, m: Module, crc: SerialCrc, *, index: Signal) -> None:
        with m.State("TRAILER"):
            m.d.comb += [self.start.eq(1), self.bit.eq(crc.check), crc.unload.eq(1), crc.shift.eq(self.take)]
            with m.If(self.last & (index == HEADER_BYTES - 1)):
                m.next = "END"
        with m.State("END"):
            m.d.comb += self.release.eq(1)
            m.next = "IDLE"
