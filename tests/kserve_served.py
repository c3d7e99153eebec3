"""KServe's model server with the adapter, as a process: run by the interpreter of ``kserve_environment``."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path


def main(http_port: str, grpc_port: str) -> None:
    """Serve two models on devices that compute in numpy."""
    sys.path.insert(0, str(Path(__file__).parent))
    # The SDK reads its arguments when it is imported.
    sys.argv[1:] = ["--http_port", http_port, "--grpc_port", grpc_port]
    kserve = import_module("kserve")
    firmwares = import_module("firmwares")
    adapter = import_module("gatesmith.serve.kserve_adapter")
    iris = adapter.FpgaModel("iris:v1", firmwares.tiny_firmware(), firmwares.ArithmeticDevice())
    two = adapter.FpgaModel("two", firmwares.two_port_firmware(), firmwares.ArithmeticDevice("arithmetic:1"))
    for model in (iris, two):
        model.load()
    kserve.ModelServer(enable_grpc=True).start([iris, two])


if __name__ == "__main__":
    main(*sys.argv[1:3])
