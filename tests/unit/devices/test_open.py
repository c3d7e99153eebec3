"""Devices by id, and wrong ids first."""

from __future__ import annotations

import numpy as np
import pytest
from firmwares import tiny_firmware

from gatesmith.devices import list_devices, open_device
from gatesmith.errors import DeviceNotFound, FirmwareMismatch, TensorMismatch


@pytest.mark.parametrize("device_id", ["", "toaster:1", ":0", "Emulator:0"])
def test_unknown_kind(device_id: str) -> None:
    with pytest.raises(DeviceNotFound, match=r"no device kind .*; the kinds are emulator, loopback, serial"):
        open_device(device_id)


@pytest.mark.parametrize("device_id", ["emulator:0", "emulator:verify", "loopback:3", "serial:/dev/ttyUSB9"])
def test_opening_touches_nothing(device_id: str) -> None:
    with open_device(device_id) as device:
        assert device.id == device_id
        assert device.kind == device_id.partition(":")[0]
        with pytest.raises(FirmwareMismatch, match=f"{device_id} runs no firmware; program it first"):
            device.infer(np.zeros((1, 4), dtype=np.uint8))


def test_list_has_every_kind_that_needs_no_board() -> None:
    assert {"emulator", "loopback"} <= {info.kind for info in list_devices()}


def test_a_serial_port_that_is_not_there() -> None:
    with open_device("serial:/dev/no-such-port") as device, pytest.raises(DeviceNotFound, match="/dev/no-such-port"):
        device.program(tiny_firmware())


def test_loopback_knows_the_test_vectors_and_no_more() -> None:
    firmware = tiny_firmware()
    inputs, outputs = (np.frombuffer(part, dtype=np.uint8) for part in firmware.vectors)
    rows = min(len(inputs) // firmware.contract.input_bytes, len(outputs) // firmware.contract.output_bytes)
    known = inputs[: rows * firmware.contract.input_bytes].reshape(rows, -1)
    with open_device("loopback:0") as device:
        device.program(firmware)
        result = device.infer(known)
        assert result.tobytes() == outputs.tobytes()[: result.size]
        with pytest.raises(TensorMismatch, match="test vectors and this sample is not one of them"):
            device.infer(known ^ 1)


def test_a_firmware_without_verilog_cannot_be_emulated() -> None:
    with open_device("emulator:0") as device, pytest.raises(FirmwareMismatch, match=r"holds no top\.v"):
        device.program(tiny_firmware(hdl={}))
