"""Real builds for a small iCE40: the same bytes each time, found again in the cache, and clear words when it fails."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from designs import design, shift_register, successor, wrong_width
from requirements import require_family

from gatesmith.boards import Board, Family, find_board
from gatesmith.errors import DesignDoesNotFit, ToolFailed
from gatesmith.firmware import Design
from gatesmith.toolchain import Products, elaborate, execute, plan, synthesize

HELLO = "module top(input clk, input rx, output tx); assign tx = rx; endmodule\n"


@pytest.fixture(scope="module")
def board() -> Board:
    require_family(Family.ICE40)
    return find_board("icebreaker")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("builds")


@pytest.fixture(scope="module")
def built(board: Board, cache: Path) -> Products:
    return execute(plan(successor(board), board), cache=cache)


def _entry(cache: Path, digest: str) -> Path:
    (path,) = cache.rglob(f"{digest}.build")
    return path


def test_a_build_gives_everything(built: Products, board: Board) -> None:
    assert not built.cached
    assert built.bitstream.startswith(b"\xff\x00")  # Ref: icestorm format.html: a comment between FF 00 and 00 FF
    assert list(built.stages) == ["synthesis", "routing", "packing"]
    assert all(stage.seconds > 0 and stage.peak_memory_bytes > 1 << 20 for stage in built.stages.values())
    used = built.report.utilization
    assert (used["ICESTORM_LC"].available, used["ICESTORM_RAM"].available) == (
        5280,
        30,
    )  # Ref: iCE40 UltraPlus data sheet
    assert used["SB_IO"].used == 3
    assert used["ICESTORM_RAM"].used == 1  # the table
    assert built.report.fmax_hz > board.clock_hz
    assert built.report.critical_path[0].endswith("ns in all")
    assert built.placed_svg.startswith(b"<svg")
    assert len(built.placed_svg) < 100_000
    assert b"module top(" in built.verilog
    assert b"SB_LUT4" in built.netlist
    assert set(built.toolchain) == {"pyosys", "nextpnr-ice40", "icepack"}
    assert all(built.toolchain.values())


def test_no_product_names_a_folder_of_this_machine(built: Products) -> None:
    for product in (built.bitstream, built.verilog, built.placed_svg, str(built.report).encode()):
        assert os.fsencode(Path.cwd()) not in product
        assert b"site-packages" not in product


def test_another_run_elsewhere_gives_the_same_bytes(built: Products, board: Board, tmp_path: Path) -> None:
    again = execute(plan(successor(board), board), cache=None, work=tmp_path / "a folder with spaces")
    assert again.bitstream == built.bitstream
    assert again.verilog == built.verilog
    assert again.report == built.report
    assert again.placed_svg == built.placed_svg


def test_an_unchanged_build_is_read_in_less_than_a_second(built: Products, board: Board, cache: Path) -> None:
    said: list[tuple[str, float]] = []
    start = time.process_time()  # whatever else the machine does meanwhile
    again = execute(plan(successor(board), board), cache=cache, progress=lambda *step: said.append(step))
    assert time.process_time() - start < 1.0
    assert again.cached
    assert said == [("ready", 1.0)]
    assert replace(again, cached=False) == built


def test_a_changed_cache_entry_is_built_again(built: Products, board: Board, cache: Path) -> None:
    build = plan(successor(board), board)
    path = _entry(cache, build.digest)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    again = execute(build, cache=cache)
    assert not again.cached
    assert again.bitstream == built.bitstream
    assert execute(build, cache=cache).cached


def test_another_seed_does_not_synthesise_again(built: Products, board: Board, cache: Path) -> None:
    said: list[tuple[str, float]] = []
    other = execute(plan(successor(board), board, seed=2), cache=cache, progress=lambda *step: said.append(step))
    assert other.bitstream != built.bitstream
    assert other.verilog == built.verilog
    assert "synthesis" not in [stage for stage, _ in said]
    parts = [part for _, part in said]
    assert parts == sorted(parts)
    assert parts[-1] == 1.0
    assert ("packing", 0.95) in said


def test_a_given_netlist_is_used(built: Products, board: Board) -> None:
    netlist = synthesize(plan(successor(board), board), cache=None)
    assert execute(plan(successor(board), board), cache=None, synthesis=netlist).bitstream == built.bitstream


def test_elaboration_alone_gives_the_same_verilog(built: Products, board: Board) -> None:
    assert elaborate(successor(board)) == built.verilog


def test_a_design_too_large_is_told_its_numbers(board: Board, tmp_path: Path) -> None:
    with pytest.raises(DesignDoesNotFit) as caught:
        execute(plan(shift_register(6000), board), cache=tmp_path)
    facts = caught.value.facts
    assert facts["resource"] == "ICESTORM_LC"
    assert facts["available"] == 5280
    assert isinstance(facts["used"], int)
    assert 6000 <= facts["used"] <= 6100
    assert str(caught.value) == (
        f"design needs {facts['used']} ICESTORM_LC, iCE40UP5K-SG48 has 5280; try --precision 6 or a larger board"
    )


BROKEN = {
    "a syntax error": (
        design({"top.v": "module top(input clk, input rx, output tx); assign = 1; endmodule\n"}),
        "syntax error",
    ),
    "a missing module": (
        design({"top.v": HELLO.replace("assign tx = rx;", "absent a(.y(tx));")}),
        r"Module .*absent.* referenced in module .*top.* is not part of the design",
    ),
    "a missing top": (design({"top.v": HELLO.replace("top", "other")}), "Module `top' not found"),
    "ports of two widths": (wrong_width(), "Resizing cell port top.i.a from 2 bits to 1 bits"),
    "a table that is not there": (
        design({"top.v": HELLO.replace("assign", 'reg [7:0] m[3:0]; initial $readmemh("t.mem", m); assign')}),
        "Can not open file `t.mem`",
    ),
    "a line driven twice": (
        design({"top.v": HELLO.replace("assign tx = rx;", "assign tx = rx; assign tx = clk;")}),
        "Found [0-9]+ problems",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_sources_are_told_in_one_line(board: Board, tmp_path: Path, name: str) -> None:
    broken, words = BROKEN[name]
    with pytest.raises(ToolFailed, match=words) as elaboration:
        elaborate(broken)
    with pytest.raises(ToolFailed, match=words) as caught:
        execute(plan(broken, board), cache=tmp_path)
    for error, stage in ((elaboration, "elaboration"), (caught, "synthesis")):
        assert str(error.value).startswith(f"{stage} failed: pyosys: ")
        assert "\n" not in str(error.value)
        assert error.value.facts["stage"] == stage
    assert list(tmp_path.iterdir()) == []


def test_a_pin_that_the_package_lacks_is_told_in_one_line(board: Board) -> None:
    with pytest.raises(ToolFailed, match=r"routing failed: nextpnr-ice40: package does not have a pin named '99'"):
        execute(plan(successor(board), replace(board, rx_pin="99")), cache=None)


def test_tables_in_files_reach_the_bitstream(board: Board) -> None:
    top = (
        "module top(input clk, input rx, output tx); reg [15:0] m[255:0]; reg [7:0] a; reg [15:0] d;\n"
        'initial $readmemh("t.mem", m); always @(posedge clk) begin a <= {a[6:0], rx}; d <= m[a]; end\n'
        "assign tx = ^d; endmodule\n"
    )

    def with_table(first: str) -> Design:
        return design({"top.v": top, "t.mem": "\n".join([first, *(f"{i * 257:04x}" for i in range(1, 256))])})

    one, other = (execute(plan(with_table(first), board), cache=None).bitstream for first in ("0000", "1234"))
    assert one != other


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from designs import shift_register
from gatesmith.boards import find_board
from gatesmith.errors import BuildError
from gatesmith.toolchain import cache
from gatesmith.toolchain import build, execute, plan
def limit(*_):
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
real = cache.store
build.store.store = lambda *arguments: (limit(), real(*arguments))
try:
    execute(plan(shift_register(16), find_board("icebreaker")), cache=Path(sys.argv[2]))
except BuildError as error:
    print(error)
"""


@pytest.mark.usefixtures("board")
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", FULL, tests, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.startswith(f"cannot write the build cache {tmp_path}: File too large; free some space")
    assert done.stdout.count("\n") == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
