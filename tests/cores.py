"""Small cores with known functions, and firmware around them, for tests of the link and of devices."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from amaranth.hdl import Fragment, Module, Mux, Signal
from numpy.typing import NDArray

from gatesmith.contract import Contract, Port
from gatesmith.firmware import Design, Firmware, Link, Report
from gatesmith.fixed import FixedPoint
from gatesmith.gateware.core import Core
from gatesmith.gateware.top import compose
from gatesmith.tensor import Datatype, TensorSpec
from gatesmith.toolchain import elaborate

__all__ = ["BUILD_ID", "LINK", "Folded", "Pipeline", "Wire", "contract", "design", "firmware", "successor", "used"]

BUILD_ID = "00112233445566778899aabbccddeeff"
LINK = Link(divisor=4, clock_hz=12_000_000)


class Wire(Core):
    """No registers: the result is the sample plus one."""

    def __init__(self, input_bits: int, output_bits: int) -> None:
        super().__init__(input_bits=input_bits, output_bits=output_bits, latency_cycles=0, initiation_interval_cycles=1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += [
            self.o.payload.eq(self.i.payload + 1),
            self.o.valid.eq(self.i.valid),
            self.i.ready.eq(self.o.ready),
        ]
        return m


class Pipeline(Core):
    """Any number of stages behind one clock enable; adds one in the first."""

    def __init__(self, input_bits: int, output_bits: int, *, stages: int) -> None:
        super().__init__(
            input_bits=input_bits, output_bits=output_bits, latency_cycles=stages, initiation_interval_cycles=1
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        value, valid = self.i.payload + 1, self.i.valid
        for _ in range(self.latency_cycles):
            next_value, next_valid = Signal(len(self.o.payload), reset_less=True), Signal()
            with m.If(self.i.ready):
                m.d.sync += [next_value.eq(value), next_valid.eq(valid)]
            value, valid = next_value, next_valid
        m.d.comb += [
            self.i.ready.eq(~self.o.valid | self.o.ready),
            self.o.payload.eq(value),
            self.o.valid.eq(valid),
        ]
        return m


class Folded(Core):
    """Takes its time over one sample, then takes the next; adds one."""

    def __init__(self, input_bits: int, output_bits: int, *, latency_cycles: int) -> None:
        super().__init__(
            input_bits=input_bits,
            output_bits=output_bits,
            latency_cycles=latency_cycles,
            initiation_interval_cycles=latency_cycles + 1,
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        left, busy = Signal(range(self.latency_cycles + 1)), Signal()
        m.d.comb += [self.i.ready.eq(~busy), self.o.valid.eq(busy & (left == 0))]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [self.o.payload.eq(self.i.payload + 1), busy.eq(1), left.eq(self.latency_cycles - 1)]
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += busy.eq(0)
        m.d.sync += left.eq(Mux(self.i.valid & self.i.ready, self.latency_cycles - 1, Mux(left == 0, 0, left - 1)))
        return m


def contract(core: Core) -> Contract:
    """One unsigned bit for each bit of the core."""
    bit = FixedPoint(False, 1, 0)
    inputs = Port(spec=TensorSpec(name="x", datatype=Datatype.UINT8, shape=(-1, len(core.i.payload))), format=bit)
    outputs = Port(spec=TensorSpec(name="y", datatype=Datatype.UINT8, shape=(-1, len(core.o.payload))), format=bit)
    return Contract(inputs=(inputs,), outputs=(outputs,))


def design(core: Core, *, link: Link = LINK, build_id: str = BUILD_ID) -> Design:
    """The core behind the link."""
    return compose(core, contract=contract(core), link=link, build_id=build_id)


def successor(payload: NDArray[np.uint8], core: Core) -> NDArray[np.uint8]:
    """What every core here computes, on payloads, in Python's integers."""
    size = -(-len(core.o.payload) // 8)
    mask = (1 << len(core.o.payload)) - 1
    keep = (1 << len(core.i.payload)) - 1
    rows = [((int.from_bytes(row.tobytes(), "little") & keep) + 1 & mask).to_bytes(size, "little") for row in payload]
    return np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(payload), size)


def firmware(core: Core, *, link: Link = LINK, build_id: str = BUILD_ID, **changes: Any) -> Firmware:
    """The core as firmware, without a bitstream."""
    made = design(core, link=link, build_id=build_id)
    fields: dict[str, Any] = {
        "name": "successor",
        "board": "icebreaker",
        "part": "iCE40UP5K-SG48",
        "family": "ice40",
        "bitstream": b"",
        "hdl": {"top.v": _verilog(made.sources["top.il"], link)},
        "contract": contract(core),
        "link": link,
        "latency_cycles": core.latency_cycles,
        "initiation_interval_cycles": core.initiation_interval_cycles,
        "build_id": build_id,
        "engine": "unrolled",
        "model_digest": "sha256:" + "0" * 64,
        "report": Report(utilization={}, fmax_hz=float(link.clock_hz)),
        "toolchain": {},
        "quantization": {},
    }
    return Firmware(**(fields | changes))


@cache
def _verilog(text: str, link: Link) -> bytes:
    return elaborate(
        Design(
            top="top",
            sources={"top.il": text},
            build_id=BUILD_ID,
            link=link,
            latency_cycles=0,
            initiation_interval_cycles=1,
        )
    )


def used(core: Core) -> Core:
    """The core, elaborated once: Amaranth warns of one that never is."""
    Fragment.get(core, None)
    return core
