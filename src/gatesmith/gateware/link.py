"""The device's side of the link: frames from the line to the core and back, as ``docs/protocol.md`` states them.

Nothing is stored but the bytes that wait in the receive buffer. The header of a request goes back as the header of
its reply while it is read, a sample is shifted bit by bit into the core's input, a result bit by bit onto the line,
and the status follows the results, when the request's check is known. One reply is finished before the next begins;
within a request, samples enter the core while earlier results are still being sent.
"""

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gatesmith.firmware import Link
from gatesmith.gateware.buffer import ReceiveBuffer
from gatesmith.gateware.core import Core
from gatesmith.gateware.frame import BUFFER_BYTES, Operation, gap_limit_cycles, identity_record
from gatesmith.gateware.reply import Reply
from gatesmith.gateware.request import Request
from gatesmith.gateware.tally import Tally
from gatesmith.gateware.uart import Receiver, Transmitter

__all__ = ["UartLink"]


class UartLink(wiring.Component):
    """A core behind a UART.

    Attributes
    ----------
    rx : input, 1 bit
        The line from the host, synchronised to the clock.
    tx : output, 1 bit
    """

    def __init__(self, core: Core, *, link: Link, build_id: str) -> None:
        self._core = core
        self._link = link
        self._build_id = build_id
        super().__init__({"rx": In(1), "tx": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        input_bits, output_bits = len(self._core.i.payload), len(self._core.o.payload)
        limit = gap_limit_cycles(self._link.clock_hz)
        identity = identity_record(
            input_bits=input_bits, output_bits=output_bits, link=self._link, build_id=self._build_id
        )
        m.submodules.core = core = self._core
        m.submodules.receiver = receiver = Receiver(divisor=self._link.divisor)
        m.submodules.buffer = buffer = ReceiveBuffer(depth_bytes=BUFFER_BYTES)
        m.submodules.request = request = Request(input_bits=input_bits, gap_limit_cycles=limit)
        m.submodules.reply = reply = Reply(output_bits=output_bits)
        m.submodules.transmitter = transmitter = Transmitter(divisor=self._link.divisor)
        m.submodules.tally = tally = Tally(latency_cycles=core.latency_cycles, identity=identity)
        wiring.connect(m, request.o, core.i)
        wiring.connect(m, core.o, reply.i)
        m.d.comb += [
            receiver.line.eq(self.rx),
            buffer.data.eq(receiver.data),
            buffer.strobe.eq(receiver.strobe),
            request.head.eq(buffer.head),
            request.waiting.eq(buffer.waiting),
            buffer.pop.eq(request.pop),
            request.hold.eq(tally.full),
            transmitter.start.eq(reply.start),
            transmitter.bit.eq(reply.bit),
            reply.take.eq(transmitter.take),
            reply.last.eq(transmitter.last),
            self.tx.eq(transmitter.line),
        ]
        self._join(m, request, reply)
        self._count(m, request, reply=reply, tally=tally)
        return m

    @staticmethod
    def _join(m: Module, request: Request, reply: Reply) -> None:
        m.d.comb += [
            reply.active.eq(request.active),
            reply.echo.eq(request.echo),
            reply.echo_bit.eq(request.bit),
            request.echoed.eq(reply.echoed),
            reply.operation.eq(request.operation),
            reply.finished.eq(request.finished),
            reply.intact.eq(request.intact),
            reply.cut.eq(request.cut),
            request.release.eq(reply.release),
        ]

    def _count(self, m: Module, request: Request, *, reply: Reply, tally: Tally) -> None:
        reset = request.operation == Operation.RESET
        m.d.comb += [
            tally.accepted.eq(self._core.i.valid & self._core.i.ready),
            tally.offered.eq(self._core.o.valid),
            tally.sent.eq(reply.sent),
            tally.failed.eq(reply.release & (request.cut | ~request.intact)),
            tally.clear.eq(reply.release & request.intact & ~request.cut & reset),
            tally.address.eq(reply.address),
            tally.identify.eq(request.operation == Operation.IDENTIFY),
            reply.busy.eq(tally.busy),
            reply.data.eq(tally.data),
            reply.ready.eq(tally.ready),
        ]
