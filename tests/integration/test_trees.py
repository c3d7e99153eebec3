"""A forest, built for a real board's chip: the bitstream itself answers the reference's integers over the wire."""

from __future__ import annotations

import numpy as np
from requirements import require
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from gatesmith.devices import open_device
from gatesmith.flow import build_firmware
from gatesmith.proof import verify_firmware


def test_a_forest_is_exact_down_to_its_bitstream() -> None:
    for tool in ("pyosys", "nextpnr-ice40", "icepack", "verilator", "g++", "icebox_vlog"):
        require(tool)
    x, y = load_iris(return_X_y=True)
    x = x.astype(np.float32)
    estimator = RandomForestClassifier(5, max_depth=3, random_state=0).fit(x, y)
    build = build_firmware(estimator, "icebreaker", calibration=x, name="iris-forest")
    firmware = build.firmware
    assert firmware.engine == "trees"
    assert firmware.verified == ("reference", "rtl", "bitstream")
    assert firmware.initiation_interval_cycles == 1
    assert verify_firmware(firmware, level="reference", samples=500).mismatches == 0
    with open_device("emulator:forest") as device:
        device.program(firmware)
        answer = firmware.contract.decode(device.infer(firmware.contract.encode({"input": x})))
    assert np.mean(answer["probabilities"].argmax(axis=1) == estimator.predict(x)) >= 0.999
