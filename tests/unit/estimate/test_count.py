"""What is counted of an adder graph and of trees, against figures worked out by hand and against the RTL itself."""

from __future__ import annotations

import numpy as np
import pytest
from cores import used
from forests import forest_graph
from models import float_graph, integer_graph, node_graph, trained
from networks import mlp

from gatesmith.estimate.count import Parts, count_stages, table_luts
from gatesmith.estimate.paths import Path
from gatesmith.estimate.trees import count_trees
from gatesmith.fixed import FixedPoint
from gatesmith.gateware.engines import build_core, plan_logic
from gatesmith.gateware.trace import trace
from gatesmith.gateware.unrolled import cut
from gatesmith.model.graph import Graph, Terminal
from gatesmith.model.nodes import Dense, Edge
from gatesmith.quantize import quantize

U4 = FixedPoint(False, 4, 0)


def dense(weight: list[list[float]], output: FixedPoint) -> Graph:
    matrix = np.array(weight)
    x = Edge(name="x", shape=(len(matrix),), format=U4)
    y = Edge(name="y", shape=(matrix.shape[1],), format=output)
    node = Dense(name="d", inputs=("x",), output=y, weight=matrix, bias=np.zeros(matrix.shape[1]))
    return Graph(name="g", inputs=(Terminal(edge=x),), nodes=(node,), outputs=(Terminal(edge=y),))


def counted(graph: Graph, cutoff: int = 1) -> tuple[Parts, list[Path]]:
    return count_stages(cut(trace(graph), cutoff=cutoff))


def test_one_adder() -> None:
    parts, paths = counted(dense([[1.0], [1.0]], FixedPoint(False, 5, 0)))
    # two numbers of 4 bits: a sum of 5, kept in 5 registers
    assert (parts.chains, parts.chain_bits, parts.registers, parts.gates) == (1, 5, 5, 0)
    assert (paths[-1].adders, paths[-1].bits) == (1, 4)


def test_bits_below_the_other_operand_cost_nothing() -> None:
    parts, _ = counted(dense([[1.0], [4.0]], FixedPoint(False, 7, 0)))
    assert (parts.chains, parts.chain_bits) == (1, 5)  # 7 bits of sum, the lowest two pass


def test_a_negative_operand_below_the_other_needs_its_borrow() -> None:
    parts, _ = counted(dense([[4.0], [-1.0]], FixedPoint(True, 6, 0)))
    assert parts.chain_bits == 7


def test_a_power_of_two_is_wiring() -> None:
    parts, paths = counted(dense([[2.0]], FixedPoint(False, 5, 0)))
    assert parts == Parts(registers=4, bare=4)
    assert paths == [Path()]


def test_a_sum_that_is_used_twice_counts_once() -> None:
    once, _ = counted(dense([[1.0], [1.0]], FixedPoint(False, 5, 0)))
    twice, _ = counted(dense([[1.0, 2.0], [1.0, 2.0]], FixedPoint(False, 6, 0)))
    assert twice.chain_bits == once.chain_bits
    assert twice.registers == once.registers


def test_relu_and_tables() -> None:
    relu, _ = counted(node_graph("ReLU"))
    assert (relu.gates, relu.chains) == (3 * 7, 0)
    table, paths = counted(node_graph("LookupTable"))
    assert table.table_luts == 3 * 8 * table_luts(8)
    assert max(path.luts for path in paths) == 5
    assert [table_luts(n) for n in (3, 4, 5, 6)] == [1, 1, 3, 7]


@pytest.mark.parametrize("cutoff", [1, 2, 4])
def test_smaller_stages_have_shorter_paths_and_more_registers(cutoff: int) -> None:
    here, paths = counted(integer_graph("iris"), cutoff)
    below, longer = counted(integer_graph("iris"), cutoff + 1)
    assert max(path.length for path in paths) <= max(path.length for path in longer)
    assert here.registers > below.registers
    assert here.chain_bits == below.chain_bits


@pytest.mark.parametrize("name", ["iris", "regressor", "cancer"])
def test_registers_are_those_of_the_core(name: str) -> None:
    graph = integer_graph(name)
    core = used(build_core(plan_logic(graph), cutoff=2))
    parts, paths = count_stages(core.stages)  # type: ignore[attr-defined]
    widths = [stage.out_qint for stage in core.stages]  # type: ignore[attr-defined]
    assert len(paths) == core.latency_cycles
    assert 0 < parts.registers <= sum(_bits(interval) for stage in widths for interval in stage)


def _bits(interval: tuple[float, float, float]) -> int:
    low, high, step = (float(v) for v in interval)
    return 0 if low == high == 0 else FixedPoint.covering(round(low / step), round(high / step), 0).width


def test_fewer_bits_are_fewer_parts() -> None:
    parts = [counted(quantize(float_graph("iris"), trained("iris").x, precision=bits)[0])[0] for bits in (4, 6, 8)]
    assert parts[0].chain_bits < parts[1].chain_bits < parts[2].chain_bits


@pytest.mark.parametrize("cutoff", [1, 2, 3, 4])
@pytest.mark.parametrize("arg_max", [True, False])
def test_trees_have_a_path_for_each_cycle(cutoff: int, arg_max: bool) -> None:
    logic = plan_logic(forest_graph(arg_max=arg_max))
    parts, paths = count_trees(logic, cutoff=cutoff)  # type: ignore[arg-type]
    assert len(paths) == used(build_core(logic, cutoff=cutoff)).latency_cycles
    assert parts.tree_luts > 0
    assert parts.registers > 0
    assert all(path.length > 0 for path in paths)


def test_more_trees_are_more_parts() -> None:
    few, many = (count_trees(plan_logic(forest_graph(trees=n)), cutoff=2)[0] for n in (4, 12))  # type: ignore[arg-type]
    assert many.tree_luts > 2 * few.tree_luts
    assert many.chains > few.chains


def test_five_thousand_weights_are_counted_in_seconds() -> None:
    graph = quantize(mlp(16, 48, 16, 5), np.random.default_rng(0).normal(size=(100, 16)), precision=4)[0]
    parts, _ = counted(graph, 4)
    assert parts.chains > 400
