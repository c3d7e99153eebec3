"""Two cores in a row: what the first gives out the second takes in."""
# Amaranth reads annotations when a component's class is made, so they must not be postponed here.

from amaranth.hdl import Module
from amaranth.lib import wiring

from gatesmith.gateware.core import Core

__all__ = ["ChainedCore"]


class ChainedCore(Core):
    """A core of two.

    Parameters
    ----------
    first, second : Core
        The second takes as many bits as the first gives.
    """

    def __init__(self, first: Core, second: Core) -> None:
        self.first, self.second = first, second
        super().__init__(
            input_bits=len(first.i.payload),
            output_bits=len(second.o.payload),
            latency_cycles=first.latency_cycles + second.latency_cycles,
            initiation_interval_cycles=max(first.initiation_interval_cycles, second.initiation_interval_cycles),
            sources={**first.sources, **second.sources},
        )

    def elaborate(self, platform: object) -> Module:
        """Streams joined; each core waits for the next by itself."""
        del platform
        m = Module()
        m.submodules.first, m.submodules.second = self.first, self.second
        wiring.connect(m, wiring.flipped(self.i), self.first.i)
        wiring.connect(m, self.first.o, self.second.i)
        wiring.connect(m, self.second.o, wiring.flipped(self.o))
        return m
