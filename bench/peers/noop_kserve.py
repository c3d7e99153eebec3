"""KServe's SDK as its documentation sets it up, with a model that answers zeros; runs in an environment of its own."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

# The SDK reads its arguments when it is imported.
sys.argv[1:] = ["--http_port", sys.argv[1], "--grpc_port", sys.argv[2]]
kserve = importlib.import_module("kserve")


class Noop(kserve.Model):
    """16 floats in, 5 zeros out."""

    def __init__(self) -> None:
        super().__init__("m")
        self.ready = True

    def predict(self, payload: Any, *_headers: Any, **_more: Any) -> Any:
        """Zeros for each sample, in the form that was asked for."""
        if isinstance(payload, dict):
            return {"predictions": np.zeros((len(payload["instances"]), 5), np.float32).tolist()}
        x = payload.inputs[0].as_numpy()
        wanted = payload.parameters or {}
        output = kserve.InferOutput("y", [len(x), 5], "FP32")
        output.set_data_from_numpy(np.zeros((len(x), 5), np.float32), binary_data="binary_data_output" in wanted)
        return kserve.InferResponse(payload.id or "made", "m", [output])


if __name__ == "__main__":
    kserve.ModelServer(enable_grpc=True).start([Noop()])
