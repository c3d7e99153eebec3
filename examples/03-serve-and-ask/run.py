"""Build, serve, ask over both protocols, stop."""

import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

REFERENCE = "example-served:v1"
MAKE_MODEL = Path(__file__).parent.parent / "02-onnx-file" / "make_model.py"
GATESMITH = (sys.executable, "-m", "gatesmith")


def ask(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=60) as answer:
        return json.load(answer)


def wait_until_ready(url):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            return ask(url)
        except urllib.error.HTTPError as error:  # 503 until the board is programmed
            if error.code != 503:
                raise
            time.sleep(0.05)
    raise TimeoutError(url)


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    subprocess.run([sys.executable, MAKE_MODEL, folder], check=True)
    files = [folder / "iris.onnx", "--calibration", folder / "samples.npy"]
    subprocess.run([*GATESMITH, "build", *files, "--board", "icebreaker", "--tag", REFERENCE], check=True)
    samples, wanted = np.load(folder / "test.npy"), np.load(folder / "wanted.npy")

serve = [*GATESMITH, "serve", REFERENCE, "--board", "icebreaker", "--http-port", "0", "--json"]
server = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
try:
    base = json.loads(server.stdout.readline())["url"]  # port 0 is any free one; the first line says which
    model = f"{base}/v2/models/example-served"
    wait_until_ready(f"{model}/ready")

    tensor = {"name": "measurements", "datatype": "FP32", "shape": list(samples.shape), "data": samples.tolist()}
    output = ask(f"{model}/infer", {"inputs": [tensor]})["outputs"][0]
    answers = np.array(output["data"]).reshape(output["shape"])

    predictions = ask(f"{base}/v1/models/example-served:predict", {"instances": samples.tolist()})["predictions"]
finally:
    server.terminate()
    status = server.wait(timeout=60)

agreement = np.mean(answers.argmax(axis=1) == wanted.argmax(axis=1))
print(f"{len(answers)} samples over OIP and V1: agreement with the float model {agreement:.3f}")
print(f"the server ended with {status}")
assert np.array_equal(answers, np.array(predictions))
assert agreement >= 0.95
assert status == 0
