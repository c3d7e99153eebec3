"""How a build searches for its clock and what it refuses, with the toolchain and the emulated board replaced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from models import small_mlp, trained
from networks import mlp
from numpy.typing import NDArray

from gatesmith import flow, proof, toolchain
from gatesmith.artifact.descriptor import digest_of
from gatesmith.boards import find_board
from gatesmith.errors import (
    BoardNotFound,
    BuildError,
    CalibrationNeeded,
    DesignDoesNotFit,
    ModelUnreadable,
    TimingNotMet,
    ToolNotFound,
    VerificationFailed,
)
from gatesmith.estimate import CUTOFFS
from gatesmith.firmware import Firmware, Report
from gatesmith.flow import build_firmware
from gatesmith.frontends import read_model
from gatesmith.model import reference
from gatesmith.toolchain import Products, Stage

BOARD = "ulx3s-85f"
CLOCK_HZ = find_board(BOARD).clock_hz
IRIS = trained("iris")


class FakeToolchain:
    """Answers each build with the next clock of a list; the last one again when the list is at its end."""

    def __init__(self) -> None:
        self.fmax_hz: list[float] = [1e9]
        self.seeds: list[int] = []

    def plan(self, design: Any, board: object, *, seed: int) -> SimpleNamespace:
        self.seeds.append(seed)
        return SimpleNamespace(design=design, board=board)

    def execute(self, plan: SimpleNamespace, *, cache: Path, progress: Any) -> Products:
        progress("routing", 0.5)
        fmax_hz = self.fmax_hz.pop(0) if len(self.fmax_hz) > 1 else self.fmax_hz[0]
        return Products(
            bitstream=b"bits",
            verilog=b"module top; endmodule",
            netlist=b"",
            report=Report(utilization={}, fmax_hz=fmax_hz),
            stages={"synthesis": Stage(seconds=2.0, peak_memory_bytes=10)},
            toolchain={"yosys": "1"},
            placed_svg=b"<svg/>",
            cached=False,
        )


def exact(firmware: Firmware, vectors: NDArray[np.int64]) -> NDArray[np.int64]:
    return reference.infer(proof.firmware_graph(firmware), vectors)


def wrong_once(firmware: Firmware, vectors: NDArray[np.int64]) -> NDArray[np.int64]:
    answers = exact(firmware, vectors).copy()
    answers[17, 0] += 1
    return answers


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeToolchain]:
    made = FakeToolchain()
    monkeypatch.setenv("GATESMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(toolchain, "plan", made.plan)
    monkeypatch.setattr(toolchain, "execute", made.execute)
    monkeypatch.setattr(flow, "_tools", lambda _board: ["none"])
    monkeypatch.setattr(flow, "on_emulator", exact)
    monkeypatch.setattr(proof, "on_emulator", exact)
    return made


def build(**options: Any) -> flow.Build:
    return build_firmware(IRIS.estimator, BOARD, **{"calibration": IRIS.x, "precision": 4, "name": "iris", **options})


def cutoffs(built: flow.Build) -> list[float]:
    return [one["cutoff"] for one in built.tries]


def test_the_cheapest_cut_off_is_tried_first_and_kept_when_it_is_fast_enough() -> None:
    built = build()
    assert cutoffs(built) == [CUTOFFS[0]]
    assert built.firmware.clock_hz == CLOCK_HZ
    assert built.firmware.verified[:2] == ("reference", "rtl")


def test_a_fast_clock_starts_with_fewer_adders() -> None:
    assert cutoffs(build(clock_hz=150_000_000)) == [2]


def test_the_search_goes_down_and_never_repeats_a_cut_off(fake: FakeToolchain) -> None:
    fake.fmax_hz = [CLOCK_HZ - 1, CLOCK_HZ - 1, CLOCK_HZ]
    built = build()
    assert cutoffs(built) == [4, 3, 2]
    assert [one["fmax_hz"] for one in built.tries] == [CLOCK_HZ - 1, CLOCK_HZ - 1, CLOCK_HZ]


def test_the_search_jumps_as_far_as_the_missing_clock_says(fake: FakeToolchain) -> None:
    fake.fmax_hz = [CLOCK_HZ / 2, CLOCK_HZ]
    assert cutoffs(build()) == [4, 2]


def test_fewer_adders_cost_latency(fake: FakeToolchain) -> None:
    shallow = build().firmware.latency_cycles
    fake.fmax_hz = [CLOCK_HZ / 10, CLOCK_HZ]
    assert build().firmware.latency_cycles > shallow


def test_seeds_come_last(fake: FakeToolchain) -> None:
    fake.fmax_hz = [CLOCK_HZ / 10, CLOCK_HZ / 2, CLOCK_HZ / 2, CLOCK_HZ]
    assert cutoffs(build(seed=5)) == [4, 1, 1, 1]
    assert fake.seeds == [5, 5, 6, 7]


def test_a_clock_that_is_never_reached_ends_with_every_try(fake: FakeToolchain) -> None:
    fake.fmax_hz = [1e6, 2e6, 4e6, 3e6]
    with pytest.raises(TimingNotMet) as caught:
        build()
    message = str(caught.value)
    assert "reaches 4.0 MHz on ulx3s-85f, 25.0 MHz are needed" in message
    assert all(words in message for words in ("4/1: 1.0", "1/1: 2.0", "1/2: 4.0", "1/3: 3.0"))
    assert caught.value.facts["fmax_hz"] == 4e6
    assert caught.value.facts["clock_hz"] == CLOCK_HZ
    assert len(fake.seeds) == 4


def test_a_design_that_cannot_fit_is_refused_before_synthesis(fake: FakeToolchain) -> None:
    generator = np.random.default_rng(0)
    graph = mlp(40, 80, 10)
    with pytest.raises(DesignDoesNotFit, match=r"about \d+ ICESTORM_LC, iCE40UP5K-SG48 has 5280; try"):
        build_firmware(graph, "icebreaker", graph=graph, calibration=generator.normal(size=(50, 40)))
    assert not fake.seeds


def test_a_board_that_answers_one_wrong_integer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "on_emulator", wrong_once)
    with pytest.raises(VerificationFailed, match="level rtl differs from the reference in 1 of ") as caught:
        build()
    assert "first in sample 17" in str(caught.value)
    assert caught.value.facts["mismatches"] == 1


def test_wrong_adders_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from gatesmith.gateware import engines

    make = engines.trace

    class Wrong:
        def __init__(self, adders: Any) -> None:
            self.adders = adders

        def infer(self, vectors: NDArray[np.int64]) -> NDArray[np.int64]:
            return np.asarray(self.adders.infer(vectors) - 1)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.adders, name)

    monkeypatch.setattr(engines, "trace", lambda graph: Wrong(make(graph)))
    monkeypatch.setattr(engines, "unroll", _unwrapped_unroll())
    with pytest.raises(VerificationFailed, match="level reference differs"):
        build()


def _unwrapped_unroll() -> Any:
    from gatesmith.gateware.unrolled import unroll

    return lambda wrong, *, cutoff: unroll(wrong.adders, cutoff=cutoff)


def test_verify_finds_a_wrong_board_too(monkeypatch: pytest.MonkeyPatch) -> None:
    firmware = build().firmware
    assert proof.verify_firmware(firmware, samples=50).mismatches == 0
    monkeypatch.setattr(proof, "on_emulator", wrong_once)
    with pytest.raises(VerificationFailed):
        proof.verify_firmware(firmware, samples=50)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    import skops.io

    model, calibration = tmp_path / "iris.skops", tmp_path / "iris.npy"
    skops.io.dump(IRIS.estimator, model)
    np.save(calibration, IRIS.x)
    return model, calibration


def test_the_same_files_are_built_once(files: tuple[Path, Path], fake: FakeToolchain) -> None:
    model, calibration = files
    first = build_firmware(model, BOARD, calibration=calibration, precision=4)
    second = build_firmware(model, BOARD, calibration=calibration, precision=4)
    assert (first.cached, second.cached, len(fake.seeds)) == (False, True, 1)
    assert second.firmware == first.firmware
    other = np.load(calibration)
    other[0, 0] += 1
    np.save(calibration, other)
    assert not build_firmware(model, BOARD, calibration=calibration, precision=4).cached
    assert not build_firmware(model, BOARD, calibration=calibration, precision=5).cached


def test_weights_in_another_file_are_looked_at_each_time(tmp_path: Path, fake: FakeToolchain) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in "xy")
    calibration = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    built = []
    for factor in (1, 2):
        weights = numpy_helper.from_array(factor * np.eye(4, dtype=np.float32) + 1, "w")
        graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "m", [x], [y], [weights])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        place = tmp_path / "m.onnx"
        (tmp_path / "m.data").unlink(missing_ok=True)  # else it grows
        onnx.save(made, place, save_as_external_data=True, location="m.data", size_threshold=0)
        built.append(
            (place.read_bytes(), build_firmware(place, BOARD, calibration=calibration_file(tmp_path, calibration)))
        )
    (first, one), (second, other) = built
    assert first == second
    assert not other.cached
    assert other.firmware.vectors != one.firmware.vectors
    assert other.firmware.model_digest != one.firmware.model_digest
    (name, content), (_, earlier) = other.firmware.model_file, one.firmware.model_file
    kept = onnx.load_model_from_string(content)
    assert (numpy_helper.to_array(kept.graph.initializer[0]) == 2 * np.eye(4) + 1).all()
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / name).write_bytes(earlier)
    again = build_firmware(tmp_path / "alone" / name, BOARD, calibration=calibration_file(tmp_path, calibration))
    assert again.cached
    assert again.firmware.vectors == one.firmware.vectors
    # where another process read it, this one does not parse it
    apart = build_firmware(place, BOARD, graph=read_model(place), calibration=calibration_file(tmp_path, calibration))
    assert apart.firmware.model_file == (place.name, second)
    assert apart.firmware.model_digest == digest_of(second)


def calibration_file(folder: Path, samples: NDArray[Any]) -> Path:
    np.save(folder / "calibration.npy", samples)
    return folder / "calibration.npy"


def test_a_damaged_result_is_built_again(files: tuple[Path, Path], fake: FakeToolchain, tmp_path: Path) -> None:
    model, calibration = files
    first = build_firmware(model, BOARD, calibration=calibration, precision=4)
    for blob in (tmp_path / "home" / "cache" / "firmware" / "blobs" / "sha256").iterdir():
        blob.write_bytes(b"x" + blob.read_bytes()[1:])
    again = build_firmware(model, BOARD, calibration=calibration, precision=4)
    assert (again.cached, len(fake.seeds)) == (False, 2)
    assert again.firmware == first.firmware
    assert build_firmware(model, BOARD, calibration=calibration, precision=4).cached


def test_a_failed_proof_is_not_kept(
    files: tuple[Path, Path], fake: FakeToolchain, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, calibration = files
    monkeypatch.setattr(flow, "on_emulator", wrong_once)
    for _ in range(2):
        with pytest.raises(VerificationFailed):
            build_firmware(model, BOARD, calibration=calibration, precision=4)
    assert len(fake.seeds) == 2


def test_what_is_told_to_scripts() -> None:
    data = build().to_json()
    assert data["utilization"] == {}
    assert data["seconds"]["synthesis"] == 2.0
    assert data["peak_memory_bytes"] == {"synthesis": 10}
    assert data["tries"] == [{"cutoff": 4, "seed": 1, "fmax_hz": 1e9}]


def test_progress_is_told_by_stage() -> None:
    seen: list[str] = []
    build(progress=lambda stage, _done: seen.append(stage))
    stages = list(dict.fromkeys(seen))
    assert stages == ["lookup", "read", "quantize", "trace", "estimate", "gateware", "routing", "verify"]


def test_calibration_from_the_path_of_a_file(files: tuple[Path, Path]) -> None:
    model, calibration = files
    by_text = build_firmware(str(model), BOARD, calibration=str(calibration), precision=4)
    assert by_text.firmware.report == build().firmware.report


def no_tools(_board: object) -> list[str]:
    raise ToolNotFound("g++ is not installed", tool="g++")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"calibration": None}, CalibrationNeeded, "no calibration data"),
        ({"calibration": np.zeros((0, 4))}, CalibrationNeeded, "no sample"),
        ({"calibration": np.zeros((5, 3))}, CalibrationNeeded, r"\[5, 3\]"),
        ({"engine": "folded"}, BuildError, "unrolled"),
        ({"clock_hz": 0}, BuildError, "0 Hz"),
        ({"clock_hz": -1}, BuildError, "-1 Hz"),
    ],
)
def test_refusals(options: dict[str, Any], error: type[Exception], words: str, fake: FakeToolchain) -> None:
    with pytest.raises(error, match=words):
        build(**options)
    assert fake.seeds == []


def test_unknown_board_and_model(tmp_path: Path) -> None:
    with pytest.raises(BoardNotFound, match="did you mean ulx3s-85f"):
        build_firmware(IRIS.estimator, "ulx3s85f", calibration=IRIS.x)
    with pytest.raises(ModelUnreadable, match="does not exist"):
        build_firmware(tmp_path / "gone.onnx", BOARD, calibration=IRIS.x)
    with pytest.raises(Exception, match="no known model"):
        build_firmware(small_mlp(), BOARD, calibration=IRIS.x)


def test_missing_tools_are_told_before_the_model_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "_tools", no_tools)
    seen: list[str] = []
    with pytest.raises(ToolNotFound, match=r"g\+\+"):
        build(progress=lambda stage, _done: seen.append(stage))
    assert "read" not in seen
