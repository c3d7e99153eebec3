"""The receive buffer: bytes wait in block RAM while an earlier sample is computed or its result is sent.

It does not know when it is full. The host never has more bytes on the way than the buffer holds (``docs/protocol.md``,
"Window"); one that does loses them, which its frame check tells.

The memory is never read where it is being written, so a read that collides with a write may give anything:
``top`` says so to the synthesiser, which then adds no logic for that case.
"""

from amaranth.hdl import Elaboratable, Module, Signal, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ReceiveBuffer"]


class ReceiveBuffer(wiring.Component):
    """Bytes in the order they came.

    Attributes
    ----------
    data, strobe : input, 8 bits and 1 bit
        A byte to keep.
    head : output, 8 bits
        The oldest byte, while ``waiting``.
    waiting : output, 1 bit
        Low for two cycles after ``pop``.
    pop : input, 1 bit
        Forget the oldest byte; only while ``waiting``.
    """

    def __init__(self, *, depth_bytes: int) -> None:
        self._depth_bytes = depth_bytes
        super().__init__({"data": In(8), "strobe": In(1), "head": Out(8), "waiting": Out(1), "pop": In(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.memory = store = memory.Memory(shape=unsigned(8), depth=self._depth_bytes, init=[])
        write, read = store.write_port(), store.read_port()
        newest, oldest = Signal(range(self._depth_bytes)), Signal(range(self._depth_bytes))
        m.d.comb += [
            write.addr.eq(newest),
            write.data.eq(self.data),
            write.en.eq(self.strobe),
            read.addr.eq(oldest),
        ]
        fresh = Signal()
        m.d.sync += [
            newest.eq(newest + self.strobe),
            oldest.eq(oldest + self.pop),
            fresh.eq((newest != oldest) & ~self.pop),
            self.waiting.eq(fresh & ~self.pop),
            self.head.eq(read.data),  # block RAM is slow to answer: a register before any logic
        ]
        return m
