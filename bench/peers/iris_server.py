"""The iris firmware behind our server, on emulated boards or on nothing; prints its URL: ``iris_server.py KIND``.

``noop`` answers at once, through a device thread as a board does; ``emulated`` is an emulated board.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from built import rtl_firmware
from firmwares import ArithmeticDevice
from models import integer_graph

from gatesmith.devices import open_device
from gatesmith.serve.server import Server
from gatesmith.serve.settings import Settings


class Instant(ArithmeticDevice):
    """Answers at once, and nothing in particular."""

    def infer(self, payload: NDArray[np.uint8]) -> NDArray[np.uint8]:
        assert self.firmware is not None
        return np.zeros((len(payload), self.firmware.contract.output_bytes), np.uint8)


def main(kind: str) -> None:
    """Serve until a signal."""
    device = Instant() if kind == "noop" else open_device("emulator:0")
    firmware = rtl_firmware(integer_graph("iris"), "icebreaker")
    server = Server({"iris": (firmware, device)}, Settings(http_port=0, grpc_port=-1))
    print(server.url, flush=True)
    server.run()


if __name__ == "__main__":
    main(sys.argv[1])
