"""MLServer's model that answers zeros; MLServer imports it from the folder that ``environments`` writes."""

from __future__ import annotations

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Noop(MLModel):
    """16 floats in, 5 zeros out."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Zeros for each sample."""
        rows = payload.inputs[0].shape[0]
        output = ResponseOutput(name="y", shape=[rows, 5], datatype="FP32", data=[0.0] * (rows * 5))
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=[output])
