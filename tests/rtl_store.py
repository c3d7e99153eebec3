"""Artifacts whose firmware has RTL and no bitstream: what the run side needs, in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from built import rtl_firmware

from gatesmith.artifact.store import Store
from gatesmith.model.graph import Graph
from gatesmith.quantize import quantize

__all__ = ["save_rtl"]


def save_rtl(path: Path, reference: str, graph: Graph, *, boards: tuple[str, ...], precision: int = 4) -> Path:
    """Quantise a float graph on random samples and store firmware for each board; the store's path."""
    shape = graph.inputs[0].edge.shape
    samples = np.random.default_rng(2).normal(size=(100, *shape))
    integer = quantize(graph, samples, precision=precision)[0]
    Store(path).save(reference, [rtl_firmware(integer, board) for board in boards])
    return path
