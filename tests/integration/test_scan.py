"""Ring oscillators planted in a real iCE40 design are found in its bitstream and in its HDL; real firmware is clean."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from command import both, gatesmith, result
from designs import successor
from firmwares import tiny_firmware
from models import integer_graph
from requirements import require

from gatesmith.artifact.policy import Finding, Rule
from gatesmith.artifact.store import Store
from gatesmith.boards import find_board
from gatesmith.errors import BitstreamUnsafe, ToolFailed
from gatesmith.firmware import Firmware, Link
from gatesmith.gateware.top import compose
from gatesmith.gateware.trace import trace
from gatesmith.gateware.unrolled import unroll
from gatesmith.scan import apply_rule, scan_bitstream, scan_hdl
from gatesmith.toolchain import elaborate, execute, plan
from gatesmith.toolchain.process import run
from gatesmith.tools import find_tool, tool_environment

RINGS = 8
TOP = """
module top (input clk, input rx, output tx);
  reg [15:0] count = 0;
  always @(posedge clk) count <= count + 16'd12345;
  wire [7:0] out;
  genvar i;
  generate for (i = 0; i < RINGS; i = i + 1) begin : ring
    wire a, b, c;
    NOT one (.a(c), .y(a));
    NOT two (.a(a), .y(b));
    NOT three (.a(b), .y(c));
    assign out[i] = c & count[i];
  end endgenerate
  assign tx = ^out ^ rx ^ count[15];
endmodule
"""
LUT = """
module NOT (input a, output y);
  (* keep *) SB_LUT4 #(.LUT_INIT(16'h5555)) lut (.I0(a), .I1(1'b0), .I2(1'b0), .I3(1'b0), .O(y));
endmodule
"""
AND = {"A_SIGNED": 0, "A_WIDTH": 1, "B_SIGNED": 0, "B_WIDTH": 1, "Y_WIDTH": 1}
PLAIN = "module NOT (input a, output y); assign y = ~a; endmodule"


def source(rings: int, inverter: str) -> bytes:
    text = TOP.replace("RINGS", str(rings))
    if rings == 0:
        text = text.replace("wire [7:0] out;", "wire [7:0] out = 0;")
    return (text + inverter).encode()


def bitstream(folder: Path, verilog: bytes) -> bytes:
    """Synthesised, placed, routed and packed for an iCE40UP5K by the tools alone."""
    for tool in ("pyosys", "nextpnr-ice40", "icepack", "icebox_vlog"):
        require(tool)
    (folder / "top.v").write_bytes(verilog)
    passes = ["read_verilog top.v", "synth_ice40 -top top -json top.json"]
    (folder / "passes.json").write_text(json.dumps(passes))
    (folder / "top.pcf").write_text("set_io clk 35\nset_io rx 6\nset_io tx 9\n")
    place = ("--up5k", "--package", "sg48", "--json", "top.json", "--pcf", "top.pcf", "--asc", "top.asc")
    for tool, arguments in (
        ("pyosys", ("passes.json",)), ("nextpnr-ice40", (*place, "--ignore-loops")), ("icepack", ("top.asc", "top.bin"))
    ):  # fmt: skip
        command = (*find_tool(tool).command, *arguments)
        output = run(command, folder=folder, environment=tool_environment(), timeout_s=120)
        assert output.status == 0, output.words()
    return (folder / "top.bin").read_bytes()


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rings")
    bitstream(folder, source(RINGS, LUT))
    return folder


@pytest.fixture(scope="module")
def clean() -> Firmware:
    """What a build of a real model gives, without its proof."""
    for tool in ("pyosys", "nextpnr-ice40", "icepack", "icebox_vlog"):
        require(tool)
    board, graph = find_board("icebreaker"), integer_graph("iris")
    link = Link(divisor=board.divisor, clock_hz=board.clock_hz)
    core = unroll(trace(graph), cutoff=4)
    design = compose(core, contract=graph.contract(), link=link, build_id="0123456789abcdef" * 2)
    products = execute(plan(design, board), cache=None)
    return tiny_firmware(bitstream=products.bitstream, hdl={"top.v": products.verilog})


def test_every_planted_ring_is_found_in_the_bitstream(planted: Path) -> None:
    scan = scan_bitstream((planted / "top.bin").read_bytes())
    assert scan.scanned, scan.reason
    assert len(scan.loops) == RINGS
    # three inverters; the decoder names the wire between a look-up table and its cell's output as well
    assert {len(loop) for loop in scan.loops} <= {3, 4, 5, 6}
    nets = [net for loop in scan.loops for net in loop]
    assert len(set(nets)) == len(nets)


def test_the_same_design_without_rings_is_clean(tmp_path: Path) -> None:
    scan = scan_bitstream(bitstream(tmp_path, source(0, LUT)))
    assert (scan.scanned, scan.loops) == (True, ())


def test_a_real_firmware_is_clean_in_both_forms(clean: Firmware) -> None:
    for scan in (scan_bitstream(clean.bitstream), scan_hdl(clean.hdl)):
        assert (scan.scanned, scan.loops) == (True, ()), scan


@pytest.mark.parametrize("rings", [0, 1, RINGS])
def test_rings_are_found_in_hdl_for_any_family(rings: int) -> None:
    require("pyosys")
    scan = scan_hdl({"top.v": source(rings, PLAIN)})
    assert (scan.scanned, len(scan.loops), scan.reason) == (True, rings, "")


@pytest.mark.parametrize("inverters", [1, 2, 3, 4, 7])
def test_a_ring_in_one_module_is_not_simplified_away(inverters: int) -> None:
    """yosys makes a wire of two inverters in a row wherever it may optimise."""
    require("pyosys")
    assigns = "".join(f"assign r[{i}] = ~r[{(i + 1) % inverters}]; " for i in range(inverters))
    text = f"module top(output y); (* keep *) wire [{inverters - 1}:0] r; {assigns} assign y = r[0]; endmodule"
    scan = scan_hdl({"top.v": text.encode()})
    assert [len(loop) for loop in scan.loops] == [inverters]


def test_oscillators_that_are_no_plain_rings_are_found() -> None:
    require("pyosys")
    reset = b"module top(input c, output reg q); always @(posedge c, posedge q) if (q) q <= 0; else q <= 1; endmodule"
    latch = b"module top(input e, output reg q); always @* if (e) q = ~q; endmodule"
    for text in (reset, latch):
        assert len(scan_hdl({"top.v": text}).loops) == 1


def test_builds_of_our_own_refuse_loops_before_synthesis() -> None:
    """Three AND gates in a ring, written into the design as it comes out of the generator."""
    require("pyosys")
    sources = dict(successor(find_board("icebreaker")).sources)
    wires = "".join(f"  attribute \\keep 1\n  wire width 1 \\ring{i}\n" for i in range(3))
    widths = "".join(f"    parameter \\{pin} {value}\n" for pin, value in AND.items())
    cells = "".join(
        f"  cell $and \\gate{i}\n{widths}    connect \\A \\ring{(i + 1) % 3}\n    connect \\B \\rx\n"
        f"    connect \\Y \\ring{i}\n  end\n"
        for i in range(3)
    )
    place = sources["top.il"].rindex("end\n")
    sources["top.il"] = sources["top.il"][:place] + wires + cells + sources["top.il"][place:]
    with pytest.raises(ToolFailed, match="1 problems in 'check -assert'"):
        elaborate(replace(successor(find_board("icebreaker")), sources=sources))


def test_parts_that_are_not_there_are_told() -> None:
    require("pyosys")
    scan = scan_hdl({"top.v": b"module top(input a, output y); VENDOR_CELL v(.A(a), .Y(y)); endmodule"})
    assert (scan.scanned, scan.reason) == (True, "1 cells of unknown modules were not looked into")
    broken = scan_hdl({"top.v": b"module top("})
    assert not broken.scanned
    assert broken.reason.startswith("HDL cannot be read")


def test_the_policy_decides(planted: Path) -> None:
    told: list[str] = []
    found = [scan_bitstream((planted / "top.bin").read_bytes()), scan_bitstream(b"SOF\0" + bytes(100))]
    with pytest.raises(BitstreamUnsafe, match="8 combinational loops"):
        apply_rule(Rule(), found, name="x", warn=told.append)
    apply_rule(Rule(loops=Finding.WARN, unscannable=Finding.ALLOW), found, name="x", warn=told.append)
    assert len(told) == 1
    assert told[0].startswith("x: bitstream has 8 combinational loops, the first through n")
    with pytest.raises(BitstreamUnsafe, match=r"cannot be scanned: Quartus \.sof cannot be read back"):
        apply_rule(Rule(unscannable=Finding.REFUSE), found[1:], name="x", warn=told.append)


def test_the_command_finds_and_refuses(planted: Path, clean: Firmware, tmp_path: Path) -> None:
    line, error = both(["scan", planted / "top.bin"], home=tmp_path)
    assert "8 combinational loops" in line
    assert (error["type"], len(error["loops"])) == ("BitstreamUnsafe", RINGS)
    Store(tmp_path / "store").save("iris:v1", [clean])
    data = result(gatesmith("scan", "iris:v1", "--json", home=tmp_path))
    assert (data["loops"], [one["what"] for one in data["scans"]]) == (0, ["bitstream", "hdl"])


def test_rings_are_not_packed(planted: Path, tmp_path: Path) -> None:
    (tmp_path / "contract.toml").write_text(
        'name = "ring"\nboard = "icebreaker"\nflow = "hand"\n'
        + "".join(
            f'[[{kind}]]\nname = "{kind}"\ndatatype = "UINT8"\nshape = [-1, 1]\n'
            "format = {signed = false, integer_bits = 8, fraction_bits = 0}\n"
            for kind in ("input", "output")
        )
    )
    contract = tmp_path / "contract.toml"
    arguments = ["pack", "--bitstream", planted / "top.bin", "--contract", contract, "--tag", "ring:v1"]
    line, _ = both(arguments, home=tmp_path)
    assert "8 combinational loops" in line
    assert Store(tmp_path / "store").list() == []
    (tmp_path / "policy.toml").write_text('loops = "warn"')
    assert "warning: top.bin: bitstream has 8" in gatesmith(*arguments, home=tmp_path).stderr
    assert [entry.reference for entry in Store(tmp_path / "store").list()] == ["ring:v1"]
