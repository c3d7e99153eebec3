"""One operator of an exported PyTorch program at work: its arguments, and the error that names it.

An operator that only moves numbers is written once, as a function of an array. It arranges constants as it is, and
edges by the places of their elements: those of two samples are arranged, so that one that mixes or cuts the batch
shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gatesmith.errors import GatesmithError, ModelUnreadable, UnsupportedOperation
from gatesmith.frontends.frontend import MAX_GATHERED, GraphBuilder
from gatesmith.frontends.reading import words
from gatesmith.frontends.rounding import Grid
from gatesmith.frontends.torch_file import Described, Reference, Step
from gatesmith.model.node import Edge, Real

__all__ = ["BATCH", "Array", "Batch", "Call", "Operator", "Value"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """The size of the batch where that is free."""


BATCH = Batch()

Value = Edge | Array | int | Batch | None

Operator = Callable[["Call"], Any]


class Reader(Protocol):
    """What an operator needs of the program around it."""

    builder: GraphBuilder
    values: dict[str, Value]
    grids: dict[str, Grid]
    softmax: set[str]
    batch: int | None
    described: dict[str, Described]


class Call:
    """One step with its arguments at hand."""

    def __init__(self, reader: Reader, step: Step) -> None:
        self.reader = reader
        self.step = step
        self.name = step.name
        self.builder = reader.builder

    def run(self, operator: Operator) -> list[Value]:
        """What comes out, in order."""
        try:
            made = operator(self)
        except GatesmithError:
            raise
        except Exception as error:
            # arguments and sizes that PyTorch would not have let through
            raise ModelUnreadable(
                f"node {self.name!r} ({self.step.operator}) is not valid: {words(error)}", node=self.name
            ) from error
        return made if isinstance(made, list) else [made]

    def refuse(self, reason: str) -> UnsupportedOperation:
        """The error that names this node."""
        operator = self.step.operator
        return UnsupportedOperation(f"node {self.name!r} ({operator}) {reason}", node=self.name, operation=operator)

    def has(self, key: str) -> bool:
        """Whether the argument is given and not None."""
        return self.step.arguments.get(key) is not None

    def option(self, key: str, default: Any = None) -> Any:
        """An argument that is no tensor."""
        found = self.step.arguments.get(key)
        return default if found is None else self._number(found)

    def _number(self, given: Any) -> Any:
        if not isinstance(given, Reference):
            return given
        found = self.reader.values.get(given.name)
        if isinstance(found, int | Batch):
            return found
        raise self.refuse(f"computes with the size {given.name!r}, which depends on the batch")

    def whole(self, key: str, count: int | None = None, default: Sequence[int] | None = None) -> list[int]:
        """Whole numbers; one of them stands for all when a count is given."""
        given = self.option(key, default)
        if given is None:
            raise self.refuse(f"has no {key}")
        found = [self._number(n) for n in given] if isinstance(given, list | tuple) else [given]
        if any(isinstance(n, Batch) for n in found):
            raise self.refuse(f"has the size of the batch in its {key}")
        return [int(n) for n in found] * (count or 1) if len(found) == 1 and count else [int(n) for n in found]

    def sizes(self, key: str) -> list[int]:
        """A shape to make of ``self``: of two samples where that is an edge, of one where it is a constant."""
        found = [self._number(n) for n in self.option(key)]
        is_edge = isinstance(self.value("self"), Edge)
        if found and (
            found[0] == BATCH or (is_edge and self.reader.batch is not None and found[0] == self.reader.batch)
        ):
            found[0] = 2 if is_edge else 1
        if any(isinstance(n, Batch) for n in found):
            raise self.refuse(f"moves the batch to axis {found.index(BATCH)}, it has to stay first")
        return [int(n) for n in found]

    def value(self, key: str) -> Edge | Array:
        """An argument as an edge or a constant; numbers are constants too."""
        given = self.step.arguments.get(key)
        if not isinstance(given, Reference):
            if isinstance(given, bool | int | float):
                return np.array(given, dtype=np.float64 if isinstance(given, float) else None)
            raise self.refuse(f"has no {key}")
        return self.tensor(given)

    def tensor(self, given: Reference) -> Edge | Array:
        """The same of a name."""
        found = self.reader.values.get(given.name)
        if not isinstance(found, Edge | np.ndarray):
            raise self.refuse(f"reads {given.name!r}, which is no input, weight or result of a node before")
        return found

    def edge(self, key: str = "self") -> Edge:
        """An argument that has to depend on the model's inputs."""
        value = self.value(key)
        if not isinstance(value, Edge):
            raise self.refuse(f"has a constant for {key}, where the data is needed")
        return value

    def real(self, key: str = "self") -> Edge:
        """The same, for an operator that gives real numbers; whole ones would wrap."""
        edge, made = self.edge(key), self.described(self.step.outputs[0]).dtype
        if made is None or made.kind != "f":
            raise self.refuse(f"computes {made} data; make it real before, with .float()")
        return edge

    def described(self, name: str) -> Described:
        """What the program says of a value."""
        if name not in self.reader.described:
            raise self.refuse(f"has to do with {name!r}, of which neither size nor type are known")
        return self.reader.described[name]

    def constant(self, key: str) -> Array:
        """An argument that has to be constant."""
        value = self.value(key)
        if isinstance(value, Edge):
            raise self.refuse(f"has data for {key}, where a constant is needed")
        return value

    def weights(self, key: str) -> Real:
        """The same in float64."""
        return self.constant(key).astype(np.float64)

    def grid(self, key: str) -> Grid | None:
        """What a constant is made of, where the model rounded it."""
        given = self.step.arguments.get(key)
        return self.reader.grids.get(given.name) if isinstance(given, Reference) else None

    def axis(self, x: Edge, key: str = "dim", default: int | None = None) -> int:
        """An axis of the batch's data as an axis of the sample."""
        return self.place(x, self.whole(key, None, None if default is None else [default])[0])

    def place(self, x: Edge, axis: int) -> int:
        """The same of a number."""
        count = len(x.shape) + 1
        if not -count <= axis < count or axis % count == 0:
            raise self.refuse(f"works on axis {axis} of {[-1, *x.shape]}; the batch, axis 0, stays as it is")
        return axis % count - 1

    def aligned(self, constant: Array, shape: tuple[int, ...]) -> Real:
        """A constant that broadcasts with the batch's data of this shape, without the batch's axis."""
        real = np.asarray(constant, dtype=np.float64)
        if real.ndim > len(shape) + 1:
            raise self.refuse(f"has a constant of shape {list(real.shape)} for data of {[-1, *shape]}: more axes")
        if real.ndim > len(shape):
            if real.shape[0] != 1:
                raise self.refuse(f"has a constant of shape {list(real.shape)} that differs over the batch")
            real = real[0]
        return real

    def expanded(self, x: Edge, shape: tuple[int, ...]) -> Edge:
        """The edge broadcast to a shape."""
        if x.shape == shape:
            return x
        self.check_size(shape)
        places = np.arange(x.elements).reshape(x.shape)
        return self.builder.gather(f"{self.name}/wide", x, np.broadcast_to(places, shape))

    def common(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that data of these shapes has together."""
        try:
            return np.broadcast_shapes(*shapes)
        except ValueError:
            listed = " and ".join(str(list(shape)) for shape in shapes)
            raise self.refuse(f"has data of shapes {listed} beside the batch, which do not fit") from None

    def check_size(self, shape: Sequence[int]) -> None:
        """Refuse more numbers than a node may make."""
        if math.prod(shape) > MAX_GATHERED:
            raise self.refuse(f"makes {math.prod(shape)} numbers, {MAX_GATHERED} are possible")

    def arranged(self, x: Edge, change: Callable[[Array], Array], name: str = "", fill: float = 0.0) -> Edge:
        """The edge's elements where the function puts them; where it puts -1 is ``fill``."""
        name, count = name or self.name, x.elements
        self.check_size((2, count))
        index = np.asarray(change(np.arange(2 * count).reshape(2, *x.shape)))
        self.check_size(index.shape[1:])
        if index.shape[:1] != (2,) or not index.size:
            raise self.refuse(f"makes data of shape {list(index.shape)} of 2 samples of {list(x.shape)}")
        first = index[0]
        if (first >= count).any() or (index[1] != np.where(first < 0, -1, first + count)).any():
            raise self.refuse("moves numbers from one sample to another; the batch, axis 0, stays as it is")
        if first.size == count and (first.ravel() == np.arange(count)).all():
            return self.builder.reshape(name, x, first.shape)
        return self.builder.gather(name, x, first, fill)
