"""Samples per second of the iris model on an emulated iCEBreaker: the device alone, and behind the REST server.

The emulated board runs the firmware's whole top at its pins, at four clock cycles a bit.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from built import rtl_firmware
from models import integer_graph, trained

from gatesmith.devices import open_device
from gatesmith.serve.server import Server
from gatesmith.serve.settings import Settings

BATCH, REQUESTS, ROUNDS = 256, 20, 5


def median_rate(work: Any) -> float:
    """Samples per second, the median of the rounds."""
    rates = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(REQUESTS):
            work()
        rates.append(BATCH * REQUESTS / (time.perf_counter() - start))
    return round(statistics.median(rates))


def main() -> None:
    """Measure."""
    firmware = rtl_firmware(integer_graph("iris"), "icebreaker")
    x = np.resize(trained("iris").x, (BATCH, 4))
    with open_device("emulator:warm") as device:
        device.program(firmware)
    start = time.perf_counter()
    device = open_device("emulator:bench")
    device.program(firmware)
    load_s = time.perf_counter() - start
    payload = firmware.contract.encode({"input": x})
    alone = median_rate(lambda: device.infer(payload))
    device.close()
    server = Server({"iris": (firmware, open_device("emulator:served"))}, Settings(http_port=0))
    thread = threading.Thread(target=server.run)
    thread.start()
    server.started.wait(60)
    tensor = {"name": "input", "datatype": "FP32", "shape": [BATCH, 4], "data": x.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    url = f"{server.url}/v2/models/iris/infer"

    def ask() -> None:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=60) as answer:
            answer.read()

    while True:
        try:
            ask()
            break
        except urllib.error.HTTPError:
            pass
    served = median_rate(ask)
    server.stop()
    thread.join()
    cycles = max(firmware.contract.input_bytes, firmware.contract.output_bytes) * 10 * firmware.link.divisor
    print(
        json.dumps(
            {
                "batch": BATCH,
                "samples_per_second_device": alone,
                "samples_per_second_rest": served,
                "seconds_to_load_seen_firmware": round(load_s, 4),
                "cycles_per_sample_on_the_wire": cycles,
            }
        )
    )


if __name__ == "__main__":
    main()
