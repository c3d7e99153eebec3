"""What a precision may cost: a measure in per cent, its loss in points, and what few samples can say about it.

Classes are measured by accuracy where labels are given and by agreement with the float model where not; numbers by R2,
the share of the variance that is explained, of the targets or of the float model's answers.

A loss that was counted on few samples is a coarse number, and the search would learn to please just these. So three
things are asked of a precision: the counted loss with its standard error; the expected loss, which takes the outputs'
error as noise and counts every sample by how likely that noise changes its class; and a bound on all changes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatesmith.contract import HostOperationKind
from gatesmith.errors import AccuracyLost
from gatesmith.model.graph import Graph, Terminal
from gatesmith.model.nodes import ArgMax

__all__ = ["TOLERANCES", "Classes", "Goal", "Limits", "Measured", "Numbers", "farthest", "goal_for"]

Real = NDArray[np.float64]
Outputs = Mapping[str, Real]

CHANGES = 2.0
"""So many changed classes are allowed for each that may be lost: most changes are between classes that are both wrong
or as likely as each other."""

NOISE = 1.5
"""The error counts so many times: a model is surer of the samples that it was trained on, and those are what most give
for calibration, than of others."""

SMALLEST = 1e-300

TOLERANCES = (0.0, 50.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Of one precision, all but ``error`` in per cent: the measure, and the losses of the module's text.

    ``error`` is the outputs' squared error, which adds up over tensors, so that steps can be compared.
    """

    value: float
    loss: float
    upper: float
    expected: float
    changed: float
    error: float

    def within(self, tolerance: float) -> bool:
        """Whether the loss is tolerable."""
        return max(self.upper, self.expected, self.changed) <= tolerance


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a precision may lose.

    Parameters
    ----------
    tolerance : float
        Points of the measure.
    max_error : float, optional
        Most that any output of any sample may be from the float model's.

    Raises
    ------
    AccuracyLost
        When a number is out of range.
    """

    tolerance: float
    max_error: float | None = None

    def __post_init__(self) -> None:
        if not TOLERANCES[0] <= self.tolerance <= TOLERANCES[1]:
            raise AccuracyLost(
                f"tolerance is {self.tolerance:g} points, {TOLERANCES[0]:g} to {TOLERANCES[1]:g} are possible",
                tolerance=self.tolerance,
            )
        if self.max_error is not None and not 0 < self.max_error < math.inf:
            raise AccuracyLost(f"max error is {self.max_error:g}, a positive number is needed")

    def allow(self, measured: Measured, error: float) -> bool:
        """Whether a loss and the largest error are tolerable."""
        return measured.within(self.tolerance) and not self._too_far(error)

    def refusal(self, bits: int, loss: float, error: float, *, metric: str, samples: int) -> AccuracyLost:
        """What is said when so many bits are too few."""
        if self._too_far(error):
            return AccuracyLost(
                f"{bits} bits everywhere miss the float model's outputs by {error:.3g} on {samples} samples, and "
                f"{self.max_error:g} is possible; use a higher --max-error",
                error=error,
                samples=samples,
            )
        return AccuracyLost(
            f"{bits} bits everywhere lose {loss:.2f} points of {metric} on {samples} samples, with what these "
            f"can tell, and {self.tolerance:g} may be lost; use a higher --tolerance or more calibration data",
            tolerance=self.tolerance,
            samples=samples,
        )

    def to_json(self) -> dict[str, float]:
        """A plain dictionary of those that there are."""
        return {"tolerance": self.tolerance, **({} if self.max_error is None else {"max_error": self.max_error})}

    def _too_far(self, error: float) -> bool:
        return self.max_error is not None and not error <= self.max_error


class Goal(ABC):
    """Compares outputs with what the float model gave for the same samples."""

    metric: str
    reference: float
    """The float model's own measure."""

    @abstractmethod
    def measure(self, outputs: Outputs) -> Measured:
        """Outputs of an integer graph, for the samples of the goal."""


class Classes(Goal):
    """One output of scores, or of class numbers.

    Parameters
    ----------
    wanted : ndarray of float64, shape (samples, classes), or (samples,) for class numbers
    labels : ndarray of int64, shape (samples,), optional
    """

    def __init__(self, terminal: Terminal, wanted: Real, labels: NDArray[np.int64] | None) -> None:
        self.terminal, self.labels = terminal, labels
        self.scores = self._scores(wanted)
        self.top = self._classes(self.scores)
        self.metric = "agreement" if labels is None else "accuracy"
        self.truth = self.top if labels is None else labels
        self.right = self.top == self.truth
        self.reference = 100 * float(np.mean(self.right))
        if self.scores.ndim > 1:
            rows = np.arange(len(self.top))
            self.margins = self.scores[rows, self.top][:, None] - self.scores
            nearest = np.partition(self.margins, 1, axis=1)[:, 1]
            self.close = nearest <= np.median(nearest)

    def _scores(self, values: Real) -> Real:
        flat = values.reshape(len(values), -1)
        if flat.shape[1] == 1:
            return np.asarray(flat[:, 0])
        softmax = any(operation.kind is HostOperationKind.SOFTMAX for operation in self.terminal.host)
        return np.log(np.maximum(flat, SMALLEST)) if softmax else flat

    @staticmethod
    def _classes(scores: Real) -> NDArray[np.int64]:
        return np.asarray(np.rint(scores) if scores.ndim == 1 else scores.argmax(axis=1), dtype=np.int64)

    def measure(self, outputs: Outputs) -> Measured:
        scores = self._scores(outputs[self.terminal.edge.name])
        top, count = self._classes(scores), len(self.top)
        right = top == self.truth
        lost, won = int(np.sum(self.right & ~right)), int(np.sum(~self.right & right))
        loss = 100 * (lost - won) / count
        expected, changed, error = self._as_noise(scores)
        return Measured(
            value=100 * float(np.mean(right)),
            loss=loss,
            upper=loss + 100 * math.sqrt(lost + won) / count,
            expected=expected,
            changed=changed if self.labels is None else changed / CHANGES,
            error=error,
        )

    def _as_noise(self, scores: Real) -> tuple[float, float, float]:
        """Expected loss and changes in per cent, and the squared error of the scores' differences."""
        if scores.ndim == 1:
            share = float(np.mean(self._classes(scores) != self.top))
            return 100 * share, 100 * share, share
        rows = np.arange(len(self.top))
        error = scores - self.scores
        relative = error[rows, self.top][:, None] - error
        others = self.scores.shape[1] - 1
        # far from a border no error matters, however large
        variance = float(np.sum(relative[self.close] ** 2) / (np.sum(self.close) * others))
        if variance == 0.0:
            return 0.0, 0.0, 0.0
        chance = _below(-self.margins / (NOISE * math.sqrt(variance)))
        chance[rows, self.top] = 0.0
        chance[self.margins == 0.0] = 0.0  # of equal scores the first wins, whatever error they share
        chance /= np.maximum(1.0, chance.sum(axis=1, keepdims=True))
        is_truth = np.zeros_like(chance)
        known = (self.truth >= 0) & (self.truth < chance.shape[1])
        is_truth[rows[known], self.truth[known]] = 1.0
        lost = chance.sum(axis=1) * self.right - np.sum(chance * is_truth, axis=1)
        return 100 * float(np.mean(lost)), 100 * float(np.mean(chance.sum(axis=1))), variance


class Numbers(Goal):
    """Every output's numbers, each scaled by its spread.

    Parameters
    ----------
    wanted : mapping of str to ndarray of float64, shape (samples, *edge shape)
    targets : ndarray of float64, shape (samples, all outputs' elements), optional
    """

    def __init__(self, wanted: Outputs, targets: Real | None) -> None:
        self.wanted, self.targets = _flat(wanted), targets
        self.metric = "r2_to_float_model" if targets is None else "r2"
        self.truth = self.wanted if targets is None else targets
        self.spread = _spread(self.truth)
        self.own = _spread(self.wanted)
        self.before = (self.wanted - self.truth) ** 2 / self.spread
        self.reference = 100 * (1 - float(np.mean(self.before)))

    def measure(self, outputs: Outputs) -> Measured:
        given = _flat(outputs)
        after = (given - self.truth) ** 2 / self.spread
        more = (after - self.before).mean(axis=1)
        loss = 100 * float(np.mean(more))
        error = float(np.mean((given - self.wanted) ** 2 / self.own))
        share = 1.0 if self.targets is None else CHANGES
        return Measured(
            value=100 * (1 - float(np.mean(after))),
            loss=loss,
            upper=loss + 100 * float(np.std(more)) / math.sqrt(len(more)),
            expected=loss,
            changed=100 * error / share,
            error=error,
        )


def goal_for(graph: Graph, wanted: Outputs, labels: NDArray[np.int64] | Real | None) -> Goal:
    """Classes where an output holds several scores or the number of the largest; numbers for all others."""
    terminal = classifying(graph)
    if terminal is None:
        return Numbers(wanted, None if labels is None else np.asarray(labels, dtype=np.float64))
    indices = None if labels is None else np.asarray(labels, dtype=np.int64)
    return Classes(terminal, wanted[terminal.edge.name], indices)


def classifying(graph: Graph) -> Terminal | None:
    """The output that tells the class, scores before numbers."""
    numbers = {node.output.name for node in graph.nodes if isinstance(node, ArgMax)}
    several = [t for t in graph.outputs if _is_scores(t)]
    return next(iter([*several, *(t for t in graph.outputs if t.edge.name in numbers)]), None)


def _is_scores(terminal: Terminal) -> bool:
    """One axis of scores; several numbers that the model was trained to hit look the same, and are taken for scores."""
    shape = terminal.spec.shape[1:]  # what clients see: the host may make one number of several
    return 1 < math.prod(shape) == max(shape, default=1)


def farthest(wanted: Outputs, given: Outputs) -> float:
    """The largest difference of any output."""
    return max(float(np.max(np.abs(values - given[name]))) for name, values in wanted.items())


def _flat(outputs: Outputs) -> Real:
    return np.concatenate([values.reshape(len(values), -1) for values in outputs.values()], axis=1)


def _spread(values: Real) -> Real:
    spread = values.var(axis=0)
    return np.asarray(np.where(spread > 0, spread, 1.0))


def _below(z: Real) -> Real:
    """The normal distribution's share below z, to within 1e-7."""
    # Ref: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.2.17
    t = 1 / (1 + 0.2316419 * np.abs(z))
    series = (0.319381530, -0.356563782, 1.781477937, -1.821255978, 1.330274429)
    tail = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) * sum(c * t**i for i, c in enumerate(series, start=1))
    return np.asarray(np.where(z < 0, tail, 1 - tail))
