"""What a test needs from the machine. A missing tool skips, and fails when ``GATESMITH_REQUIRE_TOOLS=1``."""

from __future__ import annotations

import os
import shutil

import pytest

from gatesmith.boards import Family, find_board
from gatesmith.errors import ToolNotFound
from gatesmith.toolchain.flows import FLOWS
from gatesmith.tools import find_tool

__all__ = ["require", "require_build", "require_family"]


def require(tool: str) -> None:
    """Skip, or fail, the test when ``tool`` is missing: a name that ``find_tool`` knows, or a program on ``PATH``."""
    try:
        find_tool(tool)
        missing = ""
    except ToolNotFound as error:
        missing = str(error)
    except KeyError:
        missing = "" if shutil.which(tool) else f"{tool} is not on PATH"
    if missing and os.environ.get("GATESMITH_REQUIRE_TOOLS") == "1":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


def require_family(family: Family) -> None:
    """The same for all tools that build for one family."""
    for tool in ("pyosys", FLOWS[family].router, FLOWS[family].packer):
        require(tool)


def require_build(*boards: str) -> None:
    """The same for all that whole builds for these boards need, with their proof on an emulated one."""
    for tool in ("verilator", "g++"):
        require(tool)
    for board in boards:
        require_family(find_board(board).family)
