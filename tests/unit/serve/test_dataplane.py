from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from firmwares import ArithmeticDevice, tiny_firmware, two_port_firmware

from gatesmith.artifact.manifest import firmware_digest
from gatesmith.errors import (
    DeviceNotFound,
    FirmwareMismatch,
    ManifestInvalid,
    ModelNotFound,
    ModelNotReady,
    TensorMismatch,
)
from gatesmith.serve.dataplane import DataPlane
from gatesmith.serve.settings import Settings
from gatesmith.serve.tensors import InputTensor

FIRMWARE = tiny_firmware()
GOOD = InputTensor("x", "FP32", [1, 4], [1, 2, 3, 4])


def plane_of(*names: str) -> DataPlane:
    return DataPlane({name: (FIRMWARE, ArithmeticDevice()) for name in names}, Settings())


def run(plane: DataPlane, work: Coroutine[Any, Any, Any]) -> Any:
    async def main() -> Any:
        await plane.load()
        try:
            return await work
        finally:
            await plane.close()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("key", "name", "tag"),
    [
        ("iris", "iris", ""),
        ("iris:v1", "iris", "v1"),
        ("localhost:5000/lab/jets:v3", "jets", "v3"),
        ("lab/jets:v3@sha256:" + "0" * 64, "jets", "v3"),
    ],
)
def test_names_and_versions(key: str, name: str, tag: str) -> None:
    model = plane_of(key).model(name)
    short = firmware_digest(FIRMWARE).removeprefix("sha256:")[:12]
    assert model.versions == ([short, tag] if tag else [short])


def test_unknown_names_and_versions() -> None:
    plane = plane_of("iris:v1")
    with pytest.raises(ModelNotFound, match=r"no model 'jets' is served here; the models are \['iris'\]"):
        plane.model("jets")
    with pytest.raises(ModelNotFound, match="model iris has no version 'v2'"):
        plane.model("iris", "v2")
    assert plane.model("iris", "v1") is plane.model("iris")


def test_one_name_is_one_model_and_one_device_one_firmware() -> None:
    with pytest.raises(ManifestInvalid, match="two models are called iris"):
        plane_of("iris:v1", "lab/iris:v2")
    device = ArithmeticDevice()
    with pytest.raises(FirmwareMismatch, match="device arithmetic:0 is given to models a and b"):
        DataPlane({"a": (FIRMWARE, device), "b": (FIRMWARE, device)}, Settings())


def test_a_model_is_ready_once_its_device_is_programmed() -> None:
    plane = plane_of("iris")
    with pytest.raises(ModelNotReady, match="is being loaded"):
        plane.model("iris").check_ready()
    assert not plane.ready
    assert run(plane, plane.infer(plane.model("iris"), [GOOD])).outputs["y"].shape == (1, 3)
    assert not plane.ready


def test_a_failed_load_stays_with_its_model() -> None:
    good, bad, told = ArithmeticDevice("a:0"), ArithmeticDevice("a:1"), []
    bad.failure = DeviceNotFound("no such board")
    plane = DataPlane({"good": (FIRMWARE, good), "bad": (FIRMWARE, bad)}, Settings())
    plane.on_load_failure = told.append
    run(plane, plane.infer(plane.model("good"), [GOOD]))
    assert told == [bad.failure]
    with pytest.raises(ModelNotReady, match="model bad failed to load: no such board"):
        plane.model("bad").check_ready()


@pytest.mark.parametrize(
    ("inputs", "wanted", "message"),
    [
        ([], [], "input 'x' is missing"),
        ([GOOD._replace(name="z")], [], r"model iris has no input 'z'; the inputs are \['x'\]"),
        ([GOOD._replace(name=["x"])], [], "has no input"),
        ([GOOD, GOOD], [], "an input is given twice"),
        ([GOOD], ["z"], r"model iris has no output 'z'; the outputs are \['y'\]"),
    ],
)
def test_requests_that_do_not_fit(inputs: list[InputTensor], wanted: list[str], message: str) -> None:
    plane = plane_of("iris")
    with pytest.raises(TensorMismatch, match=message):
        run(plane, plane.infer(plane.model("iris"), inputs, wanted))


def test_outputs_come_as_asked_for_and_batches_must_agree() -> None:
    plane = DataPlane({"two": (two_port_firmware(), ArithmeticDevice())}, Settings())
    a = InputTensor("a", "FP32", [2, 2, 2], [1, 2, 3, 4, 5, 6, 7, 8])
    b = InputTensor("b", "INT8", [2], [1, -1])
    answer = run(plane, plane.infer(plane.model("two"), [b, a], ["count", "sum"]))
    assert list(answer.outputs) == ["count", "sum"]
    plane = DataPlane({"two": (two_port_firmware(), ArithmeticDevice())}, Settings())
    with pytest.raises(TensorMismatch, match=r"inputs have different batches: \[1, 2\]"):
        run(plane, plane.infer(plane.model("two"), [a, InputTensor("b", "INT8", [1], [1])]))


def test_an_empty_batch_does_not_trouble_the_device() -> None:
    device = ArithmeticDevice()
    plane = DataPlane({"iris": (FIRMWARE, device)}, Settings())
    answer = run(plane, plane.infer(plane.model("iris"), [InputTensor("x", "FP32", [0, 4], [])]))
    assert answer.outputs["y"].shape == (0, 3)
    assert device.calls == []


def test_metadata_names_what_the_host_computes() -> None:
    metadata = plane_of("iris:v1").model("iris").metadata()
    assert metadata["platform"] == "gatesmith_ice40"
    assert metadata["inputs"][0]["parameters"] == {"format": "s7.4", "host_operations": "scale"}
    assert metadata["outputs"][0]["shape"] == [-1, 3]
