"""The JSON that scripts rely on, from a real build to answers, and the same artifact under unusual names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import PROGRAM, TIMEOUT_S, environment, failed, gatesmith, result
from onnx_files import save_mlp
from requirements import require_build

from gatesmith.boards import all_boards

BUILD_KEYS = {
    *("reference", "digest", "board", "part", "engine", "bitstream_bytes", "clock_hz", "fmax_hz", "latency_cycles"),
    *("initiation_interval_cycles", "utilization", "agreement", "max_abs_error", "verified", "cached", "seconds"),
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("json")
    save_mlp(folder / "small.onnx")
    np.save(folder / "cal.npy", np.random.default_rng(1).normal(size=(50, 2)))
    return folder


@pytest.fixture(scope="module")
def built(work: Path) -> dict[str, Any]:
    """What ``build`` said of a model with spaces, a letter beyond ASCII and a leading dash in its name."""
    require_build("icebreaker")
    model = work / "- größer als.onnx"
    model.write_bytes((work / "small.onnx").read_bytes())
    options = ["--board", "icebreaker", "--calibration", "cal.npy", "--precision", "3", "--tag", "json:v1"]
    data = result(gatesmith("build", *options, "--out", "out", "--json", "--", model.name, cwd=work))
    assert isinstance(data, dict)
    return data


def test_build(built: dict[str, Any]) -> None:
    assert built.keys() >= BUILD_KEYS
    assert (built["reference"], built["board"], built["part"]) == ("json:v1", "icebreaker", "iCE40UP5K-SG48")
    assert built["digest"].startswith("sha256:")
    assert built["fmax_hz"] >= built["clock_hz"] == all_boards()["icebreaker"].clock_hz
    assert built["utilization"]["ICESTORM_LC"]["available"] == 5280
    assert built["verified"][:2] == ["reference", "rtl"]
    assert all(isinstance(seconds, float) for seconds in built["seconds"].values())


def test_a_second_build_is_cached_and_the_same(built: dict[str, Any], work: Path) -> None:
    options = ["--board", "icebreaker", "--calibration", "cal.npy", "--precision", "3", "--tag", "json:v1"]
    again = result(gatesmith("build", *options, "--json", "--", "- größer als.onnx", cwd=work))
    assert again["cached"]
    assert again["digest"] == built["digest"]


def test_inspect_list_and_pack(built: dict[str, Any], work: Path) -> None:
    seen = result(gatesmith("inspect", "out", "--json", cwd=work))
    assert (seen["boards"], seen["firmwares"][0]["digest"]) == (["icebreaker"], built["digest"])
    entries = result(gatesmith("list", "--json"))
    assert next(e["boards"] for e in entries if e["reference"] == "json:v1") == ["icebreaker"]
    packed = result(gatesmith("pack", "out", "--tag", "packed:v1", "--json", cwd=work))
    assert packed["boards"] == ["icebreaker"]
    assert result(gatesmith("remove", "packed:v1", "--json"))["reference"] == "packed:v1"


@pytest.mark.parametrize("level", ["reference", "rtl"])
def test_verify(level: str, built: dict[str, Any]) -> None:
    data = result(gatesmith("verify", built["reference"], "--level", level, "--samples", "200", "--json"))
    assert data.keys() >= {"level", "samples", "mismatches", "seconds"}
    assert (data["level"], data["mismatches"], list(data["boards"])) == (level, 0, ["icebreaker"])
    assert data["samples"] >= 200


def test_infer_from_a_device_and_from_a_server(built: dict[str, Any], work: Path) -> None:
    here = result(gatesmith("infer", built["reference"], "--input", "cal.npy", "--json", cwd=work))
    assert here["device"] == "emulator:0"
    assert here["outputs"]["y"].keys() == {"datatype", "shape", "data"}
    assert (here["outputs"]["y"]["datatype"], here["outputs"]["y"]["shape"]) == ("FP32", [50, 1])
    command = [*PROGRAM, "serve", built["reference"], "--http-port", "0", "--json"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            url = f"{json.loads(server.stdout.readline())['url']}/v2/models/json"
            done = gatesmith("infer", url, "--input", "cal.npy", "--json", cwd=work)
            for _ in range(100):  # 503 until the board is programmed
                if "503" not in done.stdout:
                    break
                done = gatesmith("infer", url, "--input", "cal.npy", "--json", cwd=work)
            there = result(done)
            line = failed(gatesmith("infer", f"{url}x", "--input", "cal.npy", cwd=work))
            assert "jsonx" in line
            assert "404" in line
        finally:
            server.send_signal(signal.SIGINT)
            status = server.wait(timeout=TIMEOUT_S)
    assert status == 130
    assert there["device"] == url
    assert there["outputs"] == here["outputs"]


def test_program(built: dict[str, Any]) -> None:
    data = result(gatesmith("program", built["reference"], "--device", "emulator:0", "--json"))
    assert (data["device"], data["board"]) == ("emulator:0", "icebreaker")


def test_boards_devices_and_doctor() -> None:
    boards = result(gatesmith("boards", "--json"))
    assert [board["name"] for board in boards] == list(all_boards())
    assert all(board.keys() >= {"name", "part", "family", "flow", "links"} for board in boards)
    devices = result(gatesmith("devices", "--json"))
    assert all(device.keys() >= {"id", "kind", "board", "state", "firmware"} for device in devices)
    assert "emulator:0" in [device["id"] for device in devices]
    tools = result(gatesmith("doctor", "--no-warm", "--json"))["tools"]
    assert {"pyosys", "verilator", "g++"} <= {tool["name"] for tool in tools}


@pytest.mark.parametrize("verb", [["boards"], ["boards", "--json"], ["--help"]])
def test_a_reader_that_goes_away_is_no_traceback(verb: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*PROGRAM, *verb], stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 1
