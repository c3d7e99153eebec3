"""A small firmware made by hand, and a device that computes it in numpy: for tests that need no build."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatesmith.contract import Contract, HostOperation, HostOperationKind, Port
from gatesmith.devices.device import Counters, Device, DeviceInfo
from gatesmith.firmware import Firmware, Link, Report, Utilization
from gatesmith.fixed import FixedPoint
from gatesmith.tensor import Datatype, TensorSpec

__all__ = ["ArithmeticDevice", "expected_payload", "port", "tiny_firmware", "two_port_firmware"]

SIXTEENTHS = FixedPoint(True, 7, 4)


def port(name: str, *sizes: int, datatype: Datatype = Datatype.FP32, format: FixedPoint = SIXTEENTHS) -> Port:
    return Port(spec=TensorSpec(name=name, datatype=datatype, shape=(-1, *sizes)), format=format)


def tiny_firmware(*, board: str = "icebreaker", seed: int = 0, **changes: Any) -> Firmware:
    """Four numbers in, three numbers out; the bitstream is noise that depends on the seed."""
    random = np.random.default_rng([seed, *board.encode()])
    scaled = replace(
        port("x", 4),
        host=(HostOperation(kind=HostOperationKind.SCALE, scale=(1.0, 2.0, 1.0, 0.5), offset=(0.0, 0.0, 1.0, 0.0)),),
    )
    fields: dict[str, Any] = {
        "name": "iris",
        "board": board,
        "part": "iCE40UP5K-SG48",
        "family": "ice40",
        "bitstream": random.bytes(5000),
        "hdl": {"top.v": b"module top;\nendmodule\n" * 50, "table.mem": b"00\n"},
        "contract": Contract(inputs=(scaled,), outputs=(port("y", 3),)),
        "link": Link(divisor=12, clock_hz=12_000_000),
        "latency_cycles": 9,
        "initiation_interval_cycles": 1,
        "build_id": random.bytes(16).hex(),
        "engine": "unrolled",
        "model_digest": "sha256:" + "ab" * 32,
        "report": Report(utilization={"ICESTORM_LC": Utilization(used=700, available=5280)}, fmax_hz=31.5e6),
        "toolchain": {"yosys": "0.57", "nextpnr-ice40": "0.9"},
        "quantization": {"agreement": 1.0, "max_abs_error": 0.03125},
        "verified": ("reference",),
        "reports": {"placed.svg": b"<svg/>"},
    }
    fields |= changes
    if "vectors" not in fields:
        contract: Contract = fields["contract"]
        inputs = random.integers(0, 256, (8, contract.input_bytes), np.uint8)
        fields["vectors"] = (inputs.tobytes(), expected_payload(contract, inputs).tobytes())
    return Firmware(**fields)


def two_port_firmware() -> Firmware:
    """Two inputs of different kinds and two outputs."""
    whole = FixedPoint(True, 7, 0)
    contract = Contract(
        inputs=(port("a", 2, 2), port("b", datatype=Datatype.INT8, format=whole)),
        outputs=(port("sum", 1), port("count", 1, datatype=Datatype.INT32, format=whole)),
    )
    return tiny_firmware(contract=contract, name="two")


class ArithmeticDevice(Device):
    """Every output element is the sum of a sample's input integers plus its own place, in the output's format.

    ``hold`` lets a test keep the device busy: a call waits until the event is set. ``calls`` holds the batches; the
    firmware's own test vectors do not count.
    """

    def __init__(self, address: str = "arithmetic:0") -> None:
        self.id, self.kind = address, "arithmetic"
        self.firmware: Firmware | None = None
        self.calls: list[int] = []
        self.threads: set[int] = set()
        self.hold = threading.Event()
        self.hold.set()
        self.entered = threading.Event()
        self.failure: Exception | None = None
        self.closed = False

    @classmethod
    def discover(cls) -> list[DeviceInfo]:
        return []

    def program(self, firmware: Firmware) -> None:
        self.threads.add(threading.get_ident())
        if self.failure:
            raise self.failure
        self.firmware = firmware

    def infer(self, payload: NDArray[np.uint8]) -> NDArray[np.uint8]:
        assert self.firmware is not None
        self.threads.add(threading.get_ident())
        if self.firmware.vectors[0].startswith(payload.tobytes()) and not self.failure:
            return expected_payload(self.firmware.contract, payload)  # a check after programming
        self.calls.append(len(payload))
        self.entered.set()
        assert self.hold.wait(30)
        if self.failure:
            raise self.failure
        return expected_payload(self.firmware.contract, payload)

    def counters(self) -> Counters:
        return Counters(latency_cycles=9, samples=sum(self.calls), frame_errors=0)

    def reset(self) -> None:
        self.calls.clear()

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed = True


def expected_payload(contract: Contract, payload: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the arithmetic device answers, in wire bytes."""
    from gatesmith.contract import pack, unpack

    parts = unpack(payload, [(p.elements, p.format) for p in contract.inputs])
    total = np.concatenate(parts, axis=1).sum(axis=1, keepdims=True)
    outputs = []
    for output in contract.outputs:
        values = total + np.arange(output.elements)
        outputs.append((np.clip(values, output.format.min_integer, output.format.max_integer), output.format))
    return pack(outputs)
