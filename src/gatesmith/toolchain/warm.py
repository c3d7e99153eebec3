"""YoWASP's programs are compiled once for each machine; this does it early and one process at a time.

Their own cache is not written atomically and every process that finds none compiles for itself, so the first use goes
through a file lock. A marker beside their cache says which versions are done; deleting the folder starts over.
"""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gatesmith.errors import BuildError, ToolFailed, ToolNotFound
from gatesmith.toolchain.flows import FLOWS
from gatesmith.toolchain.process import run
from gatesmith.tools import Tool, cache_path, find_tool, tool_environment

__all__ = ["warm", "warm_up"]

_TIMEOUT_S = 900.0


def warm_up(progress: Callable[[str, float], None] | None = None) -> None:
    """Compile every installed YoWASP program that is not compiled yet.

    Parameters
    ----------
    progress : callable
        Called with a program's name and the part of the work, 0 to 1, that is done.
    """
    names = [name for flow in FLOWS.values() for name in (flow.router, flow.packer)]
    for done, name in enumerate(names):
        if progress:
            progress(name, done / len(names))
        try:
            warm([find_tool(name)])
        except ToolNotFound:
            continue
    if progress:
        progress("ready", 1.0)


def warm(tools: Iterable[Tool]) -> None:
    """Compile those of the programs that are not compiled yet.

    Raises
    ------
    BuildError
        When the cache folder cannot be written.
    ToolFailed
        When a program does not start.
    """
    for tool in tools:
        if not tool.package.startswith("yowasp-") or _marker(tool).exists():
            continue
        try:
            with _locked(cache_path("yowasp")):
                if not _marker(tool).exists():
                    _compile(tool)
                    _marker(tool).touch()
        except OSError as error:
            raise BuildError(f"cannot write {cache_path('yowasp')}: {error.strerror}") from error


def _compile(tool: Tool) -> None:
    with tempfile.TemporaryDirectory(prefix="gatesmith-") as folder:
        # Packers know no --version and end with an error; what counts is that the program ran.
        option = "--version" if tool.name.startswith("nextpnr") else "--help"
        output = run((*tool.command, option), folder=Path(folder), environment=tool_environment(), timeout_s=_TIMEOUT_S)
    if output.status < 0:
        raise ToolFailed(f"{tool.name} {output.words()}", tool=tool.name, status=output.status)


def _marker(tool: Tool) -> Path:
    try:
        runtime = version("wasmtime")
    except PackageNotFoundError:
        runtime = "none"
    return cache_path("yowasp") / f"{tool.name}-{tool.version}-wasmtime-{runtime}.ready"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
