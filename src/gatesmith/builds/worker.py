"""The process that builds one job: ``worker.py FOLDER LIMITS``; what it says is in :mod:`gatesmith.builds.job`.

It has no network, an environment of a few names, and nothing in reach but its folder and the caches of this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gatesmith.artifact.manifest import firmware_digest
from gatesmith.artifact.policy import UNCHECKED
from gatesmith.artifact.store import Store
from gatesmith.builds.confine import confine
from gatesmith.builds.job import BUILT, Limits, error_json, error_to_raise, placed, say
from gatesmith.builds.order import Order
from gatesmith.builds.preview import preview_firmware
from gatesmith.errors import GatesmithError, ToolFailed
from gatesmith.flow import Build, build_firmware
from gatesmith.model.graph import Graph
from gatesmith.toolchain.process import run
from gatesmith.tools import tool_environment

__all__ = ["beating", "main"]

SPARE_S = 30


def main(arguments: list[str]) -> int:
    """Build what lies in a folder."""
    folder, limits = Path(arguments[0]), Limits(**json.loads(arguments[1]))
    # the clock on the wall ends it first and says so; a solver's threads spend several seconds in one
    processor_s = limits.seconds * (os.cpu_count() or 1) + SPARE_S
    say({"holds": confine(memory_bytes=0, seconds=processor_s)})
    order = Order.from_json(json.loads((folder / "order.json").read_text(encoding="utf-8")))
    try:
        with beating():
            build = _build(folder, order, limits)
            Store(folder / "out", policy=UNCHECKED).save(BUILT, [build.firmware], merge=False)
    except GatesmithError as error:
        say({"error": error_json(error)})
        return 1
    say({"result": {"digest": firmware_digest(build.firmware), **build.to_json()}})
    return 0


def _build(folder: Path, order: Order, limits: Limits) -> Build:
    model = folder / "model" / order.model_file
    calibration, aim = placed(folder, order, "calibration"), order.aim(placed(folder, order, "labels"))
    say({"stage": "read", "done": 0.0})
    graph = _graph(folder, model, order.name, limits)
    if order.emulated:
        firmware = preview_firmware(graph, order, aim, calibration, _tell)
        return Build(firmware=replace(firmware, model_file=(model.name, model.read_bytes())), cached=False, seconds={})
    return build_firmware(
        model,
        order.board,
        graph=graph,
        calibration=calibration,
        precision=aim,
        engine=order.engine,
        clock_hz=order.clock_hz or None,
        seed=order.seed,
        name=order.name,
        progress=_tell,
    )


def _tell(stage: str, done: float) -> None:
    say({"stage": stage, "done": done})


def _graph(folder: Path, model: Path, name: str, limits: Limits) -> Graph:
    """The model's graph, read by a process of its own."""
    graph, last = folder / "graph.json", dict[str, Any]()

    def on_line(line: str) -> None:
        try:
            last.update(json.loads(line).get("error", {}))
        except (ValueError, AttributeError):
            say({"line": line})

    done = run(
        (
            *(sys.executable, "-I", str(Path(__file__).with_name("reader.py")), str(model), str(graph), name),
            *(str(limits.reader_memory_bytes), str(limits.reader_seconds)),
        ),
        folder=folder,
        environment=tool_environment(),
        timeout_s=limits.reader_seconds,
        on_line=on_line,
    )
    if done.status:
        raise (
            error_to_raise(last, done.words())
            if last
            else ToolFailed(
                f"the model could not be read: {done.words()}; its reader may take "
                f"{limits.reader_memory_bytes >> 20} MiB and {limits.reader_seconds} s"
            )
        )
    return Graph.from_bytes(graph.read_bytes())


@contextmanager
def beating() -> Iterator[None]:
    """Something is said every second, so that whoever listens can end the build at any time.

    It is silent again before the result, which may be longer than what two processes can write without mixing it.
    """
    command = (sys.executable, "-I", "-S", str(Path(__file__).with_name("heart.py")))
    heart = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        yield
    finally:
        heart.communicate()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
