"""What requests with binary tensors say of them, remembered by the bytes that said it.

Clients send the same JSON before the data of one request after the other. It is parsed and checked once; what is left
to do for the next request is to cut its data into tensors.
"""

# Ref: Triton binary tensor data extension: Inference-Header-Content-Length is the JSON's part of the body
# Measured: docs/decisions/0009-rest-from-the-socket.md

from __future__ import annotations

from typing import Any, NamedTuple

from gatesmith.serve.bodies import HEADER_LENGTH
from gatesmith.serve.rest_http import Request
from gatesmith.serve.rest_request import InferRequest
from gatesmith.serve.tensors import InputTensor

__all__ = ["Forms"]

_REMEMBERED, _SHORT_BYTES = 256, 1024


class _Form(NamedTuple):
    """A request without its data: for each input name, datatype, shape, and where its bytes begin and end."""

    asked: InferRequest
    inputs: list[tuple[str, str, Any, int, int]]
    binary_bytes: int


class Forms:
    """Requests as they were read before."""

    def __init__(self) -> None:
        self._forms: dict[bytes, _Form] = {}

    def find(self, request: Request) -> InferRequest | None:
        """The request, if an earlier one said the same; nothing when it has to be read."""
        size = _head_bytes(request)
        form = self._forms.get(request.body[:size]) if size else None
        if form is None or len(request.body) - size != form.binary_bytes:
            return None
        _, _, wanted, as_binary, priority, timeout_us = form.asked
        binary = memoryview(request.body)[size:]
        inputs = [InputTensor(name, kind, shape, binary[start:stop]) for name, kind, shape, start, stop in form.inputs]
        return InferRequest(None, inputs, wanted, as_binary, priority, timeout_us)

    def keep(self, request: Request, asked: InferRequest) -> None:
        """Remember a request that was read, unless a part of it is its own or comes from elsewhere."""
        size, stop = _head_bytes(request), 0
        if not size or asked.id is not None:
            return
        inputs = []
        for name, kind, shape, data in asked.inputs:
            if not isinstance(data, memoryview):
                return
            start, stop = stop, stop + len(data)
            inputs.append((name, kind, shape, start, stop))
        if stop != len(request.body) - size:
            return
        if len(self._forms) >= _REMEMBERED:
            self._forms.clear()
        self._forms[request.body[:size]] = _Form(asked._replace(inputs=[]), inputs, stop)


def _head_bytes(request: Request) -> int:
    """Bytes of the JSON in front of binary data, where it is worth a look."""
    length = request.headers.get(HEADER_LENGTH)
    if length is None or len(length) > 4 or not length.isdigit() or b"content-encoding" in request.headers:
        return 0
    size = int(length)
    return size if size <= _SHORT_BYTES else 0
