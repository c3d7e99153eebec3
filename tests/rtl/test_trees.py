"""The trees engine: reference == Amaranth's simulator == the complete top under Verilator, over the wire."""
# amaranth: UnusedElaboratable=no

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from built import rtl_firmware
from forests import forest_graph
from requirements import require
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline

from gatesmith.contract import Contract
from gatesmith.devices import open_device
from gatesmith.errors import UnsupportedOperation
from gatesmith.firmware import Firmware
from gatesmith.fixed import FixedPoint
from gatesmith.frontends import read_model
from gatesmith.gateware.chain import ChainedCore
from gatesmith.gateware.core import Core
from gatesmith.gateware.engines import build_core, choose_engine, plan_logic
from gatesmith.model import reference
from gatesmith.model.ensemble import TreeEnsemble
from gatesmith.model.graph import Graph
from gatesmith.model.nodes import Dense
from gatesmith.model.vectors import corner_vectors, random_vectors
from gatesmith.quantize import quantize

SHAPES: dict[str, dict[str, Any]] = {
    "signed": {},
    "unsigned": {"input": FixedPoint(False, 5, 0), "trees": 11, "outputs": 5},
    "one-tree": {"trees": 1, "outputs": 2},
    "one-leaf": {"trees": 1, "depth": 0},
    "one-output": {"outputs": 1, "trees": 7, "depth": 5},
    "scores-alone": {"arg_max": False, "trees": 8},
    "missing": {"missing": True, "trees": 8},
    "votes": {"votes": True, "trees": 40, "depth": 2},
    "many-bits": {"outputs": 9, "trees": 4},
}


def vectors(graph: Graph, count: int) -> np.ndarray:
    return np.concatenate([corner_vectors(graph), random_vectors(graph, count)])


def simulated(graph: Graph, cutoff: int, x: np.ndarray) -> np.ndarray:
    core = build_core(plan_logic(graph), cutoff=cutoff)
    return through(core, graph.contract(), graph.contract(), x)


def through(core: Core, given: Contract, taken: Contract, x: np.ndarray) -> np.ndarray:
    """Samples in every cycle in which the core takes one; the output waits now and then."""
    words = [int.from_bytes(row.tobytes(), "little") for row in given.pack_inputs(x)]
    found: list[int] = []

    async def feed(ctx: Any) -> None:
        ctx.set(core.i.valid, 1)
        for word in words:
            ctx.set(core.i.payload, word)
            await ctx.tick().until(core.i.ready)
        ctx.set(core.i.valid, 0)

    async def drain(ctx: Any) -> None:
        generator = np.random.default_rng(0)
        while len(found) < len(words):
            ready = int(generator.random() < 0.7)
            ctx.set(core.o.ready, ready)
            *_, valid, payload = await ctx.tick().sample(core.o.valid, core.o.payload)
            if ready and valid:
                found.append(payload)

    simulator = Simulator(core)
    simulator.add_clock(1e-6)
    simulator.add_testbench(feed)
    simulator.add_testbench(drain)
    simulator.run()
    rows = [word.to_bytes(taken.output_bytes, "little") for word in found]
    return taken.unpack_outputs(np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), -1))


@pytest.mark.parametrize("cutoff", [1, 2, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_core_is_exact_under_back_pressure(shape: str, cutoff: int) -> None:
    graph = forest_graph(5, **SHAPES[shape])
    x = vectors(graph, 100)
    assert (simulated(graph, cutoff, x) == reference.infer(graph, x)).all()


def from_the_wire(firmware: Firmware, x: np.ndarray) -> np.ndarray:
    with open_device("emulator:trees") as device:
        device.program(firmware)
        payload = device.infer(firmware.contract.pack_inputs(x))
        assert device.counters().latency_cycles == firmware.latency_cycles
    return firmware.contract.unpack_outputs(payload)


def test_the_top_is_exact_over_the_wire_and_a_planted_fault_is_caught() -> None:
    for tool in ("verilator", "g++", "pyosys"):
        require(tool)
    graph = forest_graph(7, trees=9, depth=4)
    x = vectors(graph, 2000)
    wanted = reference.infer(graph, x)
    firmware = rtl_firmware(graph, "icebreaker", cutoff=1)
    assert firmware.engine == "trees"
    assert (from_the_wire(firmware, x) == wanted).all()
    verilog = firmware.hdl["top.v"].decode()
    # one comparison answers the other way
    planted, count = re.subn(r"(assign \\?test0 =)([^;]*);", r"\1 !(\2);", verilog)
    if not count:
        planted, count = re.subn(r"(assign \\core\.test0 =)([^;]*);", r"\1 !(\2);", verilog)
    assert count == 1, "no comparison in the RTL"
    assert (from_the_wire(replace(firmware, hdl={"top.v": planted.encode()}), x) != wanted).any()


def test_two_cores_in_a_row_are_exact_under_back_pressure() -> None:
    first = forest_graph(4, arg_max=False, depth=4)
    (node,) = first.nodes
    assert isinstance(node, TreeEnsemble)
    # scores that the other one's thresholds, anywhere in the format, tell apart
    first = replace(first, nodes=(replace(node, value=128 * node.value, bias=0 * node.bias),))
    between = first.outputs[0].edge.fixed
    second = forest_graph(7, depth=6, input=between)
    x = vectors(first, 200)
    wanted = reference.infer(second, reference.infer(first, x))
    core = ChainedCore(*(build_core(plan_logic(graph), cutoff=2) for graph in (first, second)))
    found = through(core, first.contract(), second.contract(), x)
    assert (found == wanted).all()
    assert len(np.unique(wanted, axis=0)) > 10


def projected() -> Graph:
    x, y = load_wine(return_X_y=True)
    model = make_pipeline(PCA(3), RandomForestClassifier(4, max_depth=3, random_state=0)).fit(x, y)
    return quantize(read_model(model), x)[0]


def test_trees_behind_a_projection_are_exact_over_the_wire_and_a_planted_fault_is_caught() -> None:
    for tool in ("verilator", "g++", "pyosys"):
        require(tool)
    graph = projected()
    x = vectors(graph, 2000)
    wanted = reference.infer(graph, x)
    firmware = rtl_firmware(graph, "icebreaker", cutoff=2)
    assert firmware.engine == "trees"
    assert (from_the_wire(firmware, x) == wanted).all()
    # gateware whose projection lacks the weights of a column
    dense = next(node for node in graph.nodes if isinstance(node, Dense))
    planted = replace(dense, weight=dense.weight * np.array([0, 1, 1]))
    other = replace(graph, nodes=tuple(planted if node is dense else node for node in graph.nodes))
    wrong = rtl_firmware(other, "icebreaker", cutoff=2)
    assert (from_the_wire(replace(firmware, hdl=wrong.hdl, latency_cycles=wrong.latency_cycles), x) != wanted).any()


def test_the_engine_is_chosen_by_the_graph() -> None:
    graph = forest_graph()
    assert choose_engine(graph, "auto") == "trees"
    with pytest.raises(UnsupportedOperation, match="no unrolled gateware"):
        plan_logic(graph, "unrolled")
