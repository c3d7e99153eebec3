"""CRC-32 of the frames, one bit a cycle: 32 flip-flops and 14 gates, where a byte-wide one needs 116 LUTs or more.

A serial line takes at least 40 cycles for a byte, so there is time. Low bit first is the order of the line and of
this CRC's reflected form.
"""
# Ref: CRC-32/ISO-HDLC (Catalogue of parametrised CRC algorithms): poly 0x04C11DB7, reflected 0xEDB88320, init and
#      final XOR 0xFFFFFFFF; the same as zlib.crc32

from amaranth.hdl import Const, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SerialCrc"]

_REFLECTED = 0xEDB88320


class SerialCrc(wiring.Component):
    """A CRC-32 register.

    Attributes
    ----------
    clear : input, 1 bit
        Begin a new check.
    shift : input, 1 bit
        Take ``bit`` in, or, with ``unload``, move on to the next bit of the finished check.
    unload : input, 1 bit
        The check is finished; ``check`` is its bits in the order of the wire.
    bit : input, 1 bit
    check : output, 1 bit
    """

    def __init__(self) -> None:
        super().__init__({"clear": In(1), "shift": In(1), "unload": In(1), "bit": In(1), "check": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        state = Signal(32, init=0xFFFFFFFF)
        feedback = Signal()
        m.d.comb += [self.check.eq(~state[0]), feedback.eq((state[0] ^ self.bit) & ~self.unload)]
        with m.If(self.clear):
            m.d.sync += state.eq(0xFFFFFFFF)
        with m.Elif(self.shift):
            m.d.sync += state.eq((state >> 1) ^ Mux(feedback, Const(_REFLECTED, 32), 0))
        return m
