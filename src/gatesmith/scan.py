"""The scan of firmware for combinational loops: in its bitstream, read back, and in the HDL that came with it.

Only iCE40 bitstreams can be read back to logic. A bitstream of another kind is unscannable, and a policy says what
follows from that; so it does when a tool is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gatesmith.artifact.headers import read_header
from gatesmith.artifact.policy import Finding, Rule
from gatesmith.artifact.scan import Loop, decoded_graph, find_loops, netlist_graph
from gatesmith.errors import BitstreamUnsafe, ManifestInvalid, ToolFailed, ToolNotFound

__all__ = ["Scan", "apply_rule", "scan_bitstream", "scan_hdl", "scan_parts"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """What one scan found; ``reason`` says why it could not look, or what it could not look into."""

    what: str
    scanned: bool
    loops: tuple[Loop, ...] = ()
    reason: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return {
            "what": self.what,
            "scanned": self.scanned,
            "loops": [list(loop) for loop in self.loops],
            "reason": self.reason,
            "seconds": round(self.seconds, 3),
        }


def scan_parts(bitstream: bytes, hdl: Mapping[str, bytes]) -> list[Scan]:
    """Scan a bitstream, and the HDL beside it when there is any."""
    scans = [scan_bitstream(bitstream)]
    return [*scans, scan_hdl(hdl)] if any(name.endswith((".v", ".sv")) for name in hdl) else scans


def scan_bitstream(bitstream: bytes) -> Scan:
    """Read a bitstream back and search its logic."""
    try:
        header = read_header(bitstream)
    except ManifestInvalid as error:
        return Scan(what="bitstream", scanned=False, reason=str(error))
    if header.format != "iCE40 .bin":
        return Scan(what="bitstream", scanned=False, reason=f"{header.format} cannot be read back to logic, iCE40 can")

    def look() -> tuple[list[Loop], str]:
        from gatesmith.toolchain.netlist import bitstream_verilog

        return find_loops(decoded_graph(bitstream_verilog(bitstream))), ""

    return _timed("bitstream", look)


def scan_hdl(sources: Mapping[str, bytes]) -> Scan:
    """Search the gates that Verilog stands for."""

    def look() -> tuple[list[Loop], str]:
        from gatesmith.toolchain.netlist import hdl_netlist

        graph, opaque = netlist_graph(hdl_netlist(sources))
        return find_loops(graph), f"{opaque} cells of unknown modules were not looked into" if opaque else ""

    return _timed("hdl", look)


def apply_rule(rule: Rule, scans: list[Scan], *, name: str, warn: Callable[[str], None]) -> None:
    """Do what a policy's rule says about what scans found.

    Raises
    ------
    BitstreamUnsafe
        When there are loops, or something could not be scanned, and the rule refuses that.
    """
    for scan in scans:
        if scan.loops:
            nets = [", ".join(loop[:4]) + (", ..." if len(loop) > 4 else "") for loop in scan.loops]
            said = f"{name}: {scan.what} has {len(scan.loops)} combinational loops, the first through {nets[0]}"
            _act(rule.loops, said, warn, nets)
        elif not scan.scanned:
            _act(rule.unscannable, f"{name}: {scan.what} cannot be scanned: {scan.reason}", warn, [])


def _act(finding: Finding, said: str, warn: Callable[[str], None], loops: list[str]) -> None:
    if finding is Finding.REFUSE:
        raise BitstreamUnsafe(f"{said}; do not load it, or change the policy", loops=loops)
    if finding is Finding.WARN:
        warn(said)


def _timed(what: str, look: Callable[[], tuple[list[Loop], str]]) -> Scan:
    start = time.perf_counter()
    try:
        loops, reason = look()
    except (ToolFailed, ToolNotFound) as error:
        return Scan(what=what, scanned=False, reason=str(error), seconds=time.perf_counter() - start)
    return Scan(what=what, scanned=True, loops=tuple(loops), reason=reason, seconds=time.perf_counter() - start)
