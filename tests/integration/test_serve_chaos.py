"""The benchmark in which boards are killed, frozen, unplugged and damaged under load, for some seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from requirements import require

CHAOS = Path(__file__).parents[2] / "bench" / "chaos.py"


def test_every_request_is_answered_rightly_or_refused_for_now() -> None:
    for tool in ("verilator", "g++", "pyosys"):
        require(tool)
    done = subprocess.run(
        [sys.executable, str(CHAOS), "--seconds", "10"], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["wrong"], result["lost"]) == (0, 0), result["examples"]
    assert result["requests"] > 200
    assert result["refused_share"] < 0.5
    assert set(result["events"]) == {"kill", "freeze", "unplug", "swap"}
    assert result["fencings"] >= 3
    assert result["recoveries"] >= result["fencings"] - 1  # a board that fails while it comes back is fenced once
    assert len(result["versions"]) >= 2
    assert result["end"]["threads"] <= result["warm"]["threads"] + 2
    assert result["end"]["descriptors"] <= result["warm"]["descriptors"] + 4
    assert result["exit_code"] == 0
