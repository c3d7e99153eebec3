"""PyTorch models: exported programs, from ``.pt2`` files or in memory, and modules, which are exported here.

A program in memory is saved to bytes and read as a file is, so that there is one way in; it needs PyTorch, a file does
not. A softmax stays out of the gateware: its value is the edge before it, marked, and only an output may carry the mark
to the host.
"""
# Ref: PyTorch API: torch.export.export (dynamic_shapes, Dim.AUTO), torch.export.save; an operator whose name ends in
# Ref: an underscore changes its first argument in place

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from gatesmith.contract import HostOperation, HostOperationKind
from gatesmith.errors import ModelUnreadable, UnsupportedOperation
from gatesmith.frontends.frontend import SPLIT, Frontend, GraphBuilder
from gatesmith.frontends.reading import members, reading
from gatesmith.frontends.rounding import Grid
from gatesmith.frontends.torch_arrays import KEEP_VALUES, VIEWS
from gatesmith.frontends.torch_call import Call, Value
from gatesmith.frontends.torch_export import archive_of
from gatesmith.frontends.torch_file import Described, Program, Reference, Step, is_old_archive, is_program, load
from gatesmith.frontends.torch_operators import OPERATORS
from gatesmith.model.graph import Graph
from gatesmith.model.node import Edge
from gatesmith.tensor import Datatype

__all__ = ["TorchFrontend"]

SUFFIX = ".default"


class TorchFrontend(Frontend):
    """``.pt2`` files, ``ExportedProgram`` objects, modules, and pairs of a module and its example inputs."""

    name = "torch"

    def accepts(self, source: object) -> bool:
        if isinstance(source, Path):
            names = members(source)
            return is_program(names) or is_old_archive(names)
        if isinstance(source, tuple) and len(source) == 2:
            return _is(source[0], "torch.nn.modules.module", "Module")
        return _is(source, "torch.nn.modules.module", "Module") or _is(
            source, "torch.export.exported_program", "ExportedProgram"
        )

    def read(self, source: Any, *, name: str, trust_pickle: bool) -> Graph:
        del trust_pickle  # nothing in a file is unpickled, and there is no need to
        if not isinstance(source, Path):
            return _graph(load(io.BytesIO(archive_of(source)), "the exported program"), name, "the exported program")
        label = repr(str(source))
        if not is_program(members(source)):
            raise ModelUnreadable(
                f"{label} is a pickle of PyTorch, which holds no graph and runs code when it is read; "
                f"save torch.export.export(model, inputs) with torch.export.save, PyTorch 2.8 or newer",
                path=str(source),
            )
        with source.open("rb") as file:
            return _graph(load(file, label), name, label)


def _is(source: object, module: str, name: str) -> bool:
    return any(kind.__module__ == module and kind.__name__ == name for kind in type(source).mro())


def _graph(program: Program, name: str, label: str) -> Graph:
    with reading("PyTorch", label):
        return _Reader(program, name).run()


class _Reader:
    """Walks the steps of one program that its outputs depend on."""

    def __init__(self, program: Program, name: str) -> None:
        self.program = program
        self.builder = GraphBuilder(name, reserved=frozenset(name for name, _ in program.outputs))
        self.values: dict[str, Value] = dict(program.constants)
        self.described: dict[str, Described] = program.described
        self.grids: dict[str, Grid] = {}  # constants that are integers times a scale
        self.softmax: set[str] = set()  # values whose edge is the one before a softmax
        self.batch: int | None = None  # None when it is free

    def run(self) -> Graph:
        batches = {name: self._input(name) for name in self.program.inputs}
        if len(set(batches.values())) > 1:
            raise UnsupportedOperation(
                f"inputs have different batches: {batches} (None is free); they have to be equal"
            )
        self.batch = next(iter(batches.values()), None)
        steps = _needed(self.program)
        _check_in_place(self.program)
        last = {name: step for step in steps for name in _references(step)}
        for step in steps:
            self._step(step)
            for name in _references(step):
                # a constant that nothing more reads may be as large as the file
                if last[name] is step and not isinstance(self.values.get(name), Edge):
                    self.values.pop(name, None)
                    self.program.constants.pop(name, None)
        inputs = {terminal.edge.name for terminal in self.builder.inputs}
        for name, value in self.program.outputs:
            self._output(f"{name}_output" if name in inputs else name, value)
        self.builder.drop_unread()
        return self.builder.graph()

    def _input(self, name: str) -> int | None:
        """A new edge; returns the size of its batch."""
        described = self.described[name]
        first, *rest = described.sizes or (0,)
        sizes = [size or 0 for size in rest]
        if not described.sizes or first == 0 or min(sizes, default=0) < 1:
            raise UnsupportedOperation(
                f"input {name!r} has the shape {list(described.sizes)} (None is free); a batch first, then fixed sizes "
                f"are needed",
                node=name,
            )
        self.values[name] = self.builder.input(name, tuple(sizes), self._datatype(name))
        return first

    def _datatype(self, name: str) -> Datatype:
        dtype = self.described[name].dtype
        found = None if dtype is None else Datatype.of(dtype)
        if found is None:
            raise UnsupportedOperation(f"tensor {name!r} holds no real numbers", node=name)
        return found

    def _output(self, name: str, value: str) -> None:
        edge = self.values.get(value)
        if not isinstance(edge, Edge):
            raise UnsupportedOperation(f"output {name!r} does not depend on the input", node=name)
        host = (HostOperation(kind=HostOperationKind.SOFTMAX),) if value in self.softmax else ()
        self.builder.output(edge, name, datatype=self._datatype(value), host=host)

    def _step(self, step: Step) -> None:
        call = Call(self, step)
        operator = OPERATORS.get(_functional(step.operator))
        if operator is None:
            names = ", ".join(sorted(name.removesuffix(SUFFIX) for name in OPERATORS))
            raise call.refuse(f"is not supported; supported are {names}; {SPLIT}")
        read = list(_references(step))
        after_softmax = [name for name in read if name in self.softmax]
        results = call.run(operator)
        for name, result in zip(step.outputs, results, strict=False):
            self._checked(call, name, result)
            self.values[name] = result
        if after_softmax and step.operator != "aten.argmax.default":
            self._still_softmax(call, after_softmax[0], results)
        if step.operator != _functional(step.operator):
            self.values[read[0]] = results[0]
            self.softmax.update(read[:1] if step.outputs[0] in self.softmax else [])

    def _still_softmax(self, call: Call, before: str, results: list[Value]) -> None:
        if call.step.operator not in KEEP_VALUES or results[0] is not self.values[before]:
            raise call.refuse(
                f"reads the softmax {before!r}, which the host computes after the gateware; it must be last"
            )
        self.softmax.add(call.step.outputs[0])

    def _checked(self, call: Call, name: str, result: Value) -> None:
        """What was made has to be as large as the program says: an independent witness of each operator."""
        if not isinstance(result, Edge) or name not in self.described:
            return
        wanted = self.described[name].sizes
        if len(wanted) != len(result.shape) + 1 or any(
            size is not None and size != found for size, found in zip(wanted[1:], result.shape, strict=True)
        ):
            raise call.refuse(f"gives {[-1, *result.shape]} here, the program says {list(wanted)}")


def _functional(operator: str) -> str:
    """The operator that gives what this one writes over its first argument."""
    name, dot, overload = operator.rpartition(".")
    return operator if not name.endswith("_") or operator in OPERATORS else f"{name[:-1]}{dot}{overload}"


def _references(step: Step) -> list[str]:
    """The tensors and sizes that a step reads, in order."""
    found: list[str] = []
    for given in step.arguments.values():
        for one in given if isinstance(given, list) else [given]:
            if isinstance(one, Reference):
                found.append(one.name)
    return found


def _needed(program: Program) -> list[Step]:
    """The steps that an output depends on; one that changes a tensor in place belongs to it."""
    needed = {value for _, value in program.outputs}
    found: list[Step] = []
    for step in reversed(program.steps):
        in_place = step.operator != _functional(step.operator)
        read = _references(step)
        if needed.intersection(step.outputs) or (in_place and read and read[0] in needed):
            needed.update(read)
            found.append(step)
    return found[::-1]


def _check_in_place(program: Program) -> None:
    """Refuse a change in place that shows under another name: a view of the tensor, or what it is a view of."""
    steps = program.steps
    owner: dict[str, str] = {}
    last: dict[str, int] = {value: len(steps) for _, value in program.outputs}
    for i, step in enumerate(steps):
        for name in _references(step):
            last[name] = max(last.get(name, 0), i)
    for i, step in enumerate(steps):
        read = _references(step)
        in_place = step.operator != _functional(step.operator)
        if read and (in_place or step.operator in VIEWS):
            owner.update(dict.fromkeys(step.outputs, owner.get(read[0], read[0])))
        if not in_place or not read:
            continue
        whole = owner.get(read[0], read[0])
        others = {name for name, of in owner.items() if of == whole} | {whole}
        seen = sorted(name for name in others - {read[0], *step.outputs} if last.get(name, -1) > i)
        if seen:
            raise UnsupportedOperation(
                f"node {step.name!r} ({step.operator}) changes {read[0]!r} in place, which is read as {seen[0]!r} "
                f"after it; export the program with .run_decompositions({{}})",
                node=step.name,
                operation=step.operator,
            )
