"""Digits and the quick guess, against digits found by exhaustion and against the plan itself."""

from __future__ import annotations

import numpy as np
from models import float_graph, trained

from gatesmith.estimate.count import count_stages
from gatesmith.explore.cost import adder_bits, signed_digits
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


def test_the_guess_ranks_as_the_plan_does() -> None:
    graphs = [quantize(float_graph("regressor"), trained("regressor").x, precision=bits)[0] for bits in (8, 6, 5, 4, 3)]
    guesses = [adder_bits(graph) for graph in graphs]
    plans = [count_stages(cut(trace(graph), cutoff=4))[0].chain_bits for graph in graphs]
    assert guesses == sorted(guesses, reverse=True)
    assert plans == sorted(plans, reverse=True)
