"""A build, written down before anything runs: files, commands, and the digest that names the result.

A plan depends on the design, the board, the seed and the programs' identities and on nothing else: no time, no path,
no machine. Commands name their program as :mod:`gatesmith.tools` knows it and every file by a relative name, so a
plan runs in any folder; :mod:`gatesmith.toolchain.build` runs it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from gatesmith.boards import Board
from gatesmith.errors import BuildError
from gatesmith.firmware import Design
from gatesmith.toolchain.flows import FLOWS
from gatesmith.toolchain.pll import board_top
from gatesmith.tools import find_tool

__all__ = ["BuildPlan", "Command", "checked_sources", "plan", "simulation_passes"]

_WIDTHS_DIFFER = "Resizing cell port"
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_FILE_NAME = re.compile(r"\w[\w.-]*\.(il|v|mem)", re.ASCII)
_MAPPING = "mapping.v"
_OUR_FILES = ("board_top.v", "netlist.v", "simulation.v", _MAPPING)
_SYNTHESIS_TIMEOUT_S = 3600.0
_ROUTING_TIMEOUT_S = 4 * 3600.0
_PACKING_TIMEOUT_S = 900.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One run of one program in the build's folder."""

    stage: str
    tool: str
    arguments: tuple[str, ...]
    produces: tuple[str, ...]
    timeout_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildPlan:
    """What a build does, completely.

    Parameters
    ----------
    sources, constraints : mapping of str to bytes
        Files of the synthesis, and those that only placement reads.
    synthesis, routing, packing : Command
    tools : mapping of str to str
        Program to its identity.
    """

    top: str
    part: str
    sources: Mapping[str, bytes]
    constraints: Mapping[str, bytes]
    synthesis: Command
    routing: Command
    packing: Command
    tools: Mapping[str, str]

    @property
    def commands(self) -> tuple[Command, ...]:
        """All of them, in order."""
        return (self.synthesis, self.routing, self.packing)

    @property
    def synthesis_digest(self) -> str:
        """SHA-256, hexadecimal, of what the netlist depends on; seeds and pins do not change it."""
        return _digest([self.top, _named(self.sources), _facts(self.synthesis, self.tools)])

    @property
    def digest(self) -> str:
        """SHA-256, hexadecimal, of everything that the bitstream depends on."""
        commands = [_facts(self.routing, self.tools), _facts(self.packing, self.tools)]
        return _digest([self.synthesis_digest, self.part, _named(self.constraints), *commands])


def plan(design: Design, board: Board, *, seed: int = 1) -> BuildPlan:
    """Write down the build of a design for a board.

    Parameters
    ----------
    seed : int
        Start of the placer's random numbers; another one gives another, equally correct, bitstream.

    Raises
    ------
    ToolNotFound
        When a program of this family's flow is missing.
    BuildError
        When the sources cannot be built, or the board cannot make the design's clock.
    """
    flow = FLOWS[board.family]
    wrapper = board_top(design, board)
    sources = checked_sources(design)
    passes = simulation_passes(design)
    top = design.top
    if wrapper:
        top = "board_top"
        sources["board_top.v"] = wrapper.encode()
    if flow.mapping:
        sources[_MAPPING] = flow.mapping.encode()
    passes += _synthesis_passes(flow.synthesis_command(board), design, top, is_mapped=bool(flow.mapping))
    sources["synthesis.json"] = json.dumps(passes, indent=1).encode()
    programs = ("pyosys", flow.router, flow.packer)
    common = (
        *("--json", "netlist.json", "--seed", str(seed), "--freq", f"{design.clock_hz / 1e6:.6f}"),
        *("--timing-allow-fail", "--report", "report.json", "--write", "routed.json"),
    )
    return BuildPlan(
        top=top,
        part=board.part,
        sources=sources,
        constraints={flow.constraints_file: flow.constraints(board).encode()},
        synthesis=Command(
            stage="synthesis",
            tool="pyosys",
            arguments=("synthesis.json",),
            produces=("simulation.v", "netlist.json", "netlist.v"),
            timeout_s=_SYNTHESIS_TIMEOUT_S,
        ),
        routing=Command(
            stage="routing",
            tool=flow.router,
            arguments=(*common, *flow.router_arguments(board)),
            produces=("report.json", "routed.json"),
            timeout_s=_ROUTING_TIMEOUT_S,
        ),
        packing=Command(
            stage="packing",
            tool=flow.packer,
            arguments=flow.packer_arguments(board),
            produces=(flow.bitstream,),
            timeout_s=_PACKING_TIMEOUT_S,
        ),
        tools={name: find_tool(name).identity for name in programs},
    )


def checked_sources(design: Design) -> dict[str, bytes]:
    """The design's files, once their names are known to be harmless: yosys reads them in a line of text.

    Raises
    ------
    BuildError
        When a name is not plain, or there is more than one RTLIL file.
    """
    if not _IDENTIFIER.fullmatch(design.top):
        raise BuildError(f"top module {design.top!r} cannot be built; it needs a plain name")
    for name in design.sources:
        if not _FILE_NAME.fullmatch(name) or name in _OUR_FILES:
            raise BuildError(
                f"source file {name!r} cannot be built; it needs a plain name that ends in .il, .v or .mem"
            )
    if sum(name.endswith(".il") for name in design.sources) > 1:
        raise BuildError("the design has more than one RTLIL file; it needs at most one")
    return {name: text.encode() for name, text in design.sources.items()}


def simulation_passes(design: Design) -> list[str]:
    """Passes that read a design and write ``simulation.v``, the Verilog of the whole top before any mapping.

    The design stays saved as ``read``. A port wired to a signal of another width is an error: yosys would cut or
    zero-extend it, which is wrong for signed numbers, and only warn.
    """
    rtlil = [name for name in design.sources if name.endswith(".il")]
    verilog = sorted(name for name in design.sources if name.endswith(".v"))
    return [
        f'logger -werror "{_WIDTHS_DIFFER}"',
        *(f"read_rtlil {name}" for name in rtlil),
        *(f"read_verilog -sv -defer {name}" for name in verilog),
        f"hierarchy -check -top {design.top}",
        "design -save read",
        "proc -nomux -norom",
        "memory_collect",
        "opt_clean -purge",
        "check -assert",  # before proc it looks at nothing
        "write_verilog -noattr -norename simulation.v",
    ]


def _synthesis_passes(command: str, design: Design, top: str, *, is_mapped: bool) -> list[str]:
    wrapper = [] if top == design.top else ["read_verilog board_top.v"]
    mapping = [f"techmap -map {_MAPPING}", "clean", "write_json netlist.json"] if is_mapped else []
    return [
        f'logger -nowarn "{_WIDTHS_DIFFER}"',  # in the mapping to cells it is harmless
        "design -load read",
        *wrapper,
        f"{command} -top {top} -json netlist.json",
        *mapping,
        "write_verilog -noattr netlist.v",
    ]


def _named(files: Mapping[str, bytes]) -> list[list[str]]:
    return [[name, hashlib.sha256(content).hexdigest()] for name, content in sorted(files.items())]


def _facts(command: Command, tools: Mapping[str, str]) -> list[object]:
    return [tools[command.tool], list(command.arguments), list(command.produces)]


def _digest(facts: list[object]) -> str:
    return hashlib.sha256(json.dumps(facts, separators=(",", ":")).encode()).hexdigest()
