"""The seam between an engine and the rest of the gateware: one sample in, one sample out, back-pressure both ways.

A sample is one wide word: the ports' bits in the order of :mod:`gatesmith.contract`, first bit lowest. Both sides are
Amaranth streams, so a transfer happens in every cycle in which ``valid`` and ``ready`` are both high. Samples leave in
the order they came. An engine subclasses :class:`Core`; ``top`` joins it to the link.
"""
# Amaranth reads annotations when a component's class is made, so they must not be postponed here.

from collections.abc import Mapping

from amaranth.hdl import unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Core"]


class Core(wiring.Component):
    """The part of the gateware that computes.

    Parameters
    ----------
    input_bits, output_bits : int
        Bits of one sample, without the padding of the wire.
    latency_cycles : int
        Cycles from the one in which a sample is accepted to the first in which its result is offered, when nothing
        else is in the core and the output is ready; 0 for logic without registers.
    initiation_interval_cycles : int
        Cycles between two samples that are accepted, when input and output never wait.
    sources : mapping of str to str, optional
        File name to text of the Verilog (``.v``) and tables (``.mem``) that the core instances.

    Attributes
    ----------
    i : stream of unsigned(input_bits), input
    o : stream of unsigned(output_bits), output
    """

    def __init__(
        self,
        *,
        input_bits: int,
        output_bits: int,
        latency_cycles: int,
        initiation_interval_cycles: int,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        self.latency_cycles = latency_cycles
        self.initiation_interval_cycles = initiation_interval_cycles
        self.sources: Mapping[str, str] = dict(sources or {})
        super().__init__(
            {
                "i": In(stream.Signature(unsigned(input_bits))),
                "o": Out(stream.Signature(unsigned(output_bits))),
            }
        )
