"""The server over the link's real driver, with the loopback double behind it."""

from __future__ import annotations

import httpx
import numpy as np
from firmwares import expected_payload, tiny_firmware
from serving import served

from gatesmith.devices.loopback import LoopbackDevice

IRIS = tiny_firmware()


def test_a_request_reaches_the_link_and_comes_back() -> None:
    contract = IRIS.contract
    device = LoopbackDevice("loopback:0", function=lambda payload: expected_payload(contract, payload))
    x = np.random.default_rng(0).integers(-20, 20, (700, 4)).astype(np.float32)
    with served({"iris:v1": (IRIS, device)}) as server:
        answer = httpx.post(f"{server.url}/v1/models/iris:predict", json={"instances": x.tolist()}, timeout=60)
    want = contract.decode(expected_payload(contract, contract.encode({"x": x})))["y"]
    assert answer.json() == {"predictions": want.tolist()}


def test_a_sample_that_the_double_does_not_know_is_the_clients_error() -> None:
    with served({"iris": (IRIS, LoopbackDevice("loopback:0"))}) as server:
        answer = httpx.post(f"{server.url}/v1/models/iris:predict", json={"instances": [[1, 2, 3, 4]]})
    assert answer.status_code == 400
    assert "is not one of them; use an emulated board" in answer.json()["error"]
