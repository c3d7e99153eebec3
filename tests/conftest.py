"""Every test run has a home of its own; only the tools' compiled code is shared, because it takes a minute to make.

Libraries that draw from a generator of the process give every run the same numbers: a test that fails once fails again.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings

from gatesmith.tools import cache_path

# the pauses of shared machines say nothing of the code, and a test that passes once passes again
settings.register_profile("shared machines", deadline=None, derandomize=True)
settings.load_profile("shared machines")


def pytest_collectstart() -> None:
    """Models that a module of tests trains while it is imported."""
    _seed()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Models of fixtures and tests, in whatever order they run."""
    _seed()


def _seed() -> None:
    random.seed(0)
    np.random.seed(0)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    compiled = cache_path("yowasp")
    home = tmp_path_factory.mktemp("home")
    compiled.mkdir(parents=True, exist_ok=True)
    (home / "cache").mkdir()
    (home / "cache" / "yowasp").symlink_to(compiled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATESMITH_HOME", str(home))
        patch.setenv("GATESMITH_GRPC_PORT", "0")  # servers of tests that run at the same time do not meet
        yield
