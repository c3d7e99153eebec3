"""Combinational loops in a netlist: the way in which logic oscillates by itself and heats or crashes a chip.

A loop is a set of nets that reach each other through logic and not through a clocked register. Both kinds of netlist
that are read here give a graph from each net to the nets that its driver reads, and one search serves both. Not found
are oscillators that need a clock, and logic that only wastes power.
"""

# Ref: R. E. Tarjan, "Depth-first search and linear graph algorithms", SIAM J. Comput. 1 (1972)
# Ref: FPGADefender (Nguyen et al., TRETS 2020): ring oscillators through LUTs, latches and asynchronous resets
# Ref: Project IceStorm icebox_vlog: one statement a line: assign, always with an edge, always @* for latches
# Ref: yosys "write_json" and its cell library: $_DFF_*, $_SDFF*, $_ALDFF*, $_DFFSR*, $memrd_v2

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["Graph", "Loop", "decoded_graph", "find_loops", "netlist_graph"]

Graph = dict[str, set[str]]
"""Net to the nets that it follows from without a clock."""

Loop = tuple[str, ...]
"""Nets that reach each other, sorted."""

_COMMENT, _LITERAL = re.compile(r"/\*.*?\*/|//.*"), re.compile(r"\d*'[bdh][0-9a-fA-FxzXZ]+")
_NAME = re.compile(r"[A-Za-z_]\w*")
_ASSIGN = re.compile(r"^assign\s+(\w+(?:\s*\[\d+\])?)\s*=(.*);$")
_LATCH = re.compile(r"^always\s+@\*\s+if\s*\((.*?)\)\s*(\w+)\s*=(.*);$")
_RESET = re.compile(r"^always\s+@\(\w+edge\s+\w+,\s*\w+edge\s+(\w+)\)\s+if\s*\(\w+\)\s*(\w+)\s*<=")
_REGISTER = re.compile(r"\$_?(?:al|a|s)?d?ffs?r?", re.IGNORECASE)
_UNCLOCKED_PINS = {"R", "S", "L", "AD", "ARST", "CLR", "SET", "ALOAD"}


def find_loops(graph: Mapping[str, Iterable[str]]) -> list[Loop]:
    """Every combinational loop: the strongly connected sets of nets, and nets that follow from themselves."""
    return sorted(
        tuple(sorted(component))
        for component in _components(graph)
        if len(component) > 1 or component[0] in graph.get(component[0], ())
    )


def decoded_graph(verilog: str) -> Graph:
    """The graph of what ``icebox_vlog`` writes."""
    graph: Graph = {}
    for raw in verilog.splitlines():
        line = _COMMENT.sub("", raw).strip()
        if found := _ASSIGN.match(line):
            graph.setdefault(found[1].replace(" ", ""), set()).update(_names(found[2]))
        elif found := _LATCH.match(line):
            graph.setdefault(found[2], set()).update(_names(found[1]) | _names(found[3]) - {found[2]})
        elif found := _RESET.match(line):
            graph.setdefault(found[2], set()).add(found[1])
    return graph


def netlist_graph(netlist: Mapping[str, Any]) -> tuple[Graph, int]:
    """The graph of a flat design as yosys writes it in JSON, down to single gates; and how many cells are opaque.

    A cell is opaque when it is of a module that is not there, a vendor's primitive for example.
    """
    module = next(module for module in netlist["modules"].values() if int(str(module["attributes"].get("top", "0")), 2))
    names = _net_names(module)
    graph: Graph = {}
    opaque = 0
    for cell in module["cells"].values():
        if not cell["type"].startswith("$"):
            opaque += 1
            continue
        for outputs, inputs in _arcs(cell):
            for net in outputs:
                graph.setdefault(names(net), set()).update(names(one) for one in inputs)
    return graph, opaque


def _names(expression: str) -> set[str]:
    return set(_NAME.findall(_LITERAL.sub("", expression)))


def _net_names(module: Mapping[str, Any]) -> Any:
    known: dict[int, str] = {}
    for name, net in sorted(module["netnames"].items(), key=lambda item: (item[1].get("hide_name", 0), item[0])):
        for place, bit in enumerate(net["bits"]):
            if isinstance(bit, int):
                known.setdefault(bit, name if len(net["bits"]) == 1 else f"{name}[{place}]")
    return lambda bit: known.get(bit, f"net {bit}")


def _arcs(cell: Mapping[str, Any]) -> Iterator[tuple[list[int], list[int]]]:
    """Which outputs of a cell follow from which inputs without a clock."""
    pins = {name: [bit for bit in bits if isinstance(bit, int)] for name, bits in cell["connections"].items()}
    directions = cell["port_directions"]
    if cell["type"].startswith("$mem"):
        yield from _memory_arcs(cell)
        return
    inputs = [name for name in pins if directions[name] == "input"]
    if _REGISTER.match(cell["type"]):
        synchronous_reset = cell["type"].lower().lstrip("$_").startswith("sdff")
        inputs = [name for name in inputs if name in _UNCLOCKED_PINS and not synchronous_reset]
    sources = [bit for name in inputs for bit in pins[name]]
    yield [bit for name in pins if directions[name] == "output" for bit in pins[name]], sources


def _memory_arcs(cell: Mapping[str, Any]) -> Iterator[tuple[list[int], list[int]]]:
    if cell["type"].startswith("$memrd") and not int(str(cell["parameters"]["CLK_ENABLE"]), 2):
        data, address = cell["connections"]["DATA"], cell["connections"]["ADDR"]
        yield [bit for bit in data if isinstance(bit, int)], [bit for bit in address if isinstance(bit, int)]


def _components(graph: Mapping[str, Iterable[str]]) -> Iterator[list[str]]:
    """Strongly connected components, without recursion: a carry chain is deeper than Python's stack."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    pending: list[str] = []
    open_nets: set[str] = set()
    for root in graph:
        if root in order:
            continue
        work = [(root, iter(graph.get(root, ())))]
        order[root] = lowest[root] = len(order)
        pending.append(root)
        open_nets.add(root)
        while work:
            net, following = work[-1]
            step = next((one for one in following if one not in order or one in open_nets), None)
            if step is None:
                work.pop()
                if work:
                    lowest[work[-1][0]] = min(lowest[work[-1][0]], lowest[net])
                if lowest[net] == order[net]:
                    component = [pending.pop()]
                    while component[-1] != net:
                        component.append(pending.pop())
                    open_nets.difference_update(component)
                    yield component
            elif step in order:
                lowest[net] = min(lowest[net], order[step])
            else:
                order[step] = lowest[step] = len(order)
                pending.append(step)
                open_nets.add(step)
                work.append((step, iter(graph.get(step, ()))))
