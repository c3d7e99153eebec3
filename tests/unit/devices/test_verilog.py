"""Verilog from anyone: an emulated board is a program, so only logic may become one."""

from __future__ import annotations

import pytest

from gatesmith.devices.verilog import check_verilog
from gatesmith.errors import BitstreamUnsafe

REFUSED = {
    "a command": b'initial $system("x");',
    "C": b'initial $c("x();");',
    "numbered C": b'wire a = $c32("x()");',
    "a file to write": b'integer f; initial f = $fopen("x", "w");',
    "a file to read": b'initial $readmemh("/dev/zero", memory);',
    "the end of the process": b"initial $finish;",
    "a C function": b'import "DPI-C" function int system(string s);',
    "C in a header": b'`systemc_header\n#include "x"\n`verilog\n',
    "another file": b'`include "/etc/passwd"\n',
    "a macro": b"`define A $sys\n",
    "a macro's use": b"`A",
    "a conditional part": b'`ifdef X\n"\n`endif\n',
    "no end of a string": b'localparam a = "x\n;',
    "no end of a comment": b"/* x",
    "a string of three quotes": b'localparam a = """ " """; initial $system("x"); //"',
    "a string that ends in a backslash": b'localparam a="\\\\";initial $system("x");',
    "right after a number": b'initial #4$system("x");',
    "right after a number with a base": b'initial #4\'hf$system("x");',
    "after an escaped name": b'wire \\a" ; initial $system("x"); //"\n',
    "after a byte that only some call white": b'wire \\a\xa0" ; initial $system("x"); //"\n',
    "after a comment in a comment": b"/* /* */ initial $stop; // */",
    "after a line's end of another kind": b"// x\rinitial $stop;\n",
    "a page's end": b"wire \\a\x0c$stop",
}
TAKEN = {
    "logic": b"module top(input clk); reg signed [3:0] a; wire c = $signed(a) < 4'sd3; endmodule",
    "names of yosys": b"wire \\$auto$system$1 ;\nwire [2:0] \\top.uart.$c ;\n",
    "words in a comment": b'/* $system("x") */ // `include "x\n',
    "words in a string": b'localparam a = "$system(\\"x\\")";',
    "directives that only say how": b"`timescale 1ns/1ps\r\n`default_nettype none\r\n",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_reaches_outside_is_refused(case: str) -> None:
    with pytest.raises(BitstreamUnsafe, match=r"top\.v holds '.*' in line [12]") as refused:
        check_verilog(b"module top;\n" + REFUSED[case] + b"\nendmodule\n")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("case", TAKEN)
def test_logic_is_taken(case: str) -> None:
    check_verilog(TAKEN[case])
