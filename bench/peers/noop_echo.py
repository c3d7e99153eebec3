"""The floor: uvicorn, uvloop, httptools, orjson and the fewest lines that answer; nothing is checked."""

from __future__ import annotations

import sys
from typing import Any

import orjson
import uvicorn

JSON = (b"content-type", b"application/json")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, parse it, write an answer of the protocol's form."""
    if scope["type"] != "http":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    size = next((int(v) for k, v in scope["headers"] if k == b"inference-header-content-length"), len(body))
    request = orjson.loads(body[:size] or b"{}")
    tensor = {"name": "y", "datatype": "FP32", "shape": [1, 5], "data": [0.0] * 5}
    answer = orjson.dumps({"model_name": "m", "id": request.get("id"), "outputs": [tensor]})
    headers = [JSON, (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    options: dict[str, Any] = {"loop": "uvloop", "http": "httptools", "ws": "none", "access_log": False}
    uvicorn.run(app, port=int(sys.argv[1]), log_level="error", **options)
