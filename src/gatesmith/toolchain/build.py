"""Runs a plan: synthesis, place and route, packing, in a folder of its own, or finds that it ran before.

Synthesis and the rest are cached apart, so another seed or another clock constraint does not synthesise again. A
missed clock is not an error here: the report says what was reached and the caller decides.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from gatesmith.errors import BuildError, ToolFailed
from gatesmith.firmware import Design, Report
from gatesmith.toolchain import cache as store
from gatesmith.toolchain.picture import draw
from gatesmith.toolchain.planning import BuildPlan, Command, checked_sources, simulation_passes
from gatesmith.toolchain.process import Output, run
from gatesmith.toolchain.report import does_not_fit, parse_report
from gatesmith.toolchain.warm import warm
from gatesmith.tools import find_tool, tool_environment

__all__ = ["Products", "Stage", "Synthesis", "elaborate", "execute", "synthesize"]

Progress = Callable[[str, float], None]

# Shares of a build's time, measured on small and middle designs; a progress bar needs no more than that.
_ROUTING_STARTS, _PACKING_STARTS = 0.25, 0.95
_ROUTING_STEPS = {
    "Info: Packing constants": 0.30,
    "Info: Device utilisation": 0.40,
    "Info: Running main analytical placer": 0.50,
    "Info: Routing": 0.75,
    "Info: Critical path report": 0.90,
}
_ELABORATION_TIMEOUT_S = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What one program took when it ran; a cached result keeps what it took then."""

    seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Synthesis:
    """A netlist.

    Parameters
    ----------
    verilog : bytes
        The whole top before synthesis, as Verilog for simulation; the same process wrote it just before.
    netlist : bytes
        The whole top after synthesis, as Verilog of the family's cells.
    json : bytes
        The same for nextpnr.
    """

    verilog: bytes
    netlist: bytes
    json: bytes
    stages: Mapping[str, Stage]
    cached: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Products:
    """What a build gives.

    Parameters
    ----------
    verilog, netlist : bytes
        See :class:`Synthesis`.
    stages : mapping of str to Stage
        ``synthesis``, ``routing``, ``packing``.
    toolchain : mapping of str to str
        Program to version.
    placed_svg : bytes
        A picture of the placement with the critical path.
    cached : bool
        Nothing ran.
    """

    bitstream: bytes
    verilog: bytes
    netlist: bytes
    report: Report
    stages: Mapping[str, Stage]
    placed_svg: bytes
    toolchain: Mapping[str, str]
    cached: bool


def elaborate(design: Design) -> bytes:
    """Verilog of the whole top for simulation, the same bytes as in :class:`Products`, without synthesis.

    Raises
    ------
    ToolFailed
        When the sources do not make one consistent design.
    """
    passes = json.dumps(simulation_passes(design)).encode()
    command = Command(
        stage="elaboration",
        tool="pyosys",
        arguments=("elaboration.json",),
        produces=("simulation.v",),
        timeout_s=_ELABORATION_TIMEOUT_S,
    )
    with _folder(None) as folder:
        _write(folder, checked_sources(design) | {"elaboration.json": passes})
        _run(command, folder)
        return _read(folder, command)["simulation.v"]


def synthesize(
    plan: BuildPlan, *, cache: Path | None, progress: Progress | None = None, work: Path | None = None
) -> Synthesis:
    """The first part of :func:`execute`; plans that differ in seed and pins only share it."""
    files = store.load(cache, plan.synthesis_digest) if cache else None
    if files is not None:
        return _synthesis(files, cached=True)
    _tell(progress, "synthesis", 0.0)
    with _folder(work) as folder:
        _write(folder, plan.sources)
        stage, _ = _run(plan.synthesis, folder)
        files = _read(folder, plan.synthesis) | {"stages.json": _dump({"synthesis": stage})}
    if cache:
        store.store(cache, plan.synthesis_digest, files)
    return _synthesis(files, cached=False)


def execute(
    plan: BuildPlan,
    *,
    cache: Path | None,
    progress: Progress | None = None,
    work: Path | None = None,
    synthesis: Synthesis | None = None,
) -> Products:
    """Run a plan, or read its result from the cache.

    Parameters
    ----------
    cache : path
        Folder of finished results; None keeps none.
    progress : callable
        Called with the stage and the part of the build, 0 to 1, that is done.
    work : path
        Folder to build in, kept afterwards; None builds in a temporary one.
    synthesis : Synthesis
        Result of :func:`synthesize` for a plan with the same ``synthesis_digest``.

    Raises
    ------
    DesignDoesNotFit
        With the resource, what the design needs and what the part has.
    ToolFailed
        With the program's own words.
    """
    files = store.load(cache, plan.digest) if cache else None
    if files is None:
        netlist = synthesis or synthesize(plan, cache=cache, progress=progress, work=work)
        files = _place(plan, netlist, progress, work)
        if cache:
            store.store(cache, plan.digest, files)
        cached = False
    else:
        cached = True
    _tell(progress, "ready", 1.0)
    return Products(
        bitstream=files["bitstream"],
        verilog=files["simulation.v"],
        netlist=files["netlist.v"],
        report=Report.from_json(json.loads(files["report.json"])),
        stages=_stages(files),
        placed_svg=files["placed.svg"],
        toolchain=MappingProxyType({name: find_tool(name).version for name in plan.tools}),
        cached=cached,
    )


def _place(plan: BuildPlan, netlist: Synthesis, progress: Progress | None, work: Path | None) -> dict[str, bytes]:
    _tell(progress, "routing", _ROUTING_STARTS)
    warm(find_tool(command.tool) for command in (plan.routing, plan.packing))
    with _folder(work) as folder:
        _write(folder, {"netlist.json": netlist.json, **plan.constraints})
        routing, _ = _run(plan.routing, folder, part=plan.part, on_line=_watch(progress))
        routed = _read(folder, plan.routing)
        _tell(progress, "packing", _PACKING_STARTS)
        packing, _ = _run(plan.packing, folder)
        (bitstream,) = _read(folder, plan.packing).values()
    return {
        "bitstream": bitstream,
        "simulation.v": netlist.verilog,
        "netlist.v": netlist.netlist,
        "report.json": json.dumps(parse_report(routed["report.json"].decode()).to_json()).encode(),
        "placed.svg": draw(routed["routed.json"], routed["report.json"]),
        "stages.json": _dump({**netlist.stages, "routing": routing, "packing": packing}),
    }


def _run(
    command: Command, folder: Path, *, part: str = "", on_line: Callable[[str], None] | None = None
) -> tuple[Stage, Output]:
    for name in command.produces:
        (folder / name).unlink(missing_ok=True)
    start = time.perf_counter()
    output = run(
        (*find_tool(command.tool).command, *command.arguments),
        folder=folder,
        environment=tool_environment(),
        timeout_s=command.timeout_s,
        on_line=on_line,
    )
    stage = Stage(seconds=time.perf_counter() - start, peak_memory_bytes=output.peak_memory_bytes)
    missing = [name for name in command.produces if not (folder / name).is_file()]
    if output.status == 0 and not missing:
        return stage, output
    too_small = does_not_fit(output.lines, part) if part else None
    raise too_small or ToolFailed(
        f"{command.stage} failed: {command.tool}: {output.words()}",
        stage=command.stage,
        tool=command.tool,
        status=output.status,
        log=list(output.lines[-20:]),
    )


def _watch(progress: Progress | None) -> Callable[[str], None] | None:
    if progress is None:
        return None
    steps = dict(_ROUTING_STEPS)

    def watch(line: str) -> None:
        for start in list(steps):
            if line.startswith(start):
                progress("routing", steps.pop(start))

    return watch


def _tell(progress: Progress | None, stage: str, fraction: float) -> None:
    if progress:
        progress(stage, fraction)


@contextlib.contextmanager
def _folder(work: Path | None) -> Iterator[Path]:
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        yield work
        return
    with tempfile.TemporaryDirectory(prefix="gatesmith-") as folder:
        yield Path(folder)


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise BuildError(f"cannot write the build's folder {folder}: {error.strerror}; free some space") from error


def _read(folder: Path, command: Command) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in command.produces}


def _dump(stages: Mapping[str, Stage]) -> bytes:
    return json.dumps({name: [stage.seconds, stage.peak_memory_bytes] for name, stage in stages.items()}).encode()


def _stages(files: Mapping[str, bytes]) -> Mapping[str, Stage]:
    rows = json.loads(files["stages.json"]).items()
    return MappingProxyType({name: Stage(seconds=s, peak_memory_bytes=m) for name, (s, m) in rows})


def _synthesis(files: Mapping[str, bytes], *, cached: bool) -> Synthesis:
    return Synthesis(
        verilog=files["simulation.v"],
        netlist=files["netlist.v"],
        json=files["netlist.json"],
        stages=_stages(files),
        cached=cached,
    )
