"""What Verilog may say before an emulated board is made of it: logic, and nothing that reaches outside.

An emulated board is a program on this machine, and a simulator offers its source far more than a chip does: ``$system``
and ``$c`` run anything, ``$fopen`` writes files, an imported C function is called. Firmware comes from anyone, so what
is not known to be logic is refused. The text is read in tokens as a compiler reads it, and nothing that would change
its reading (macros, conditional parts) is let in. A ``$`` within a plain name is refused too, because after a number it
begins a new word.
"""

# Ref: IEEE 1800-2017 sections 5.3 to 5.9 (white space, comments, escaped identifiers, strings, system names) and 22
# Ref: Verilator 5 manual, "Language Extensions": $c, `systemc_header and others put C++ into the model; 35.4: "DPI-C"

from __future__ import annotations

import re

from gatesmith.errors import BitstreamUnsafe

__all__ = ["check_verilog"]

_TOKEN = re.compile(
    rb"""
    (?P<comment> //[^\r\n]* | /\*.*?\*/ )
  | (?P<strange> \"\"\" | [\x00-\x08\x0b\x0c\x0e-\x1f] | \r(?!\n) | /\* | \\[ \t\r\n] )
  | (?P<string>  "(?:\\[^\r]|[^"\\\r\n])*" )
  | (?P<quote>   " )
  | (?P<escaped> \\[^\x00-\x20]+ )
  | (?P<system>  \$[A-Za-z0-9_$]* )
  | (?P<directive> `[A-Za-z0-9_$]* )
    """,
    re.DOTALL | re.VERBOSE,
)
_HARMLESS_SYSTEM = {b"$signed", b"$unsigned", b"$clog2", b"$bits", b"$high", b"$low", b"$left", b"$right", b"$size"}
_HARMLESS_DIRECTIVES = {b"`timescale", b"`default_nettype", b"`resetall", b"`celldefine", b"`endcelldefine"}
_FOREIGN = {b'"DPI"', b'"DPI-C"'}


def check_verilog(verilog: bytes, name: str = "top.v") -> None:
    """See that Verilog holds logic alone.

    Raises
    ------
    BitstreamUnsafe
        With the first thing that is not known to be harmless, and its line.
    """
    for token in _TOKEN.finditer(verilog):
        kind, text = token.lastgroup, token[0]
        is_fine = {
            "system": text in _HARMLESS_SYSTEM,
            "directive": text in _HARMLESS_DIRECTIVES,
            "string": text not in _FOREIGN,
            "strange": False,
            "quote": False,
        }.get(kind or "", True)
        if not is_fine:
            line = verilog.count(b"\n", 0, token.start()) + 1
            shown = text.decode("latin-1")[:40]
            raise BitstreamUnsafe(
                f"{name} holds {shown!r} in line {line}, which an emulated board does not run: it takes logic alone, "
                "without macros, conditional parts, files and C; flatten it with yosys' write_verilog",
                line=line,
                found=shown,
            )
