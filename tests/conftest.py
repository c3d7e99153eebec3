"""Every test run has a home of its own; only the tools' compiled code is shared, because it takes a minute to make."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from gatesmith.tools import cache_path

settings.register_profile("shared machines", deadline=None)  # their pauses say nothing of the code
settings.load_profile("shared machines")


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
