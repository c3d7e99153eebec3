"""Metadata from anyone: a firmware, or one error; never a number that fails later."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from firmwares import tiny_firmware

from gatesmith.errors import ManifestInvalid
from gatesmith.firmware import Firmware

FIRMWARE = tiny_firmware()


def read(data: dict[str, Any]) -> Firmware:
    return Firmware.from_metadata(
        json.loads(json.dumps(data)), bitstream=FIRMWARE.bitstream, hdl=FIRMWARE.hdl, vectors=FIRMWARE.vectors,
        reports=FIRMWARE.reports,
    )  # fmt: skip


def port(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["contract"]["inputs"][0].update(host_operations=[], **changes)


def link(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["link"].update(changes)


WRONG: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "latency without end": (lambda d: d.update(latency_cycles=float("inf")), "OverflowError"),
    "latency below zero": (lambda d: d.update(latency_cycles=-1), "latency_cycles is -1"),
    "no time between samples": (lambda d: d.update(initiation_interval_cycles=0), "initiation_interval_cycles is 0"),
    "a build id of other letters": (lambda d: d.update(build_id="x" * 32), "32 hex digits"),
    "a short build id": (lambda d: d.update(build_id="ab"), "32 hex digits"),
    "bits of no time": (link(divisor=0), "0 clock cycles"),
    "bits that an identify frame cannot tell": (link(divisor=1 << 16), "65536 clock cycles"),
    "no clock": (link(clock_hz=0), "at 0 Hz"),
    "a clock below zero": (link(clock_hz=-5), "at -5 Hz"),
    "a clock without end": (link(clock_hz=float("inf")), "OverflowError"),
    "no inputs": (lambda d: d["contract"].update(inputs=[]), "inputs \\[\\]"),
    "no outputs": (lambda d: d["contract"].update(outputs=[]), "outputs \\[\\]"),
    "a name twice": (lambda d: d["contract"]["inputs"].extend(d["contract"]["inputs"][:1]), "different names"),
    "no batch": (port(shape=[4]), "-1 and then sizes"),
    "no shape": (port(shape=[]), "-1 and then sizes"),
    "a size below zero": (port(shape=[-1, -4]), "-1 and then sizes"),
    "no elements": (port(shape=[-1, 0]), "-1 and then sizes"),
    "a step that float64 has not": (
        port(format={"signed": True, "integer_bits": 8 - 10**12, "fraction_bits": 10**12}),
        "1000000000000 fraction bits",
    ),
}


def test_its_own_metadata() -> None:
    assert read(FIRMWARE.metadata()) == FIRMWARE


@pytest.mark.parametrize("case", WRONG)
def test_metadata_that_cannot_be(case: str) -> None:
    change, words = WRONG[case]
    data = json.loads(json.dumps(FIRMWARE.metadata()))
    change(data)
    with pytest.raises(ManifestInvalid, match=words):
        read(data)
