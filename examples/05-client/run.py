"""Build, serve, ask through the client over both of its ways, stop."""

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from gatesmith import Client
from gatesmith.errors import ModelNotFound, TensorMismatch

REFERENCE = "example-client:v1"
MODEL = "example-client"
MAKE_MODEL = Path(__file__).parent.parent / "02-onnx-file" / "make_model.py"
GATESMITH = (sys.executable, "-m", "gatesmith")


def ask(url, samples):
    """Everything that an application does with a model."""
    with Client(url, timeout_s=60) as client:
        client.wait_ready(60, MODEL)
        tensor = client.metadata(MODEL)["inputs"][0]
        answers = client.infer(MODEL, samples)
        name = next(iter(answers))
        again = client.infer(MODEL, {tensor["name"]: samples}, version="v1", outputs=[name])
        assert np.array_equal(answers[name], again[name])

        with ThreadPoolExecutor(8) as pool:
            rows = list(pool.map(lambda row: client.infer(MODEL, row[None])[name][0], samples))
        assert np.array_equal(answers[name], np.stack(rows))

        for wrong, error in ((samples[:, 1:], TensorMismatch), (samples * np.nan, TensorMismatch)):
            try:
                client.infer(MODEL, wrong)
            except error as caught:
                print(f"refused: {caught}")
            else:
                raise AssertionError("this should not have been answered")
        try:
            client.infer("somebody-elses", samples)
        except ModelNotFound as caught:
            print(f"refused: {caught}")
        print(f"{url}: {client.statistics(MODEL)[0]['inference_count']} samples so far")
        return answers[name]


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    subprocess.run([sys.executable, MAKE_MODEL, folder], check=True)
    files = [folder / "iris.onnx", "--calibration", folder / "samples.npy"]
    subprocess.run([*GATESMITH, "build", *files, "--board", "icebreaker", "--tag", REFERENCE], check=True)
    samples, wanted = np.load(folder / "test.npy"), np.load(folder / "wanted.npy")

serve = [*GATESMITH, "serve", REFERENCE, "--board", "icebreaker", "--http-port", "0", "--grpc-port", "0", "--json"]
server = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
try:
    where = json.loads(server.stdout.readline())  # port 0 is any free one; the first line says which
    ways = [where["url"], where["grpc"]] if find_spec("grpc") else [where["url"]]
    answers = [ask(url, samples) for url in ways]
finally:
    server.terminate()
    status = server.wait(timeout=60)

agreement = np.mean(answers[0].argmax(axis=1) == wanted.argmax(axis=1))
print(f"{len(samples)} samples over {len(ways)} ways: agreement with the float model {agreement:.3f}")
assert all(np.array_equal(one, answers[0]) for one in answers)
assert agreement >= 0.95
assert status == 0
