"""Every board gets a real bitstream: its pins exist on its package and its chip is the one that the bitstream names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from designs import successor
from requirements import require_family

from gatesmith.boards import Board, Family, all_boards
from gatesmith.toolchain import Products, execute, plan

# Ref: emard/ulx3s doc/MANUAL.md, CHIP_ID: what JTAG reads from the real chips.
ECP5_IDENTITIES = {"12k": 0x21111043, "25k": 0x41111043, "45k": 0x41112043, "85k": 0x41113043}
# Ref: Lattice FPGA-TN-02039 (ECP5 sysCONFIG): VERIFY_ID is E2 and three operand bytes, then the identity.
VERIFY_ID = b"\xe2\x00\x00\x00"
# Ref: openFPGALoader --list-fpga: what JTAG reads; the .fs file holds it after the command 06.
# The top digit is a version.
GOWIN_IDENTITIES = {"GW1N-9C": 0x0100481B, "GW2A-18C": 0x0000081B}
# Ref: measured with other designs before this code existed.
ICE40_BYTES = {"up5k": 104_090, "hx8k": 135_100}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boards of one family share their netlist when their divisors are the same."""
    return tmp_path_factory.mktemp("builds")


# A ULX3S has one set of pins for four chips, and the 85F chip is built for the OrangeCrab: a quarter minute less.
@pytest.mark.parametrize("name", sorted(set(all_boards()) - {"ulx3s-85f"}))
def test_a_board_gets_a_bitstream(name: str, cache: Path) -> None:
    board = all_boards()[name]
    require_family(board.family)
    built = execute(plan(successor(board), board), cache=cache)
    assert built.report.fmax_hz > board.clock_hz
    assert all(use.used <= use.available for use in built.report.utilization.values())
    assert b"</svg>" in built.placed_svg
    CHECKS[board.family](board, built)


def _is_ice40(board: Board, built: Products) -> None:
    assert len(built.bitstream) == ICE40_BYTES[board.device]


def _is_ecp5(board: Board, built: Products) -> None:
    assert f"Part: {board.part.rpartition('-')[0]}".encode() in built.bitstream[:200]
    identity = built.bitstream[built.bitstream.index(VERIFY_ID) + len(VERIFY_ID) :][:4]
    assert int.from_bytes(identity, "big") == ECP5_IDENTITIES[board.device]


def _is_gowin(board: Board, built: Products) -> None:
    lines = built.bitstream.decode().splitlines()
    assert re.fullmatch("[01]+", "".join(lines))
    identity = next(line for line in lines if line.startswith("00000110"))
    assert int(identity[36:], 2) == GOWIN_IDENTITIES[board.device]


def _is_gatemate(board: Board, built: Products) -> None:
    assert board.device == "CCGM1A1"
    assert built.report.utilization["CPE_LT"].available == 40_960  # Ref: DS1001: 20 480 CPEs of two each
    assert len(built.bitstream) > 1000


CHECKS = {
    Family.ICE40: _is_ice40,
    Family.ECP5: _is_ecp5,
    Family.GOWIN: _is_gowin,
    Family.GATEMATE: _is_gatemate,
}
