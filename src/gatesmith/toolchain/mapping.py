"""Cells that a router does not time, written as others that it does.

nextpnr's Gowin model knows the delays of ``LUT4`` and none of ``LUT1`` to ``LUT3``: a path ends where it meets one of
them, and a clock of twice the true one is reported. So each becomes the ``LUT4`` that it is packed into anyway, on its
fastest inputs; its table is the same whatever the other inputs are.

# Ref: nextpnr 0.11.1 (himbaechel, Gowin), --sdf: a LUT4 has an IOPATH from each input (I3 the fastest), LUT1 to LUT3
#      have none
# Ref: yosys 0.70 techlibs/gowin/cells_sim.v: the order of INIT's bits
"""

from __future__ import annotations

__all__ = ["GOWIN_LUTS"]

LUT_INPUTS = 4


def _wider(inputs: int) -> str:
    """A techmap module: the table of a few inputs as one of four."""
    names = [f"I{i}" for i in range(inputs)]
    spare = LUT_INPUTS - inputs
    table = ", ".join(f"{{{1 << spare}{{INIT[{place}]}}}}" for place in reversed(range(1 << inputs)))
    pins = ", ".join(f".I{i + spare}({name})" for i, name in enumerate(names))
    return (
        f'(* techmap_celltype = "LUT{inputs}" *)\n'
        f"module lut{inputs}_as_lut4 (output F, input {', '.join(names)});\n"
        f"  parameter [{(1 << inputs) - 1}:0] INIT = 0;\n"
        f"  LUT4 #(.INIT({{{table}}})) _TECHMAP_REPLACE_ (.F(F), {pins});\n"
        "endmodule\n"
    )


GOWIN_LUTS = "".join(_wider(inputs) for inputs in range(1, LUT_INPUTS))
"""Verilog for yosys' techmap."""
