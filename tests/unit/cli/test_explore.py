"""``estimate``, ``explore`` and the options of ``build`` on the command line, in this process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from models import trained
from onnx_files import save_mlp
from typer.testing import CliRunner

from gatesmith.cli.main import app


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_mlp(tmp_path / "small.onnx")
    np.savez(tmp_path / "samples.npz", x=np.random.default_rng(1).normal(size=(50, 2)))
    np.save(tmp_path / "short.npy", np.zeros(3))
    return tmp_path / "small.onnx"


def run(verb: str, model: Path, *options: str, board: str = "icebreaker") -> tuple[int, str]:
    samples = str(model.parent / "samples.npz")
    result = CliRunner().invoke(app, [verb, str(model), "--board", board, "--calibration", samples, *options])
    return result.exit_code, result.output


def test_one_board_is_one_object(model: Path) -> None:
    status, text = run("estimate", model, "--json", "--precision", "4")
    data = json.loads(text)
    assert status == 0
    assert {"board", "fits", "utilization", "fmax_hz", "latency_cycles", "seconds"} <= set(data)
    assert data["precision"] == 4


def test_all_boards_are_a_table(model: Path) -> None:
    status, text = run("estimate", model, board="all")
    assert status == 0
    assert {"icebreaker", "tangnano9k", "gatemate-a1-evb", "ulx3s-85f"} <= set(text.split())
    _, data = run("estimate", model, "--json", "--board", "tangnano9k")
    assert [row["board"] for row in json.loads(data)["estimates"]] == ["icebreaker", "tangnano9k"]


def test_explore_shows_the_curve_and_keeps_it(model: Path, tmp_path: Path) -> None:
    status, text = run("explore", model, "--out", str(tmp_path / "curve"), "--tolerance", "2")
    assert status == 0, text
    assert "->" in text
    data = json.loads((tmp_path / "curve" / "precision.json").read_text())
    assert data["tolerance"] == 2
    assert (tmp_path / "curve" / "precision.svg").read_bytes().startswith(b"<svg")
    _, told = run("explore", model, "--json", "--tolerance", "2")
    assert json.loads(told.splitlines()[-1])["curve"] == data["curve"]


def test_explore_bounds_the_error(model: Path) -> None:
    status, text = run("explore", model, "--max-error", "0.01")
    assert status == 0, text
    assert "an output may be off by 0.01" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tolerance", "-1"), "tolerance is -1 points, 0 to 50 are possible"),
        (("--labels", "short.npy"), "3 labels for 50 samples"),
        (("--labels", "nothing.npy"), "labels: file"),
    ],
)
def test_one_line_for_what_is_wrong(model: Path, options: tuple[str, ...], words: str) -> None:
    given = [str(model.parent / option) if option.endswith(".npy") else option for option in options]
    status, text = run("explore", model, *given, "--json")
    assert status == 1
    assert words in json.loads(text)["error"]["message"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tolerance", "1"), "tolerance is of precision 'auto' alone"),
        (("--max-error", "1"), "max error is of precision 'auto' alone"),
        (("--precision", "40"), "precision 40 bits, 2 to 16 are possible"),
    ],
)
def test_build_refuses_what_it_cannot_do(model: Path, options: tuple[str, ...], words: str) -> None:
    status, text = run("build", model, *options, "--json")
    assert status == 1
    assert words in json.loads(text)["error"]["message"]


def test_an_estimate_searches_for_each_board(model: Path) -> None:
    status, text = run("estimate", model, "--precision", "auto", "--tolerance", "2", "--board", "ulx3s-85f", "--json")
    assert status == 0, text
    rows = json.loads(text)["estimates"]
    for row in rows:
        _, text = run("explore", model, "--tolerance", "2", "--json", board=row["board"])
        found = json.loads(text)
        (chosen,) = [point for point in found["curve"] if point["chosen"]]
        assert (row["precision"], row["luts"]) == ("auto", chosen["luts"])


@pytest.mark.parametrize("verb", [("build",), ("builds", "submit")])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--precision", "auto", "--tolerance", "nan"), "tolerance is nan points, 0 to 50 are possible"),
        (("--precision", "auto", "--max-error", "inf"), "max error is inf"),
        (("--precision", "exact", "--prune"), "prune is of precision 'auto' alone"),
        (("--precision", "auto", "--labels", "no-such-file.npy"), "file 'no-such-file.npy' cannot be read"),
        (("--precision", "auto", "--max-error", "1"), "check that a build service runs there"),
    ],
)
def test_what_a_build_service_is_asked_is_checked_here(
    model: Path, verb: tuple[str, ...], options: tuple[str, ...], words: str
) -> None:
    asked = [*verb, str(model), "--board", "icebreaker", "--remote", "http://127.0.0.1:9", *options]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 1
    assert words in result.output
    assert len(result.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("--tolerance", "1"), 1, "tolerance is of precision 'auto' alone, and precision is 8"),
        (("--precision", "auto", "--tolerance", "99"), 1, "tolerance is 99 points, 0 to 50 are possible"),
        (("--precision", "40"), 1, "precision 40 bits, 2 to 16 are possible"),
        (("--precision", "best"), 2, "--precision is 'best'; a number of bits, auto or exact"),
    ],
)
def test_a_server_checks_what_it_would_build(model: Path, options: tuple[str, ...], status: int, words: str) -> None:
    result = CliRunner().invoke(app, ["serve", str(model), "--board", "icebreaker", "--http-port", "0", *options])
    assert result.exit_code == status
    assert words in str(result.exception) or words in " ".join(result.output.replace("│", "").split())


def test_labels_beside_the_samples_are_found(tmp_path: Path, model: Path) -> None:
    iris = trained("iris")
    np.savez(tmp_path / "samples.npz", x=iris.x[:50, :2], y=np.zeros(49))
    status, text = run("explore", model, "--json")
    assert status == 1
    assert "49 labels for 50 samples" in text
