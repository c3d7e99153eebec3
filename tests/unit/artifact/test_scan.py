from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from gatesmith.artifact.scan import decoded_graph, find_loops, netlist_graph


def loops_by_reachability(graph: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """The same answer the slow way: two nets are in one loop when each reaches the other."""
    nets = set(graph) | {one for reached in graph.values() for one in reached}
    reach = {net: set(graph.get(net, ())) for net in nets}
    for middle in nets:
        for net in nets:
            if middle in reach[net]:
                reach[net] |= reach[middle]
    looping = {net for net in nets if net in reach[net]}
    return sorted({tuple(sorted(o for o in looping if o in reach[net] and net in reach[o])) for net in looping})


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_agree_with_the_slow_way(seed: int) -> None:
    chance = np.random.default_rng(seed)
    nets = [f"n{i}" for i in range(chance.integers(1, 15))]
    density = chance.choice([0.05, 0.1, 0.25])
    graph = {net: {other for other in nets if chance.random() < density} for net in nets}
    assert find_loops(graph) == loops_by_reachability(graph)


def test_long_chains_and_rings_do_not_use_the_stack() -> None:
    chain: dict[str, set[str]] = {f"n{i}": {f"n{i + 1}"} for i in range(200_000)}
    assert find_loops(chain) == []
    chain["n200000"] = {"n0"}
    assert [len(loop) for loop in find_loops(chain)] == [200_001]


DECODED = """
module top (input clk, input io_13_0_1, output io_15_0_0);
wire n1, n2, n3, n4, n5;
reg n6 = 0, n7 = 0, n8 = 0, n9 = 0;
assign io_15_0_0 = n5;
assign n1  = /* LUT    1  1  0 */ (n2 ? 1'b0 : !n3);
assign n2  = /* LUT    1  1  1 */ !n1;
assign n3  = /* LUT    1  1  2 */ n6;
assign n4  = /* CARRY  3  7  6 */ (1'b0 & n3) | ((1'b0 | n3) & 1'b1);
assign n5  = /* LUT    1  1  3 */ !n5;
/* FF  1  1  4 */ always @(posedge clk) if (1'b1) n6 <= 1'b0 ? 1'b0 : n3;
/* FF  1  1  5 */ always @(posedge clk, posedge n7) if (n7) n7 <= 1'b0; else if (1'b1) n7 <= n3;
always @* if (!clk) n8 = n9;
always @* if (!clk) n9 = n8;
endmodule
"""


def test_statements_of_a_decoded_bitstream() -> None:
    assert find_loops(decoded_graph(DECODED)) == [("n1", "n2"), ("n5",), ("n7",), ("n8", "n9")]


def cell(kind: str, inputs: dict[str, list[Any]], output: list[int], **parameters: str) -> dict[str, Any]:
    directions = dict.fromkeys(inputs, "input") | {"Y": "output"}
    return {
        "type": kind,
        "port_directions": directions,
        "connections": inputs | {"Y": output},
        "parameters": parameters,
    }


def netlist(*cells: dict[str, Any]) -> dict[str, Any]:
    names = {"a": {"bits": [2], "hide_name": 0}, "bus": {"bits": [3, 4], "hide_name": 0}}
    module = {"attributes": {"top": "00001"}, "cells": dict(enumerate(cells)), "netnames": names}
    return {"modules": {"other": {"attributes": {}}, "top": module}}


@pytest.mark.parametrize(
    ("kind", "pin", "loops"),
    [
        ("$_NOT_", "A", [("a",)]),
        ("$_DFF_P_", "D", []),
        ("$_DFF_P_", "C", []),
        ("$_DFFE_PP_", "E", []),
        ("$_DFF_PP0_", "R", [("a",)]),
        ("$_DFFSR_PPP_", "S", [("a",)]),
        ("$_SDFF_PP0_", "R", []),
        ("$_SDFFCE_PP0P_", "R", []),
        ("$_ALDFF_PP_", "L", [("a",)]),
        ("$_ALDFF_PP_", "D", []),
        ("$_DLATCH_P_", "D", [("a",)]),
        ("SB_LUT4", "I0", []),
    ],
)
def test_cells_that_pass_a_signal_on_and_cells_that_do_not(kind: str, pin: str, loops: list[tuple[str]]) -> None:
    graph, opaque = netlist_graph(netlist(cell(kind, {pin: [2]}, [2])))
    assert find_loops(graph) == loops
    assert opaque == (not kind.startswith("$"))


def test_loops_are_found_bit_by_bit() -> None:
    """A shift of a bus by one place is no loop, and constants are no nets."""
    cells = [cell("$_BUF_", {"A": [3]}, [4]), cell("$_BUF_", {"A": ["0"]}, [3])]
    assert find_loops(netlist_graph(netlist(*cells))[0]) == []
    cells[1] = cell("$_BUF_", {"A": [4]}, [3])
    assert find_loops(netlist_graph(netlist(*cells))[0]) == [("bus[0]", "bus[1]")]


@pytest.mark.parametrize(("clocked", "loops"), [("0", [("a",)]), ("1", [])])
def test_a_memory_read_without_a_clock_passes_on(clocked: str, loops: list[tuple[str]]) -> None:
    memory = cell("$memrd_v2", {"ADDR": [2]}, [9], CLK_ENABLE=clocked)
    memory["connections"]["DATA"] = [2]
    assert find_loops(netlist_graph(netlist(memory))[0]) == loops
