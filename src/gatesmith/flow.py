"""The sentence in code: model -> graph -> gateware -> bitstream -> firmware, the stages composed once.

A build tries pipeline cut-offs, the cheapest first, until the placed design reaches the board's clock; it then runs
the design's own RTL on an emulated board and compares it with the reference, so no firmware leaves here unproved.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.aim import Aim
from gatesmith.artifact.descriptor import digest_of
from gatesmith.artifact.policy import UNCHECKED
from gatesmith.artifact.store import Store
from gatesmith.boards import Board, Family, find_board
from gatesmith.errors import (
    ArtifactError,
    BuildError,
    ModelUnreadable,
    TimingNotMet,
    ToolNotFound,
)
from gatesmith.firmware import Design, Firmware, Link
from gatesmith.frontends import model_content
from gatesmith.model import reference
from gatesmith.model.graph import Graph
from gatesmith.model.vectors import corner_vectors, random_vectors
from gatesmith.proof import GRAPH_FILE, decoded, on_emulator, prove
from gatesmith.tools import cache_path, find_tool

__all__ = ["ENGINES", "Build", "Progress", "build_firmware"]

Progress = Callable[[str, float], None]
"""Called with the name of a stage and the part of it that is done, 0 to 1."""

ENGINES = ("auto", "unrolled", "trees")

BUILD_VECTORS = 1000
"""Random samples of the proof that every build runs; ``verify`` takes more."""

BITSTREAM_VECTORS = 100
"""Random samples of the bitstream's proof in a build: the decoded netlist simulates slowly."""

KEPT_VECTORS = 64
"""Test vectors that travel with the firmware."""

SEEDS_AT_LAST = 3

MIN_DIVISOR = 4
"""Clock cycles that a bit on the link takes at least; see docs/protocol.md."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Build:
    """A firmware and how it came about.

    ``seconds`` and ``peak_memory_bytes`` are by stage; ``tries`` holds cut-off, seed and fmax of each placed design.
    """

    firmware: Firmware
    cached: bool
    seconds: Mapping[str, float]
    peak_memory_bytes: Mapping[str, int] = field(default_factory=dict)
    tries: tuple[Mapping[str, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The keys that scripts rely on."""
        firmware = self.firmware
        return {
            "board": firmware.board,
            "part": firmware.part,
            "engine": firmware.engine,
            "bitstream_bytes": len(firmware.bitstream),
            "clock_hz": firmware.clock_hz,
            "fmax_hz": firmware.report.fmax_hz,
            "latency_cycles": firmware.latency_cycles,
            "initiation_interval_cycles": firmware.initiation_interval_cycles,
            "utilization": firmware.report.to_json()["utilization"],
            "agreement": firmware.quantization["agreement"],
            "max_abs_error": firmware.quantization["max_abs_error"],
            "verified": list(firmware.verified),
            "cached": self.cached,
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
            "peak_memory_bytes": dict(self.peak_memory_bytes),
            "tries": [dict(one) for one in self.tries],
        }


def build_firmware(
    model: object,
    board: str,
    *,
    calibration: str | Path | Mapping[str, NDArray[Any]] | NDArray[Any] | None = None,
    precision: int | str | Aim = 8,
    engine: str = "auto",
    clock_hz: int | None = None,
    seed: int = 1,
    name: str | None = None,
    trust_pickle: bool = False,
    graph: Graph | None = None,
    progress: Progress | None = None,
) -> Build:
    """Build a model for a board.

    Parameters
    ----------
    model : object
        A fitted estimator or the path of a model file.
    board : str
        Name of a board.
    calibration : str or Path of a file, mapping or ndarray of shape (samples, *input shape)
        Data that looks like what the model will see.
    precision : int, str or Aim
        Bits everywhere; ``auto`` searches for those of each tensor, ``exact`` keeps every decision of trees; an aim
        says what a search may lose.
    clock_hz : int, optional
        Clock of the gateware; the board's oscillator without.
    graph : Graph, optional
        The float graph of the model, where it was read elsewhere: by a process without rights, for example.

    Raises
    ------
    ModelError, BuildError, NotInstalled
        See :mod:`gatesmith.errors`.
    """
    if engine not in ENGINES:
        raise BuildError(f"engine {engine!r} does not exist; engines are {', '.join(ENGINES)}")
    if clock_hz is not None and clock_hz <= 0:
        raise BuildError(f"clock is {clock_hz} Hz, a positive number is needed", clock_hz=clock_hz)
    aim = precision if isinstance(precision, Aim) else Aim(precision=precision)
    order = _Order(model, find_board(board), calibration, aim, engine, clock_hz, seed, name, trust_pickle, graph)
    clock = _Clock(progress)
    with clock.stage("lookup"):
        found = order.find()
    if found is not None:
        return Build(firmware=found, cached=True, seconds=clock.seconds)
    return order.run(clock)


class _Clock:
    """Seconds and memory by stage, and the word to whoever watches."""

    def __init__(self, progress: Progress | None) -> None:
        self.tell: Progress = progress or (lambda _stage, _done: None)
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, int] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.tell(name, 0.0)
        start = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - start)
        self.tell(name, 1.0)

    def add(self, name: str, seconds: float, peak: int = 0) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        if peak:
            self.peaks[name] = max(self.peaks.get(name, 0), peak)


@dataclass
class _Order:
    """One build: what was asked for, and its stages."""

    model: object
    board: Board
    calibration: str | Path | Mapping[str, NDArray[Any]] | NDArray[Any] | None
    aim: Aim
    engine: str
    clock_hz: int | None
    seed: int
    name: str | None
    trust_pickle: bool
    graph: Graph | None

    @property
    def link(self) -> Link:
        clock_hz = self.clock_hz or self.board.clock_hz
        return Link(divisor=max(MIN_DIVISOR, round(clock_hz / self.board.baud)), clock_hz=clock_hz)

    def find(self) -> Firmware | None:
        """The same build done before, with the same tools, by content."""
        self.key = self._key()
        if self.key is None:
            return None
        try:
            return _built().load(f"build:{self.key}", board=self.board.name, with_model=True)
        except ArtifactError:  # not there, or damaged: build it again
            return None

    def _key(self) -> str | None:
        if not isinstance(self.model, str | Path) or not Path(self.model).is_file():
            return None
        digest = hashlib.sha256()
        for source in (self.model, self.calibration, self.aim.labels):
            content = _content(source, of=self._said if source is self.model else Path.read_bytes)
            if content is None:
                return None
            digest.update(hashlib.sha256(content).digest() if source is not None else b"")
        facts = [
            repr(self.board),
            self.aim.parameters(),
            self.engine,
            repr(self.link),
            self.seed,
            self.name,
            Path(self.model).stem,
        ]
        packages = [version(package) for package in ("gatesmith", "da4ml", "amaranth", "numpy")]
        digest.update(json.dumps([facts, packages, _tools(self.board), self._can_decode()]).encode())
        return digest.hexdigest()

    def _said(self, path: Path) -> bytes:
        """What the model's file says; as it is where another process read it, as this one may not parse it then."""
        return model_content(path) if self.graph is None else path.read_bytes()

    def _model_file(self) -> tuple[str, bytes]:
        """Name and content of the model's file; empty for an object in memory."""
        path = Path(self.model) if isinstance(self.model, str | Path) else None
        return (path.name, self._said(path)) if path else ("", b"")

    def _can_decode(self) -> bool:
        """Whether this build's bitstream can be read back here: iCE40 without a PLL, and IceStorm is installed."""
        if self.board.family is not Family.ICE40 or self.link.clock_hz != self.board.clock_hz:
            return False
        with suppress(ToolNotFound):
            return bool(find_tool("icebox_vlog"))
        return False

    def run(self, clock: _Clock) -> Build:
        from gatesmith.frontends import read_model
        from gatesmith.quantize import load_calibration

        _tools(self.board)  # a missing one is told before the work, not after it
        with clock.stage("read"):
            graph = self.graph or read_model(self.model, name=self.name, trust_pickle=self.trust_pickle)
            data = self.calibration
            if isinstance(data, str | Path):
                data = load_calibration(Path(data))
        with clock.stage(self.aim.stage):
            quantized = self.aim.quantized(graph, data, board=self.board, clock_hz=self.clock_hz, progress=clock.tell)
        integer, model_file = quantized.graph, self._model_file()
        placed = _Placement(integer, self.engine, self.board, self.link, self.seed, clock)
        design, products, tries = placed.run()
        vectors = np.concatenate([corner_vectors(integer), random_vectors(integer, BUILD_VECTORS)])
        firmware = Firmware(
            name=graph.name,
            board=self.board.name,
            part=self.board.part,
            family=self.board.family.value,
            bitstream=products.bitstream,
            hdl={"top.v": products.verilog},
            contract=integer.contract(),
            link=design.link,
            latency_cycles=design.latency_cycles,
            initiation_interval_cycles=design.initiation_interval_cycles,
            build_id=design.build_id,
            engine=placed.engine,
            model_digest=digest_of(model_file[1]) if model_file[0] else graph.digest,
            report=products.report,
            toolchain=dict(products.toolchain) | {"gatesmith": version("gatesmith"), "da4ml": version("da4ml")},
            quantization=quantized.facts,
            vectors=_kept(integer, vectors[:KEPT_VECTORS]),
            reports={GRAPH_FILE: integer.to_bytes(), "placed.svg": products.placed_svg, **quantized.reports},
            parameters={**self.aim.parameters(), "seed": self.seed},
            model_file=model_file,
        )
        with clock.stage("verify"):
            wanted = reference.infer(integer, vectors)
            prove("reference", placed.logic.infer(vectors), wanted)
            prove("rtl", on_emulator(firmware, vectors), wanted)
            levels = ["reference", "rtl"]
            if self._can_decode():
                few = len(vectors) - BUILD_VECTORS + BITSTREAM_VECTORS
                prove("bitstream", on_emulator(decoded(firmware), vectors[:few]), wanted[:few])
                levels.append("bitstream")
        firmware = replace(firmware, verified=tuple(levels))
        if self.key is not None:
            _built().save(f"build:{self.key}", [firmware], merge=False)
        return Build(
            firmware=firmware,
            cached=products.cached,
            seconds=clock.seconds,
            peak_memory_bytes=clock.peaks,
            tries=tuple(tries),
        )


def _built() -> Store:
    """Firmware by the key of its build: nobody else writes there, so nothing has to be signed."""
    return Store(cache_path("firmware"), policy=UNCHECKED)


def _content(source: object, of: Callable[[Path], bytes]) -> bytes | None:
    """What a file says; nothing of what is not there, None of what cannot be told by content."""
    if source is None:
        return b""
    try:
        return of(Path(source)) if isinstance(source, str | Path) else None
    except (OSError, ModelUnreadable):  # told when it is read for the build
        return None


def _tools(board: Board) -> list[str]:
    from gatesmith.toolchain.flows import FLOWS

    flow = FLOWS[board.family]
    return [find_tool(name).identity for name in ("pyosys", flow.router, flow.packer, "verilator", "g++")]


class _Placement:
    """Cut-offs, largest first, until the clock is reached."""

    def __init__(self, graph: Graph, engine: str, board: Board, link: Link, seed: int, clock: _Clock) -> None:
        from gatesmith.gateware.engines import choose_engine, plan_logic

        self.engine = choose_engine(graph, engine)
        self.graph, self.board, self.link, self.seed, self.clock = graph, board, link, seed, clock
        with clock.stage("trace"):
            self.logic = plan_logic(graph, self.engine)
        self.tries: list[Mapping[str, float]] = []

    def run(self) -> tuple[Design, Any, list[Mapping[str, float]]]:
        from gatesmith.estimate import first_cutoff, next_cutoff

        clock_hz = self.link.clock_hz
        cutoff = first_cutoff(self.board.family.value, clock_hz)
        self._check_size(cutoff)
        seed, last_seed = self.seed, self.seed + SEEDS_AT_LAST - 1
        while True:
            design, products = self._try(cutoff, seed)
            fmax_hz = products.report.fmax_hz
            if fmax_hz >= clock_hz:
                return design, products, self.tries
            if (smaller := next_cutoff(cutoff, fmax_hz=fmax_hz, clock_hz=clock_hz)) is not None:
                cutoff = smaller
            elif seed < last_seed:
                seed += 1
            else:
                raise self._missed()

    def _check_size(self, cutoff: int) -> None:
        """What cannot fit is refused before synthesis, which may take an hour of such a design."""
        from gatesmith.estimate import estimate, refuse_what_cannot_fit

        with self.clock.stage("estimate"):
            found = estimate(self.graph, self.board, engine=self.engine, cutoff=cutoff, logic=self.logic)
        refuse_what_cannot_fit(found)

    def _try(self, cutoff: int, seed: int) -> tuple[Design, Any]:
        from gatesmith.gateware.engines import build_core
        from gatesmith.gateware.top import compose
        from gatesmith.toolchain import execute, plan

        with self.clock.stage("gateware"):
            core = build_core(self.logic, cutoff=cutoff)
            build_id = _build_id(self.graph, self.board, self.link, cutoff)
            design = compose(core, contract=self.graph.contract(), link=self.link, build_id=build_id)
        products = execute(plan(design, self.board, seed=seed), cache=cache_path("builds"), progress=self.clock.tell)
        for name, stage in products.stages.items():
            self.clock.add(name, 0.0 if products.cached else stage.seconds, stage.peak_memory_bytes)
        self.tries.append({"cutoff": cutoff, "seed": seed, "fmax_hz": products.report.fmax_hz})
        return design, products

    def _missed(self) -> TimingNotMet:
        best = max(one["fmax_hz"] for one in self.tries)
        tried = ", ".join(f"{one['cutoff']:g}/{one['seed']:g}: {one['fmax_hz'] / 1e6:.1f}" for one in self.tries)
        return TimingNotMet(
            f"design reaches {best / 1e6:.1f} MHz on {self.board.name}, {self.link.clock_hz / 1e6:.1f} MHz are needed "
            f"(MHz by cut-off/seed: {tried}); try a lower --clock-mhz or --precision 6",
            fmax_hz=best,
            clock_hz=self.link.clock_hz,
        )


def _build_id(graph: Graph, board: Board, link: Link, cutoff: int) -> str:
    facts = [graph.digest, board.name, link.divisor, link.clock_hz, cutoff, version("gatesmith"), version("da4ml")]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _kept(graph: Graph, vectors: NDArray[np.int64]) -> tuple[bytes, bytes]:
    contract = graph.contract()
    return contract.pack_inputs(vectors).tobytes(), _packed_outputs(graph, vectors).tobytes()


def _packed_outputs(graph: Graph, vectors: NDArray[np.int64]) -> NDArray[np.uint8]:
    from gatesmith.contract import pack

    ports = graph.contract().outputs
    ends = np.cumsum([port.elements for port in ports])[:-1]
    parts = np.split(reference.infer(graph, vectors), ends, axis=1)
    return pack([(part, port.format) for part, port in zip(parts, ports, strict=True)])
