"""Our server with a device that answers at once; with a third argument, from a thread of its own, as a board does."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from firmwares import ArithmeticDevice, port, tiny_firmware

from gatesmith.contract import Contract
from gatesmith.serve.server import serve_models
from gatesmith.serve.settings import Settings

INPUTS, OUTPUTS = 16, 5
CONTRACT = Contract(inputs=(port("x", INPUTS),), outputs=(port("y", OUTPUTS),))


class Instant(ArithmeticDevice):
    """All the way through the server, and nothing behind it."""

    waits = len(sys.argv) > 3

    def infer(self, payload: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.zeros((len(payload), CONTRACT.output_bytes), np.uint8)


if __name__ == "__main__":
    firmware = tiny_firmware(contract=CONTRACT, vectors=(b"", b""))
    serve_models({"m": (firmware, Instant())}, Settings(http_port=int(sys.argv[1]), grpc_port=int(sys.argv[2])))
