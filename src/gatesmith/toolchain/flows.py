"""What differs between the families, as one row of a table each: synthesis, constraints, place and route, packing.

# Ref: yosys 0.70 help synth_ice40, synth_ecp5, synth_gowin, synth_gatemate (-luttree: "for output to nextpnr").
#      With -nowidelut the designs of bench/estimate.py need 2 to 32 % fewer Gowin LUTs, and half the time to route.
# Ref: nextpnr docs/ice40.md (pcf), docs/ecp5.md (lpf); himbaechel uarch options from `--vopt help`.
# Ref: Gowin SUG935 (cst), Cologne Chip UG1001 (ccf), as in the constraint files that the boards cite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gatesmith.boards import Board, Family
from gatesmith.toolchain.mapping import GOWIN_LUTS

__all__ = ["FLOWS", "Flow"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """One family's way from a netlist to a bitstream; names in it are relative to the build's folder.

    Parameters
    ----------
    synthesis, device_options
        The yosys command, without ``-top`` and ``-json``, and what some devices add to it.
    mapping
        Verilog for yosys' techmap that rewrites the cells of the result; mostly none.
    constraints, constraints_file
        Text that binds ``clk``, ``rx`` and ``tx`` to the board's pins, and the name of its file.
    router, router_options
        nextpnr of this family and what it needs beside the options that all have; ``{board...}`` is filled in.
        All write ``routed.json``.
    packer, packer_options, bitstream
        The packer, its arguments and the file that it writes.
    """

    synthesis: str
    device_options: Mapping[str, str] = field(default_factory=dict)
    mapping: str = ""
    constraints: Callable[[Board], str]
    constraints_file: str
    router: str
    router_options: str
    packer: str
    packer_options: str
    bitstream: str

    def synthesis_command(self, board: Board) -> str:
        """The yosys command for this board's device."""
        return f"{self.synthesis} {self.device_options.get(board.device, '')}".strip()

    def router_arguments(self, board: Board) -> tuple[str, ...]:
        """Arguments of nextpnr for this board's device."""
        return tuple(self.router_options.format(board=board).split())

    def packer_arguments(self, board: Board) -> tuple[str, ...]:
        """Arguments of the packer."""
        return tuple(self.packer_options.format(board=board).split())


def _ice40_constraints(board: Board) -> str:
    return (
        f"set_io clk {board.clock_pin}\nset_io -pullup yes rx {board.rx_pin}\nset_io tx {board.tx_pin}\n"
        f"set_frequency clk {board.clock_hz / 1e6:.6f}\n"
    )


def _ecp5_constraints(board: Board) -> str:
    pins = {"clk": board.clock_pin, "rx": board.rx_pin, "tx": board.tx_pin}
    lines = [f'LOCATE COMP "{port}" SITE "{pin}";' for port, pin in pins.items()]
    lines += [f'IOBUF PORT "{port}" IO_TYPE={board.io_standard};' for port in ("clk", "tx")]
    lines += [f'IOBUF PORT "rx" IO_TYPE={board.io_standard} PULLMODE=UP;']
    lines += [f'FREQUENCY PORT "clk" {board.clock_hz / 1e6:.6f} MHZ;']
    return "\n".join(lines) + "\n"


def _gowin_constraints(board: Board) -> str:
    pins = {"clk": board.clock_pin, "rx": board.rx_pin, "tx": board.tx_pin}
    lines = [f'IO_LOC "{port}" {pin};' for port, pin in pins.items()]
    lines += [f'IO_PORT "{port}" IO_TYPE={board.io_standard};' for port in ("clk", "tx")]
    lines += [f'IO_PORT "rx" IO_TYPE={board.io_standard} PULL_MODE=UP;']
    return "\n".join(lines) + "\n"


def _gatemate_constraints(board: Board) -> str:
    return (
        f'Pin_in "clk" Loc = "{board.clock_pin}" | SCHMITT_TRIGGER=true;\n'
        f'Pin_in "rx" Loc = "{board.rx_pin}" | PULLUP=true;\n'
        f'Pin_out "tx" Loc = "{board.tx_pin}";\n'
    )


FLOWS: Mapping[Family, Flow] = MappingProxyType(
    {
        Family.ICE40: Flow(
            synthesis="synth_ice40",
            # Only the UltraPlus has multipliers; naming them elsewhere gives a netlist that cannot be placed.
            device_options={"up5k": "-dsp -device u"},
            constraints=_ice40_constraints,
            constraints_file="pins.pcf",
            router="nextpnr-ice40",
            router_options="--{board.device} --package {board.package} --pcf pins.pcf --asc routed.asc",
            packer="icepack",
            packer_options="routed.asc top.bin",
            bitstream="top.bin",
        ),
        Family.ECP5: Flow(
            synthesis="synth_ecp5",
            constraints=_ecp5_constraints,
            constraints_file="pins.lpf",
            router="nextpnr-ecp5",
            # The analytical placer and router2 need a third of the time on large designs, and reach a higher clock.
            router_options="--{board.device} --package {board.package} --speed {board.speed}"
            " --placer static --router router2"
            " --lpf pins.lpf --textcfg routed.config",
            packer="ecppack",
            packer_options="--compress routed.config top.bit",
            bitstream="top.bit",
        ),
        Family.GOWIN: Flow(
            synthesis="synth_gowin -nowidelut",
            device_options={"GW2A-18C": "-family gw2a"},
            mapping=GOWIN_LUTS,
            constraints=_gowin_constraints,
            constraints_file="pins.cst",
            router="nextpnr-himbaechel-gowin",
            router_options="--device {board.part} --vopt family={board.device} --vopt cst=pins.cst",
            packer="gowin_pack",
            packer_options="-d {board.device} -o top.fs routed.json",
            bitstream="top.fs",
        ),
        Family.GATEMATE: Flow(
            synthesis="synth_gatemate -luttree -nomx8",
            constraints=_gatemate_constraints,
            constraints_file="pins.ccf",
            router="nextpnr-himbaechel-gatemate",
            router_options="--device {board.device} --vopt ccf=pins.ccf --vopt out=routed.txt",
            packer="gmpack",
            packer_options="routed.txt top.bit",
            bitstream="top.bit",
        ),
    }
)
