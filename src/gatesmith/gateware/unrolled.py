"""The unrolled engine: every weight is its own wiring, a new sample enters in every cycle.

The adder graph is cut into combinational stages after ``cutoff`` adders in a row; da4ml writes each stage as Verilog,
and the registers, the valid bits and the back-pressure between stages are ours. A smaller cutoff means more stages, a
higher clock and more flip-flops.
"""
# Ref: da4ml 0.6: a generated top has no enable, but its stages are combinational (model_inp -> model_out)
# Amaranth reads annotations when a component's class is made, so they must not be postponed here.

from decimal import localcontext
from pathlib import Path
from typing import Any

import da4ml
from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value
from da4ml.codegen.rtl.verilog.comb import comb_logic_gen, table_mem_gen
from da4ml.trace import to_pipeline
from da4ml.types import minimal_kif

from gatesmith.errors import UnsupportedOperation
from gatesmith.fixed import FixedPoint
from gatesmith.gateware.core import Core
from gatesmith.gateware.trace import DECIMAL_DIGITS, AdderGraph

__all__ = ["UnrolledCore", "cut", "unroll"]

# Ref: yosys 0.70 memory_libmap: "distributed" asks for LUT RAM, which has no start value where a register follows
_IN_LUT_RAM = '(BW_IN <= 999) ? "distributed" : "block"'

PRIMITIVES = Path(da4ml.__file__).parent / "codegen" / "rtl" / "verilog" / "source"


def unroll(adders: AdderGraph, *, cutoff: int) -> "UnrolledCore":
    """Cut an adder graph into a pipelined core.

    Parameters
    ----------
    cutoff : int
        Adders in a row between two registers, 1 or more.
    """
    return UnrolledCore(adders, cut(adders, cutoff=cutoff))


def cut(adders: AdderGraph, *, cutoff: int) -> tuple[Any, ...]:
    """The stages alone: da4ml's combinational logic, one after the other.

    Raises
    ------
    UnsupportedOperation
        When there is nothing to compute.
    """
    if not any(_width(interval) for interval in adders.logic.out_qint):
        raise UnsupportedOperation("every output of the model is constantly zero; there is nothing to compute")
    with localcontext(prec=DECIMAL_DIGITS):
        return tuple(to_pipeline(adders.logic, cutoff, retiming=True, verbose=False).solutions)


class UnrolledCore(Core):
    """A pipeline of combinational stages; all registers move together when the output can move."""

    def __init__(self, adders: AdderGraph, stages: tuple[Any, ...]) -> None:
        self.adders = adders
        self.stages = stages
        super().__init__(
            input_bits=sum(format.width for format in adders.inputs),
            output_bits=sum(format.width for format in adders.outputs),
            latency_cycles=len(stages),
            initiation_interval_cycles=1,
            sources=_sources(stages),
        )

    def elaborate(self, platform: object) -> Module:
        """Registers behind every stage, enabled together."""
        del platform
        m = Module()
        enable = Signal()
        valid = [Signal(name=f"valid{i}") for i in range(len(self.stages))]
        m.d.comb += [enable.eq(~valid[-1] | self.o.ready), self.i.ready.eq(enable)]
        data: Value = self._inputs()
        for i, stage in enumerate(self.stages):
            out = Signal(sum(map(_width, stage.out_qint)), name=f"stage{i}_out")
            m.submodules[f"stage{i}"] = Instance(f"stage{i}", i_model_inp=data, o_model_out=out)
            register = Signal(len(out), name=f"stage{i}_register", reset_less=True)
            with m.If(enable):
                m.d.sync += [register.eq(out), valid[i].eq(valid[i - 1] if i else self.i.valid)]
            data = register
        m.d.comb += [self.o.valid.eq(valid[-1]), self.o.payload.eq(self._outputs(data))]
        return m

    def _inputs(self) -> Value:
        """The sample's bits as the first stage wants them: an unused bit is not one of its ports."""
        parts, start = [], 0
        for format, interval in zip(self.adders.inputs, self.stages[0].inp_qint, strict=True):
            parts.append(self.i.payload[start : start + min(format.width, _width(interval))])
            start += format.width
        return Cat(*parts)

    def _outputs(self, data: Value) -> Value:
        """The last stage's outputs, each extended from its own interval to its format."""
        parts: list[Value] = []
        start = 0
        for format, interval in zip(self.adders.outputs, self.stages[-1].out_qint, strict=True):
            width = _width(interval)
            parts.append(_extended(data[start : start + width], interval, format))
            start += width
        return Cat(*parts)


def _width(interval: Any) -> int:
    return int(sum(minimal_kif(interval)))


def _extended(bits: Value, interval: Any, format: FixedPoint) -> Value:
    if len(bits) == 0:
        return Const(0, format.width)
    signed, _, fraction_bits = minimal_kif(interval)
    right = format.fraction_bits - int(fraction_bits)
    value = Cat(Const(0, right), bits)
    # da4ml's interval may be wider than the values that it holds, never narrower
    missing = max(format.width - len(value), 0)
    fill = value[-1].replicate(missing) if signed else Const(0, missing)
    return Cat(value, fill)[: format.width]


def _sources(stages: tuple[Any, ...]) -> dict[str, str]:
    sources: dict[str, str] = {}
    for i, stage in enumerate(stages):
        sources[f"stage{i}.v"] = comb_logic_gen(stage, f"stage{i}", print_latency=False, timescale=None)
        sources |= table_mem_gen(stage)
    text = "".join(sources.values())
    for path in sorted(PRIMITIVES.glob("*.v")):
        if f"{path.stem} #(" in text:
            sources[path.name] = path.read_text(encoding="utf-8").replace(_IN_LUT_RAM, '"logic"')
    return sources
