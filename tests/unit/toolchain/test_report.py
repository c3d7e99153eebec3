"""nextpnr's words become facts; the samples keep the form of what nextpnr 0.11 writes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatesmith.errors import DesignDoesNotFit
from gatesmith.firmware import Report, Utilization
from gatesmith.toolchain.report import does_not_fit, parse_report


def _hop(delay: float, kind: str, cell: str, **more: Any) -> dict[str, Any]:
    end = {"cell": cell, "loc": [1, 2], "port": "Q"}
    return {"delay": delay, "type": kind, "from": end, "to": {**end, "cell": f"{cell}_to", "port": "D"}, **more}


REPORT = {
    "fmax": {"clk": {"achieved": 77.5, "constraint": 12}, "slow": {"achieved": 48.25, "constraint": 12}},
    "utilization": {
        "ICESTORM_LC": {"used": 56, "available": 5280},
        "CPE_ADDF": {"used": 5, "available": 0},
        "ICESTORM_RAM": {"used": 0, "available": 30},
    },
    "critical_paths": [
        {"from": "posedge clk", "to": "posedge clk", "path": [_hop(1.0, "clk-to-q", "a"), _hop(2.0, "setup", "b")]},
        {
            "from": "posedge clk",
            "to": "posedge clk",
            "path": [
                _hop(1.39, "clk-to-q", "a"),
                _hop(1.761, "routing", "a", net="left[0]", sources=["/home/someone/cells_map.v:6.21"]),
                _hop(1.0, "setup", "c"),
            ],
        },
        {"from": "<async>", "to": "posedge clk", "path": [_hop(99.0, "source", "rx")]},
    ],
}


def test_a_report_keeps_what_is_used_of_what_is_there() -> None:
    report = parse_report(json.dumps(REPORT))
    assert report.utilization == {
        "ICESTORM_LC": Utilization(used=56, available=5280),
        "ICESTORM_RAM": Utilization(used=0, available=30),
    }


def test_fmax_is_that_of_the_slowest_clock() -> None:
    assert parse_report(json.dumps(REPORT)).fmax_hz == 48_250_000


def test_the_critical_path_is_the_longest_between_registers_and_names_no_file() -> None:
    path = parse_report(json.dumps(REPORT)).critical_path
    assert path == (
        "4.15 ns in all",
        "1.39 ns, hops 1, at a",
        "1.76 ns, hops 1, at a_to",
        "1.00 ns, hops 1, at c",
    )


def test_cells_of_one_signal_are_one_line() -> None:
    names = ["core.sum_SB_LUT4_O_I3_SB_CARRY_CO", "core.sum_SB_CARRY_CI", "core.out_TRELLIS_FF_Q", "$nextpnr_LC_3"]
    path = {"from": "posedge clk", "to": "posedge clk", "path": [_hop(1.0, "logic", name) for name in names]}
    report = parse_report(json.dumps({"fmax": {}, "utilization": {}, "critical_paths": [path]}))
    assert report.critical_path == (
        "4.00 ns in all",
        "2.00 ns, hops 2, at core.sum",
        "1.00 ns, hops 1, at core.out",
        "1.00 ns, hops 1, at a cell that nextpnr added",
    )


def test_a_design_without_a_clock_has_no_fmax() -> None:
    report = parse_report(json.dumps({"fmax": {}, "utilization": {}, "critical_paths": []}))
    assert report == Report(utilization={}, fmax_hz=0.0, critical_path=())


TABLE = """Info: Device utilisation:
Info: \t         ICESTORM_LC:    {lc}/   5280    50%
Info: \t        ICESTORM_RAM:      {ram}/     30    50%
Info: \t            CPE_ADDF:      12/      0     0%
Info: Placed 3 cells based on constraints."""


@pytest.mark.parametrize(
    ("lc", "ram", "last", "expected"),
    [
        (
            8002,
            2,
            "ERROR: Unable to place cell 's', no BELs remaining to implement cell type",
            ("ICESTORM_LC", 8002, 5280),
        ),
        (100, 31, "ERROR: anything", ("ICESTORM_RAM", 31, 30)),
        (
            5279,
            2,
            "ERROR: Failed to expand region (0, 0) |_> (25, 31) of 5279 ICESTORM_LCs",
            ("ICESTORM_LC", 5279, 5280),
        ),
        (
            5279,
            2,
            "ERROR: Unable to find legal placement for all cells, design is probably at utilisation limit.",
            ("ICESTORM_LC", 5279, 5280),
        ),
    ],
)
def test_a_design_too_large_is_told_what_it_lacks(lc: int, ram: int, last: str, expected: tuple[str, int, int]) -> None:
    error = does_not_fit([*TABLE.format(lc=lc, ram=ram).splitlines(), last], "iCE40UP5K-SG48")
    assert isinstance(error, DesignDoesNotFit)
    resource, used, available = expected
    assert error.facts == {"resource": resource, "used": used, "available": available}
    assert str(error).startswith(f"design needs {used} {resource}, iCE40UP5K-SG48 has {available}")
    assert str(error).endswith("; try --precision 6 or a larger board")


def test_another_failure_is_not_taken_for_a_full_part() -> None:
    lines = [*TABLE.format(lc=100, ram=2).splitlines(), "ERROR: Failed to route net"]
    assert does_not_fit(lines, "part") is None
    assert does_not_fit(["ERROR: Unable to place cell"], "part") is None
