"""Digits and the quick guess, against digits found by exhaustion and against the plan itself."""

from __future__ import annotations

import numpy as np
import pytest
from models import float_graph, trained

from gatesmith.estimate.count import count_stages
from gatesmith.explore.cost import adder_bits, planning_effort, signed_digits
from gatesmith.explore.searcher import PACE
from gatesmith.frontends.frontend import GraphBuilder
from gatesmith.gateware.trace import trace
from gatesmith.gateware.unrolled import cut
from gatesmith.quantize import quantize


def fewest_digits(number: int) -> int:
    """By breadth: the sums and differences of so many powers of two."""
    reached, count = {0}, 0
    while number not in reached:
        reached |= {value + sign * 2**i for value in reached for sign in (-1, 1) for i in range(10)}
        count += 1
    return count


def test_digits_are_the_fewest() -> None:
    numbers = list(range(-70, 71))
    assert signed_digits(np.array(numbers, dtype=float)).tolist() == [fewest_digits(n) for n in numbers]


def test_digits_do_not_depend_on_the_point() -> None:
    assert signed_digits(np.array([0.0, 0.75, -5.0, 2.5])).tolist() == [0, 2, 2, 2]


MEASURED = {
    (64, 64, 9374): 6.94, (96, 96, 14135): 22.2, (32, 128, 7377): 3.36, (32, 256, 14640): 13.8,
    (128, 32, 7366): 7.42, (256, 32, 13337): 36.0, (784, 16, 12796): 89.4,
}  # fmt: skip
"""Rows, columns and digits of a matrix, and the seconds of one core that da4ml took for its plan."""


@pytest.mark.parametrize("shape", MEASURED)
def test_the_effort_of_a_plan_grows_as_was_measured(shape: tuple[int, int, int]) -> None:
    rows, columns, digits = shape
    each, more = divmod(digits, rows * columns)
    counts = each + (np.arange(rows * columns) < more)
    weight = ((4.0**counts - 1) / 3).reshape(rows, columns)  # a one in every second place
    assert signed_digits(weight).sum() == digits
    builder = GraphBuilder("one")
    builder.output(builder.dense("dense", builder.input("x", (rows,)), weight), "y")
    assert 0.25 < planning_effort(builder.graph()) * PACE / MEASURED[shape] < 1.0


def test_each_window_is_planned() -> None:
    efforts = []
    for windows in (1, 6):
        builder = GraphBuilder("windows")
        x = builder.input("x", (windows, 3))
        builder.output(builder.dense("dense", x, np.array([[0.5, 3], [1.25, -7], [0, 1]])), "y")
        efforts.append(planning_effort(quantize(builder.graph(), np.ones((4, windows, 3)))[0]))
    assert efforts[1] == 6 * efforts[0]


def test_the_guess_ranks_as_the_plan_does() -> None:
    graphs = [quantize(float_graph("regressor"), trained("regressor").x, precision=bits)[0] for bits in (8, 6, 5, 4, 3)]
    guesses = [adder_bits(graph) for graph in graphs]
    plans = [count_stages(cut(trace(graph), cutoff=4))[0].chain_bits for graph in graphs]
    assert guesses == sorted(guesses, reverse=True)
    assert plans == sorted(plans, reverse=True)
