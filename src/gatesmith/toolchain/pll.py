"""A clock other than the board's oscillator: a PLL around the design, which keeps its three ports.

A PLL runs wild until it locks and the design may have no reset, so its clock is held low until then: by a flip-flop
on the falling edge on iCE40, by the clock gate DCCA on ECP5. An emulated board runs the design itself, without this.

# Ref: Lattice FPGA-TN-02052 (iCE40 sysCLOCK PLL): f_out = f_in (DIVF + 1) / ((DIVR + 1) 2^DIVQ), feedback SIMPLE;
# Ref: f_in and f_in / (DIVR + 1) 10 to 133 MHz, VCO 533 to 1066 MHz, output 16 to 275 MHz.
# Ref: icestorm icepll.cc: DIVF goes to 127 with SIMPLE; FILTER_RANGE steps at 17, 26, 44, 66, 101 MHz.
# Ref: Lattice FPGA-DS-02012 (ECP5): f_in 8 to 400 MHz, VCO 400 to 800 MHz, output up to 400 MHz.
# Ref: prjtrellis ecppll.cpp: f_vco = f_in / CLKI_DIV x CLKFB_DIV x CLKOP_DIV, f_out = f_vco / CLKOP_DIV,
# Ref: dividers to 128, 80 and 128, phase detector from 3.125 MHz, the loop filter's attributes, CPHASE half a period.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from gatesmith.boards import Board, Family
from gatesmith.errors import BuildError
from gatesmith.firmware import Design

__all__ = ["Pll", "board_top", "find_pll"]

_MHZ = 1_000_000
_TOLERANCE = Fraction(1, 1000)  # of the 2 % that the UART bears


@dataclass(frozen=True, kw_only=True, slots=True)
class Pll:
    """Dividers of a PLL; their meaning is the family's.

    Parameters
    ----------
    reference, feedback, output : int
        What divides the input, what multiplies it, and what divides the oscillator of the PLL.
    detector_hz, oscillator_hz, output_hz : Fraction
        Frequencies at the phase detector, inside, and out.
    """

    reference: int
    feedback: int
    output: int
    detector_hz: Fraction
    oscillator_hz: Fraction
    output_hz: Fraction


def find_pll(board: Board, clock_hz: int) -> Pll:
    """The dividers that come nearest to a clock.

    Raises
    ------
    BuildError
        When this family has no PLL here, or the nearest clock is more than 0.1 % off.
    """
    candidates = {Family.ICE40: _ice40_plls, Family.ECP5: _ecp5_plls}.get(board.family)
    if candidates is None:
        raise BuildError(
            f"{board.name} runs at its oscillator's {board.clock_hz} Hz, the design needs {clock_hz} Hz; "
            f"only boards with iCE40 or ECP5 make other clocks",
            board=board.name,
            clock_hz=clock_hz,
            possible_hz=board.clock_hz,
        )
    best = min(
        candidates(board.clock_hz),
        key=lambda pll: (abs(pll.output_hz - clock_hz), abs(pll.oscillator_hz - 600 * _MHZ), pll.reference),
    )
    if abs(best.output_hz - clock_hz) > clock_hz * _TOLERANCE:
        nearest = round(best.output_hz)
        raise BuildError(
            f"{board.name} cannot make {clock_hz} Hz from {board.clock_hz} Hz; the nearest is {nearest} Hz",
            board=board.name,
            clock_hz=clock_hz,
            possible_hz=nearest,
        )
    return best


def board_top(design: Design, board: Board) -> str:
    """Verilog of the module ``board_top`` that drives a design from a PLL; empty when the oscillator does.

    Raises
    ------
    BuildError
        See :func:`find_pll`.
    """
    if design.clock_hz == board.clock_hz:
        return ""
    pll = find_pll(board, design.clock_hz)
    clock = _ice40_clock(pll, board) if board.family is Family.ICE40 else _ecp5_clock(pll, board)
    return (
        "module board_top(input clk, input rx, output tx);\n"
        "  wire raw, locked, run, core_clk;\n"
        f"{clock}"
        f"  {design.top} core(.clk(core_clk), .rx(rx), .tx(tx));\n"
        "endmodule\n"
    )


def _ice40_plls(input_hz: int) -> Iterator[Pll]:
    for reference in range(1, 17):
        detector = Fraction(input_hz, reference)
        if not 10 * _MHZ <= detector <= 133 * _MHZ:
            continue
        for feedback in range(1, 129):
            oscillator = detector * feedback
            if not 533 * _MHZ <= oscillator <= 1066 * _MHZ:
                continue
            for power in range(1, 7):
                output = oscillator / 2**power
                if 16 * _MHZ <= output <= 275 * _MHZ:
                    yield Pll(
                        reference=reference,
                        feedback=feedback,
                        output=power,
                        detector_hz=detector,
                        oscillator_hz=oscillator,
                        output_hz=output,
                    )


def _ecp5_plls(input_hz: int) -> Iterator[Pll]:
    for reference in range(1, 129):
        detector = Fraction(input_hz, reference)
        if detector < Fraction(25, 8) * _MHZ:
            break
        for feedback in range(1, 81):
            output = detector * feedback
            if not 10 * _MHZ <= output <= 400 * _MHZ:
                continue
            divider = min(128, max(1, round(600 * _MHZ / output)))
            if 400 * _MHZ <= output * divider <= 800 * _MHZ:
                yield Pll(
                    reference=reference,
                    feedback=feedback,
                    output=divider,
                    detector_hz=detector,
                    oscillator_hz=output * divider,
                    output_hz=output,
                )


def _ice40_clock(pll: Pll, board: Board) -> str:
    steps = (17, 26, 44, 66, 101)
    filter_range = 1 + sum(pll.detector_hz >= step * _MHZ for step in steps)
    # The UltraPlus' only PLL sits on the clock's pad, which then cannot be an ordinary input.
    kind, port = ("PAD", "PACKAGEPIN") if board.device == "up5k" else ("CORE", "REFERENCECLK")
    return (
        f'  SB_PLL40_{kind} #(.FEEDBACK_PATH("SIMPLE"), .DIVR({pll.reference - 1}), .DIVF({pll.feedback - 1}), '
        f".DIVQ({pll.output}), .FILTER_RANGE({filter_range}))\n"
        f"    pll(.{port}(clk), .PLLOUTCORE(raw), .LOCK(locked), .RESETB(1'b1), .BYPASS(1'b0));\n"
        "  reg [1:0] held = 0;\n"
        "  always @(negedge raw) held <= {held[0], locked};\n"
        "  assign run = held[1];\n"
        "  SB_GB gate(.USER_SIGNAL_TO_GLOBAL_BUFFER(raw & run), .GLOBAL_BUFFER_OUTPUT(core_clk));\n"
    )


def _ecp5_clock(pll: Pll, board: Board) -> str:
    clki, clkop = f"{board.clock_hz / _MHZ:g}", f"{float(pll.output_hz) / _MHZ:g}"
    return (
        f'  (* FREQUENCY_PIN_CLKI="{clki}" *) (* FREQUENCY_PIN_CLKOP="{clkop}" *)\n'
        '  (* ICP_CURRENT="12" *) (* LPF_RESISTOR="8" *) (* MFG_ENABLE_FILTEROPAMP="1" *) (* MFG_GMCREF_SEL="2" *)\n'
        '  EHXPLLL #(.FEEDBK_PATH("CLKOP"), .CLKOP_ENABLE("ENABLED"), .CLKOP_FPHASE(0),\n'
        f"    .CLKI_DIV({pll.reference}), .CLKFB_DIV({pll.feedback}), .CLKOP_DIV({pll.output}), "
        f".CLKOP_CPHASE({pll.output // 2}))\n"
        "    pll(.CLKI(clk), .CLKOP(raw), .CLKFB(raw), .LOCK(locked), .RST(1'b0), .STDBY(1'b0), .ENCLKOP(1'b0),\n"
        "    .PHASESEL0(1'b0), .PHASESEL1(1'b0), .PHASEDIR(1'b1), .PHASESTEP(1'b1), .PHASELOADREG(1'b1), "
        ".PLLWAKESYNC(1'b0));\n"
        "  assign run = locked;\n"
        "  DCCA gate(.CLKI(raw), .CE(run), .CLKO(core_clk));\n"
    )
