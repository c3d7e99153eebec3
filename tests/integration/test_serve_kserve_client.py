"""KServe's own REST client, from an environment that the benchmarks keep (its pins and ours exclude each other)."""

from __future__ import annotations

import json
import subprocess
import textwrap
from pathlib import Path

import numpy as np
import pytest
from firmwares import ArithmeticDevice, expected_payload, tiny_firmware
from serving import served

from gatesmith.tools import cache_path

# What a process finds is outside a test's own home, so this is asked once, when the tests are collected.
PYTHON = cache_path("bench") / "kserve" / "bin" / "python"
SCRIPT = """
    import asyncio, json, sys
    import numpy as np
    url, sys.argv = sys.argv[1], sys.argv[:1]
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    async def main():
        v2 = InferenceRESTClient(RESTConfig(protocol="v2", verbose=False))
        v1 = InferenceRESTClient(RESTConfig(protocol="v1", verbose=False))
        x = np.array([[1, 2.5, -3, 4]], np.float32)
        found = {"live": await v2.is_server_live(url), "ready": await v2.is_server_ready(url)}
        found["model"] = await v2.is_model_ready(url, "iris")
        for binary in (False, True):
            tensor = InferInput("x", list(x.shape), "FP32")
            tensor.set_data_from_numpy(x, binary_data=binary)
            parameters = {"binary_data_output": True} if binary else None
            request = InferRequest(model_name="iris", infer_inputs=[tensor], parameters=parameters)
            answer = await v2.infer(url, model_name="iris", data=request)
            found["binary" if binary else "json"] = answer.outputs[0].as_numpy().tolist()
        found["v1"] = (await v1.infer(url, model_name="iris", data={"instances": x.tolist()}))["predictions"]
        found["v1_model"] = await v1.is_model_ready(url, "iris")
        await v1.close(), await v2.close()
        print("found", json.dumps(found))

    asyncio.run(main())
"""


@pytest.mark.skipif(not Path(PYTHON).exists(), reason="bench/serve_peers.py installs kserve; it has not run here")
def test_every_call_of_the_client() -> None:
    firmware = tiny_firmware()
    contract = firmware.contract
    x = np.array([[1, 2.5, -3, 4]], np.float32)
    want = contract.decode(expected_payload(contract, contract.encode({"x": x})))["y"].tolist()
    with served({"iris": (firmware, ArithmeticDevice())}) as server:
        command = [str(PYTHON), "-c", textwrap.dedent(SCRIPT), server.url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    line = next((line for line in done.stdout.splitlines() if line.startswith("found ")), "")
    assert line, done.stdout[-2000:] + done.stderr[-2000:]
    found = json.loads(line.removeprefix("found "))
    assert found == {
        "live": True, "ready": True, "model": True, "json": want, "binary": want, "v1": want, "v1_model": True,
    }  # fmt: skip
