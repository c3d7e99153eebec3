"""The proof: reference == da4ml's emulator == the complete top under Verilator, over the wire, integer by integer."""
# amaranth: UnusedElaboratable=no

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from built import rtl_firmware
from models import NODE_GRAPHS, TRAINED, integer_graph, node_graph
from requirements import require

from gatesmith.devices import open_device
from gatesmith.firmware import Firmware
from gatesmith.gateware.trace import trace
from gatesmith.model import reference
from gatesmith.model.graph import Graph, Terminal
from gatesmith.model.nodes import Edge, Node
from gatesmith.model.vectors import corner_vectors, random_vectors

FAMILIES = {"ice40": "icebreaker", "ecp5": "ulx3s-85f", "gowin": "tangnano9k", "gatemate": "gatemate-a1-evb"}

# a sample of these takes forty bytes and ten thousand cycles; `bench/exactness.py` sends them all
LARGE = {"digits": 500, "cancer": 2000}


@pytest.fixture(autouse=True)
def _tools() -> None:
    for tool in ("verilator", "g++", "pyosys"):
        require(tool)


def from_the_wire(firmware: Firmware, vectors: np.ndarray) -> np.ndarray:
    with open_device("emulator:exact") as device:
        device.program(firmware)
        payload = device.infer(firmware.contract.pack_inputs(vectors))
        assert device.counters().latency_cycles == firmware.latency_cycles
        assert device.counters().frame_errors == 0
    return firmware.contract.unpack_outputs(payload)


def combined(graphs: dict[str, Graph]) -> Graph:
    """All graphs side by side in one, so that one compilation serves them all."""
    inputs: list[Terminal] = []
    outputs: list[Terminal] = []
    nodes: list[Node] = []

    def renamed(edge: Edge, prefix: str) -> Edge:
        return replace(edge, name=f"{prefix}.{edge.name}")

    for prefix, graph in graphs.items():
        inputs += [replace(t, edge=renamed(t.edge, prefix)) for t in graph.inputs]
        outputs += [replace(t, edge=renamed(t.edge, prefix)) for t in graph.outputs]
        nodes += [
            replace(
                node,
                name=f"{prefix}.{node.name}",
                inputs=tuple(f"{prefix}.{name}" for name in node.inputs),
                output=renamed(node.output, prefix),
            )
            for node in graph.nodes
        ]
    return Graph(name="all", inputs=tuple(inputs), nodes=tuple(nodes), outputs=tuple(outputs))


@pytest.mark.parametrize("cutoff", [1, 4])
def test_every_node_kind_is_exact_in_rtl(cutoff: int) -> None:
    graphs = {name: node_graph(name) for name in NODE_GRAPHS}
    graph = combined(graphs)
    vectors = np.concatenate([corner_vectors(graph), random_vectors(graph, 3000)])
    wanted = reference.infer(graph, vectors)
    given = from_the_wire(rtl_firmware(graph, "icebreaker", cutoff=cutoff), vectors)
    start = 0
    for name, one in graphs.items():
        stop = start + sum(t.edge.elements for t in one.outputs)
        assert (given[:, start:stop] == wanted[:, start:stop]).all(), name
        start = stop


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", TRAINED)
def test_every_model_is_exact_on_every_family(name: str, family: str) -> None:
    graph = integer_graph(name)
    vectors = np.concatenate([corner_vectors(graph), random_vectors(graph, LARGE.get(name, 10_000))])
    wanted = reference.infer(graph, vectors)
    assert (trace(graph).infer(vectors) == wanted).all()
    assert (from_the_wire(rtl_firmware(graph, FAMILIES[family]), vectors) == wanted).all()


def test_a_planted_fault_is_caught() -> None:
    """One constant of the adder graph, changed in the RTL, and the wire shows it."""
    graph = integer_graph("iris")
    firmware = rtl_firmware(graph, "icebreaker")
    verilog = firmware.hdl["top.v"].decode()
    # a weight is how far an operand is shifted: move one adder's operand by a bit
    shifted = re.search(r"assign (\\?[\w.$]+)\s*= \{ ([\w.$\\]+) ?(\[[\d:]+\])?, 1'h0 \};", verilog)
    shifted = shifted or re.search(r"\{ [^{}]*, 2'h0 \}", verilog)
    assert shifted, "no shifted operand in the RTL"
    wrong = shifted[0].replace("1'h0", "1'h1").replace("2'h0", "2'h1")
    planted = verilog[: shifted.start()] + wrong + verilog[shifted.end() :]
    vectors = np.concatenate([corner_vectors(graph), random_vectors(graph, 1000)])
    given = from_the_wire(replace(firmware, hdl={"top.v": planted.encode()}), vectors)
    assert (given != reference.infer(graph, vectors)).any()
