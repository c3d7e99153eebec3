"""The engines by name: which one takes a graph, its plan, and the core of the plan."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from gatesmith.gateware.chain import ChainedCore
from gatesmith.gateware.core import Core
from gatesmith.gateware.forest import Forest, parted, plant
from gatesmith.gateware.trace import AdderGraph, trace
from gatesmith.gateware.trees import grow
from gatesmith.gateware.unrolled import unroll
from gatesmith.model.ensemble import TreeEnsemble
from gatesmith.model.graph import Graph

__all__ = ["Logic", "build_core", "choose_engine", "plan_logic"]

Logic: TypeAlias = AdderGraph | Forest
"""What an engine makes of a graph before anything is cut into stages; it can ``infer`` integers itself."""


def choose_engine(graph: Graph, engine: str) -> str:
    """The engine's name where ``auto`` leaves it open: ``trees`` for an ensemble of them."""
    if engine != "auto":
        return engine
    return "trees" if any(isinstance(node, TreeEnsemble) for node in graph.nodes) else "unrolled"


def plan_logic(graph: Graph, engine: str = "auto") -> Logic:
    """The plan of an integer graph.

    Raises
    ------
    UnsupportedOperation
        When the engine does not take one of the graph's nodes.
    """
    if choose_engine(graph, engine) != "trees":
        return trace(graph)
    before, trees = parted(graph)
    return plant(trees) if before is None else replace(plant(trees), front=trace(before))


def build_core(logic: Logic, *, cutoff: int) -> Core:
    """The plan, cut into stages of at most ``cutoff`` levels."""
    if not isinstance(logic, Forest):
        return unroll(logic, cutoff=cutoff)
    trees = grow(logic, cutoff=cutoff)
    return trees if logic.front is None else ChainedCore(unroll(logic.front, cutoff=cutoff), trees)
